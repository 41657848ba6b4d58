"""What every process of the product imports, so that the tests' fork server imports it once.

A test still gets a process of its own for every command: with its own pid, signals, environment and exit code. Only the
seconds that importing torch takes are shared.
"""

import sentence_transformers  # noqa: F401  (the slow one)

import consumer.cli.app
import consumer.embedding.loading
import consumer.operations.run  # noqa: F401
