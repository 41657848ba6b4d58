"""Row -> rendered text -> chunks -> hashes. Pure: no clock, no network, no model; the tokenizer is an argument."""

from consumer.content.chunks import Chunk, check_chunking, chunk, chunk_batch
from consumer.content.hashes import chunk_hash, content_hash, fields_hash, table_hash
from consumer.content.spec import ChunkSpec, ContentSpec
from consumer.content.table import Rendered, TableContent
from consumer.content.tokens import Encoding, Tokenizer

__all__ = [
    "Chunk",
    "ChunkSpec",
    "ContentSpec",
    "Encoding",
    "Rendered",
    "TableContent",
    "Tokenizer",
    "check_chunking",
    "chunk",
    "chunk_batch",
    "chunk_hash",
    "content_hash",
    "fields_hash",
    "table_hash",
]
