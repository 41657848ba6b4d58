"""The columns of a row that are used, each with what makes its value canonical. Compiled once per schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from consumer.errors import Reject
from consumer.events.declared import Declared
from consumer.events.layout import Layout, layout_of_shapes
from consumer.events.shapes import Convert, Shape, converter, placeholders
from consumer.events.toast import UNCHANGED, untyped

# What a converter raises on a value that its type cannot have.
_UNFIT = (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError)


class Column(NamedTuple):
    """A column that needs a look: `convert` takes a non-null value, `forms` are the placeholders after it."""

    name: str
    convert: Convert | None
    forms: tuple[Any, ...]


class RowType(NamedTuple):
    """What a schema says of its rows."""

    columns: tuple[Column, ...]
    layout: Layout


def row_type(
    shapes: Sequence[Shape], wanted: tuple[str, ...] | None, types: Mapping[str, Declared], *, converted: bool = False
) -> RowType:
    """`typed` for a whole row."""
    return RowType(typed(shapes, wanted, types, converted=converted), layout_of_shapes(shapes))


def typed(
    shapes: Iterable[Shape], wanted: tuple[str, ...] | None, types: Mapping[str, Declared], *, converted: bool = False
) -> tuple[Column, ...]:
    """The columns of a schema; a declared type counts where the schema names none. Raises ValueError for a bad one.

    `converted`: the reader has done what the schema's own types ask for.
    """
    found = []
    for shape in shapes:
        if wanted is not None and shape.field not in wanted:
            continue
        declared = types.get(shape.field)
        convert, forms = converter(shape), placeholders(shape)
        if declared is not None and convert is None and _says_nothing(shape):
            convert, forms = declared.convert, declared.placeholders
        elif converted:
            convert = None
        if convert is not None or forms:
            found.append(Column(shape.field, convert, forms))
    return tuple(found)


def schemaless(wanted: Iterable[str], types: Mapping[str, Declared]) -> tuple[Column, ...]:
    """The columns of a row that came without any schema."""
    columns = []
    for name in wanted:
        declared = types.get(name)
        columns.append(Column(name, declared.convert, declared.placeholders) if declared else Column(name, untyped, ()))
    return tuple(columns)


def canonical(row: dict[str, Any], columns: tuple[Column, ...], *, keep: bool = False) -> dict[str, Any]:
    """`row` itself with canonical values; placeholders become UNCHANGED, unless `keep` (a key has none).

    Raises Reject for a value that its type cannot have, naming the column.
    """
    name = ""
    try:
        for name, convert, forms in columns:
            value = row.get(name)
            if value is None:
                continue
            if convert is not None:
                row[name] = value = convert(value)
            if forms and value in forms and not keep:
                row[name] = UNCHANGED
    except _UNFIT:
        what = (
            f"Column {name} has a value that does not fit its type. Check converters and transforms of the connector."
        )
        raise Reject(what, stage="decode", error_type="value_unfit") from None
    return row


def _says_nothing(shape: Shape) -> bool:
    return shape.name is None and (shape.items is None or shape.items.name is None) and not shape.fields
