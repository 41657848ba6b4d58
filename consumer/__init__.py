"""Keeps pgvector embeddings as fresh and as trustworthy as the rows they come from."""

from importlib.metadata import version

__version__ = version("embed-consumer")
