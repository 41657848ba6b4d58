"""One table's content, built once from its settings: text, filter, metadata and the hashes that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consumer.content.chunks import check_overlap
from consumer.content.hashes import content_hash, fields_hash, table_hash
from consumer.content.sandbox import Sandbox
from consumer.content.spec import ContentSpec
from consumer.content.template import Condition, TextTemplate, missing_columns
from consumer.errors import Reject


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as content: the text to chunk ('' for a row that `when` excludes), its metadata and the text's hash."""

    text: str
    metadata: dict[str, object]
    content_hash: bytes


class TableContent:
    """How the rows of one table become content. Immutable and cheap to ask; raises Stop when settings cannot work."""

    def __init__(self, spec: ContentSpec) -> None:
        check_overlap(spec.table, spec.chunk)
        sandbox = Sandbox()
        self.spec = spec
        self._text = TextTemplate(sandbox, spec.text, table=spec.table, setting="text")
        self._when = None if spec.when is None else Condition(sandbox, spec.when, table=spec.table, setting="when")
        used = self._text.columns | set(spec.metadata) | (self._when.columns if self._when else frozenset())
        self.columns: tuple[str, ...] = tuple(sorted(used))
        """Every column that text, filter and metadata can read, sorted. `fields_hash` covers them in this order."""
        self.table_hash: bytes = table_hash(spec)
        """32 bytes over text, when, metadata and chunk settings."""

    def fields_hash(self, row: Mapping[str, object]) -> bytes:
        """Hash of the used columns of a merged row: equal means that nothing the content depends on has changed."""
        return fields_hash(self.columns, row)

    def render(self, row: Mapping[str, object]) -> Rendered:
        """The content of a merged row.

        Raises Reject at stage `render`: missing_column, template_error, not_boolean, too_long, nul_character or
        invalid_unicode. No message carries a value of the row.
        """
        included = self._when is None or self._when.holds(row)
        text = self._text.render(row) if included else ""
        try:
            return Rendered(text, self._metadata(row), content_hash(text))
        except UnicodeEncodeError:
            what = f"The text of a row of table {self.spec.table} is not valid Unicode."
            raise Reject(what, stage="render", error_type="invalid_unicode") from None

    def _metadata(self, row: Mapping[str, object]) -> dict[str, object]:
        missing = [column for column in self.spec.metadata if column not in row]
        if missing:
            raise missing_columns(missing, self.spec.table, "metadata")
        chosen = {column: row[column] for column in self.spec.metadata}
        for column, value in chosen.items():
            if _has_nul(value):
                what = f"Metadata column {column} of table {self.spec.table} holds a NUL character."
                raise Reject(what, stage="render", error_type="nul_character")
        return chosen


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, (list, tuple)) and any(map(_has_nul, value))
