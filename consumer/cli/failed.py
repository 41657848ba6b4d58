"""`failed list|retry|discard`: documents that could not be applied. Forgetting needs `--execute`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from consumer.cli.options import (
    ConfigOption,
    ExecuteOption,
    GroupOption,
    JsonOption,
    SourceOption,
    countable,
    known_source,
    load,
)
from consumer.cli.output import print_json, remark, stdout
from consumer.errors import Exit, Stop

if TYPE_CHECKING:
    from consumer.settings import Settings
    from consumer.store import Reason, Selector, Store

failed_app = typer.Typer(help="Documents that could not be applied: look, retry, forget.", no_args_is_help=True)

IdOption = Annotated[int | None, typer.Option("--id", min=0, callback=countable, help="One row of `failed list`.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]


@failed_app.command("list")
def failed_list(
    source: SourceOption = None,
    state: Annotated[Literal["retrying", "dead"] | None, typer.Option(help="Only this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, callback=countable, help="Documents to show.")] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Reasons with their counts, then the documents, oldest first."""
    settings = load(config, group)
    from consumer.cli.views import failed_json, reasons_table, show_failed
    from consumer.operations.wiring import open_store
    from consumer.store import Selector

    chosen = Selector(source=source, state=state)
    with open_store(settings) as store:
        reasons = _reasons(settings, store, chosen)
        rows = store.list_failed(chosen, limit)
    total = sum(reason.documents for reason in reasons)
    if as_json:
        print_json({**_counted(reasons), "documents": [failed_json(row) for row in rows]})
    elif not reasons:
        remark("No failed documents.")
    else:
        stdout().print(reasons_table(reasons), "")
        for row in rows:
            show_failed(row)
        if total > len(rows):
            remark(f"{total - len(rows)} more; --limit shows them.")


@failed_app.command("retry")
def failed_retry(
    failure_id: IdOption = None,
    source: SourceOption = None,
    everything: AllOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Make them due now, dead ones too; a running consumer takes them up within seconds."""
    from consumer.operations.failed import selector
    from consumer.operations.wiring import open_store

    chosen, settings = selector(failure_id, source, everything), load(config, group)
    with open_store(settings) as store:
        reasons = _reasons(settings, store, chosen)
        due = store.retry_failed(chosen)
    if as_json:
        print_json({**_counted(reasons), "executed": True})
    else:
        typer.echo(f"Failed documents that are due now: {due}.")


@failed_app.command("discard")
def failed_discard(
    failure_id: IdOption = None,
    source: SourceOption = None,
    everything: AllOption = False,
    execute: ExecuteOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Forget them: no further attempt; the documents keep what was searchable until their rows change again."""
    from consumer.cli.views import reasons_table
    from consumer.operations.failed import selector
    from consumer.operations.wiring import open_store

    chosen, settings = selector(failure_id, source, everything), load(config, group)
    with open_store(settings) as store:
        reasons = _reasons(settings, store, chosen)
        gone = store.discard_failed(chosen) if execute else 0
    if as_json:
        print_json({**_counted(reasons), "executed": execute})
    elif execute:
        typer.echo(f"Failed documents forgotten: {gone}.")
    elif not reasons:
        remark("No failed documents.")
    else:
        stdout().print(reasons_table(reasons))
        total = sum(reason.documents for reason in reasons)
        remark(f"{total} would be forgotten. Nothing was changed. Add --execute to do it.")


def _reasons(settings: Settings, store: Store, chosen: Selector) -> list[Reason]:
    """What is chosen, grouped. Raises Stop for an id that is not there, and for a source that nobody knows."""
    reasons = store.failed_reasons(chosen)
    if not reasons and chosen.failure_id is not None:
        raise Stop(
            f"There is no failed document with the id {chosen.failure_id}.",
            "It has healed or was forgotten, or the number is wrong.",
            "`embed-consumer failed list` shows those there are.",
            exit_code=Exit.FAILED,
        )
    if not reasons:  # a source that has left the settings may still have some
        known_source(settings, chosen.source)
    return reasons


def _counted(reasons: list[Reason]) -> dict[str, object]:
    return {"reasons": [reason._asdict() for reason in reasons], "total": sum(reason.documents for reason in reasons)}
