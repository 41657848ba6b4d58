"""`embed-consumer replay`: read events again and apply them. Prints its plan; acts with `--execute`."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumer.cli.options import (
    ConfigOption,
    ExecuteOption,
    GroupOption,
    JsonOption,
    PartitionOption,
    TopicOption,
    countable,
    load,
    wrong_usage,
)
from consumer.cli.output import print_json, progress, remark, stderr
from consumer.errors import Exit

if TYPE_CHECKING:
    from consumer.operations.replay import ReplayPlan, Summary
    from consumer.settings import Settings
    from consumer.source import Broker


def replay(
    topic: TopicOption,
    partition: PartitionOption = None,
    from_offset: Annotated[
        int | None, typer.Option(min=0, callback=countable, help="First offset; one partition only.")
    ] = None,
    from_datetime: Annotated[str | None, typer.Option(help="ISO 8601; UTC unless it names a zone.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="From the first event there is.")] = False,
    to_offset: Annotated[
        int | None, typer.Option(min=0, callback=countable, help="Ends before it; at most at the group's position.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write again what already stands at the event.")] = False,
    execute: ExecuteOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Read events again and apply them, beside a running group. Run it again to resume after an interruption."""
    if sum((from_offset is not None, from_datetime is not None, from_beginning)) != 1:
        raise wrong_usage("Give exactly one of --from-offset, --from-datetime, --from-beginning.")
    if from_offset is not None and to_offset is not None and to_offset <= from_offset:
        raise wrong_usage(f"--to-offset {to_offset} is not above --from-offset {from_offset}: that range is empty.")
    from_ms = _milliseconds(from_datetime) if from_datetime is not None else None
    settings = load(config, group)
    from consumer.cli.views import replay_json, show_replay_plan, show_replay_result
    from consumer.operations import replay as job
    from consumer.operations.wiring import open_broker, open_store

    request = job.Request(topic, partition, from_offset, from_ms, to_offset, force)
    broker = open_broker(settings)
    broker.check()
    with open_store(settings) as store:
        plan = job.plan(request, settings, broker, store)
    if not as_json:
        show_replay_plan(plan)
    summary = _run_replay(plan, settings, broker) if execute and (plan.events or plan.resumes) else None
    if as_json:
        print_json(replay_json(plan, summary))
    else:
        show_replay_result(plan, summary)
    if summary and not summary.finished:
        raise typer.Exit(Exit.INTERRUPTED)


def _run_replay(plan: ReplayPlan, settings: Settings, broker: Broker) -> Summary:
    """With a progress bar, until it is done or the first signal."""
    from consumer.observe import configure_logging
    from consumer.operations import replay as job

    stopping = _stopped_by_signals()
    with progress("replay", plan.events) as advanced:
        if stderr().is_terminal:  # warnings above the bar, and no line for every transaction
            configure_logging("warning", settings.log.format, fields={"group": plan.name})
        return job.execute(plan, settings, broker, stopping, advanced)


def _stopped_by_signals() -> Event:
    """Set by the first signal, so that the transaction under way is finished; a second one ends at once."""
    stopping = Event()

    def stop(number: int, _: Any) -> None:
        stopping.set()
        signal.signal(number, signal.SIG_DFL)
        remark("Stopping after this transaction.")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping


def _milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise wrong_usage(f"{text!r} is no date and time; write 2026-01-31T12:00:00Z.") from None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return max(int(seconds * 1000), 0)  # to Kafka -1 and -2 are no times but the end and the beginning
