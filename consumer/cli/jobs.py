"""`offsets show|reset`, `rekey` and `search`.

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
    known_source,
    load,
)
from consumer.cli.output import print_json, remark, stdout
from consumer.errors import Stop

_REKEYED = (
    "They are removed. Take a snapshot of the table now (docs/snapshots.md): until it is read, search finds only rows "
    "that change."
)

offsets_app = typer.Typer(help="Show where the group stands, or move it.", no_args_is_help=True)


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


def rekey(
    source: Annotated[str, typer.Option("--source", help="The source whose table has another primary key now.")],
    execute: ExecuteOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Accept a table's new primary key, under which its events fail: its documents are removed, a snapshot follows."""
    settings = load(config, group)
    known_source(settings, source)
    from consumer.store import key_change
    from consumer.store import rekey as accept

    where = settings.store.dsn.get_secret_value(), settings.store.schema_name
    change = key_change(*where, source)
    gone = accept(*where, source) if execute and change else 0
    if as_json:
        print_json({"change": change._asdict() if change else None, "removed": gone, "executed": execute})
    elif change is None:
        remark(f"No event of {source} came under another key: there is nothing to decide.")
    else:
        print(f"{source}: from ({change.old}) to ({change.new}); documents that end: {change.documents}")
        remark(_REKEYED if execute else "They would be removed. Nothing was changed. Add --execute to do it.")


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
    known_source(settings, source)
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
