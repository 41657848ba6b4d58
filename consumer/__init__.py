"""Keeps pgvector embeddings as fresh and as trustworthy as the rows they come from."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("embed-consumer")
except PackageNotFoundError:  # a checkout that is not installed, as where only the engine is measured
    __version__ = "unknown"
