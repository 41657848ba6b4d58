"""The commands beside the consumer: offsets, failed documents, search.

What could lose something prints its plan and changes nothing without `--execute`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from consumer.cli.options import (
    ConfigOption,
    ExecuteOption,
    GroupOption,
    JsonOption,
    PartitionOption,
    SourceOption,
    TopicOption,
    load,
    wrong_usage,
)
from consumer.cli.output import print_json, remark, stdout
from consumer.errors import Stop

LISTED = 100_000  # more failed documents than anyone reads

offsets_app = typer.Typer(help="Show where the group stands, or move it.", no_args_is_help=True)
failed_app = typer.Typer(help="Documents that could not be applied: look, retry, forget.", no_args_is_help=True)


@offsets_app.command("show")
def offsets_show(as_json: JsonOption = False, config: ConfigOption = None, group: GroupOption = None) -> None:
    """Every partition: applied (stored), shown by the broker (committed), its end, and the lag between."""
    settings = load(config, group)
    from consumer.cli.views import position_json, positions_table
    from consumer.operations.offsets import show
    from consumer.operations.wiring import open_broker, open_store

    with open_store(settings) as store:
        found = show(settings, open_broker(settings), store)
    if as_json:
        print_json([{"group": settings.group, **position_json(at)} for at in found])
    else:
        stdout().print(positions_table(found))


@offsets_app.command("reset")
def offsets_reset(
    topic: TopicOption,
    to: Annotated[str, typer.Option(help="beginning, end, or an offset.")],
    partition: PartitionOption = None,
    execute: ExecuteOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Move the group, also onto a topic that was made anew. Refused while the group has live members."""
    settings = load(config, group)
    from consumer.cli.views import move_json, moves_table
    from consumer.operations import offsets as job
    from consumer.operations.wiring import open_broker, open_store

    broker = open_broker(settings)
    with open_store(settings) as store:
        moves = job.plan_reset(settings, broker, store, topic, partition, to)
        if not as_json:
            stdout().print(moves_table(moves))
        if execute:
            job.reset(settings, broker, store, moves)
    if as_json:
        print_json({"moves": [move_json(move) for move in moves], "executed": execute})
    else:
        remark("Done." if execute else "Nothing was changed. Add --execute to do it.")


@failed_app.command("list")
def failed_list(
    source: SourceOption = None,
    state: Annotated[str | None, typer.Option(help="retrying or dead.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Reasons with their counts, then the documents, oldest first."""
    if state not in (None, "retrying", "dead"):
        raise wrong_usage(f"There is no state {state}: it is retrying or dead.")
    settings = load(config, group)
    from consumer.cli.views import failed_json, failed_table, reasons_table
    from consumer.operations.failed import reasons
    from consumer.operations.wiring import open_store
    from consumer.store import Selector

    with open_store(settings) as store:
        rows = store.list_failed(Selector(source=source, state=state), LISTED)  # type: ignore[arg-type]
    grouped = reasons(rows)
    if as_json:
        documents = [failed_json(row) for row in rows[:limit]]
        print_json({"reasons": [reason._asdict() for reason in grouped], "documents": documents, "total": len(rows)})
    elif not rows:
        remark("No failed documents.")
    else:
        stdout().print(reasons_table(grouped), "", failed_table(rows[:limit]))
        if len(rows) > limit:
            remark(f"{len(rows) - limit} more; --limit shows them.")


@failed_app.command("retry")
def failed_retry(
    failure_id: Annotated[int | None, typer.Option("--id", help="One row.")] = None,
    source: SourceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Make them due now, dead ones too; a running consumer takes them up within seconds."""
    from consumer.operations.failed import selector
    from consumer.operations.wiring import open_store

    chosen, settings = selector(failure_id, source, everything), load(config, group)
    with open_store(settings) as store:
        typer.echo(f"Failed documents that are due now: {store.retry_failed(chosen)}.")


@failed_app.command("discard")
def failed_discard(
    failure_id: Annotated[int | None, typer.Option("--id", help="One row.")] = None,
    source: SourceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    execute: ExecuteOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Forget them: no further attempt; the documents keep what was searchable until their rows change again."""
    from consumer.cli.views import reasons_table
    from consumer.operations.failed import reasons, selector
    from consumer.operations.wiring import open_store

    chosen, settings = selector(failure_id, source, everything), load(config, group)
    with open_store(settings) as store:
        if execute:
            typer.echo(f"Failed documents forgotten: {store.discard_failed(chosen)}.")
            return
        rows = store.list_failed(chosen, LISTED)
    stdout().print(reasons_table(reasons(rows)))
    remark(f"{len(rows)} would be forgotten. Nothing was changed. Add --execute to do it.")


def search_command(
    question: Annotated[str, typer.Argument(help="What you look for, in your own words.")],
    top_k: Annotated[int, typer.Option(min=1, max=1000, help="How many hits.")] = 5,
    source: SourceOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """The nearest chunks and where each came from."""
    settings = load(config, group)
    from consumer.cli.views import hit_json, show_hit
    from consumer.operations.wiring import load_model, open_store
    from consumer.search import search

    with open_store(settings) as store:
        generation = store.generation()
        if generation is None:
            raise Stop("There are no vectors yet.", "The schema is not migrated.", "Run `embed-consumer migrate`.")
        hits = search(load_model(settings), store, generation, question, k=top_k, source=source)
    if as_json:
        print_json([hit_json(rank, hit, generation) for rank, hit in enumerate(hits, 1)])
    elif not hits:
        remark("No results: nothing is stored yet." if source is None else f"No results: {source} has no chunks.")
    for rank, hit in enumerate([] if as_json else hits, 1):
        show_hit(rank, hit, generation)
