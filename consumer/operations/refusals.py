"""What `run` would refuse by the settings alone: nobody is asked, and no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from consumer.content import TableContent
from consumer.embedding import check_name
from consumer.errors import Exit, Stop
from consumer.events import declared_types
from consumer.operations.wiring import content_spec, open_broker
from consumer.settings import Settings, TableSettings


def refusals(settings: Settings) -> Iterator[Stop]:
    """Every fault of the settings, in the order of the file."""
    checks: list[Callable[[], object]] = [
        open_broker(settings).check_properties,
        lambda: check_name(settings.embedding.model, settings.embedding.revision),
        lambda: refuse_no_tables(settings),
        *(_check(table) for table in settings.tables),
    ]
    for check in checks:
        try:
            check()
        except Stop as stop:
            yield stop


def refuse_no_tables(settings: Settings) -> None:
    """Raise Stop if there is nothing to consume."""
    if not settings.tables:
        raise Stop(
            "The settings name no table.",
            "There is nothing to consume.",
            "Add an entry to `tables` with a topic and a text template; `embed-consumer config schema` shows all keys.",
            exit_code=Exit.USAGE,
        )


def _check(table: TableSettings) -> Callable[[], object]:
    return lambda: (TableContent(content_spec(table)), declared_types(table.source, table.columns))
