"""Kafka: is it there, does it have the topics, do they keep what they must, and where does the group stand in them?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from consumer.errors import Exit, Fault, Stop
from consumer.observe import FRESH_HEARTBEAT_SECONDS
from consumer.operations.commits import committed_us
from consumer.operations.doctor.connect import CONNECTOR
from consumer.operations.doctor.finding import NTP, Finding, asked, failed, faulty, passed, skipped, warned
from consumer.operations.doctor.source import in_source
from consumer.operations.offsets import Position, group_offsets, positions
from consumer.operations.wiring import open_broker, open_store, topics
from consumer.planning import HEARTBEAT_TOPIC
from consumer.settings import Settings
from consumer.source import Broker, cluster, last_records, topic_settings
from consumer.steps import now_us

_DAY_MS = 24 * 3600 * 1000


def look(settings: Settings) -> Iterator[Finding]:
    """Everything about Kafka."""
    broker = open_broker(settings)
    try:
        brokers, known = cluster(broker)
    except Fault as fault:
        yield faulty("kafka", fault)
        yield skipped("topics, heartbeats, offsets", "Kafka does not answer.")
        return
    yield passed("kafka", f"{broker.servers} answers; brokers: {brokers}")
    members = 0
    try:
        members = broker.members(settings.group)
        yield passed("group", f"{settings.group} has live members: {members}")
    except Fault as fault:
        yield faulty("group", fault)
    tables = [table.topic for table in settings.tables]
    kept = topic_settings(broker, [topic for topic in tables if topic in known])
    right = in_source(settings) if any(topic not in known for topic in tables) else set()
    for topic in tables:
        if topic in known:
            yield judge_topic(topic, known[topic], kept.get(topic))
        else:
            yield judge_absence(topic, topic in right, known.keys() - set(tables))
    yield from asked("heartbeats", lambda: _heartbeats(settings, broker, known, members))
    yield from asked("offsets", lambda: _offsets(settings, broker, known))


def _heartbeats(settings: Settings, broker: Broker, known: Mapping[str, int], members: int) -> Iterator[Finding]:
    prefixes = sorted({table.prefix for table in settings.tables})
    records = last_records(broker, [name for prefix in prefixes if (name := HEARTBEAT_TOPIC + prefix) in known])
    stored: Mapping[str, int] = {}
    behind: Mapping[str, int] = {}
    try:
        with open_store(settings, answer_within=5.0) as store:
            stored, behind = store.heartbeats(), store.clocks_behind()
    except Fault:
        members = 0  # said elsewhere: what the store has applied is not known
    now = now_us()
    for prefix in prefixes:
        record, behind_us = records.get(HEARTBEAT_TOPIC + prefix), behind.get(prefix, 0)
        beat: Beat | None = None
        if record and (written := committed_us(record, now, behind_us)) is not None:
            arrived_age = now / 1e6 - record.timestamp_ms / 1e3 if record.timestamp_ms >= 0 else None
            beat = Beat((now - written) / 1e6, arrived_age, behind_us / 1e6)
        stored_age = (now - stored[prefix] - behind_us) / 1e6 if prefix in stored else None
        yield judge_heartbeat(prefix, HEARTBEAT_TOPIC + prefix in known, beat, stored_age, members)


def _offsets(settings: Settings, broker: Broker, known: Mapping[str, int]) -> Finding:
    try:
        with open_store(settings, answer_within=5.0) as store:
            stored = group_offsets(store, settings.group)
    except Fault as fault:
        if isinstance(fault, Stop) and fault.exit_code is Exit.HALTED:  # of another group, or not migrated
            raise
        return skipped("offsets", f"The store does not tell them: {fault.what}")
    names = [topic for topic in topics(settings) if topic in known]
    return judge_offsets(positions(broker, settings.group, names, stored))


def judge_absence(topic: str, in_source: bool, others: Collection[str]) -> Finding:
    """A topic that Kafka does not have. `others`: the topics that it has and no table of the settings names."""
    check = f"topic {topic}"
    if in_source:
        return warned(
            check,
            "Kafka has no such topic yet: the source has the table, but no row of it has come.",
            "It appears with the table's first row. If it has rows: correct table.include.list in the connector, then "
            "take a snapshot.",
        )
    near = get_close_matches(topic, others, n=1, cutoff=0.8)
    return failed(
        check,
        "Kafka has no such topic: the name is wrong, the connector does not capture the table, or it has had no row.",
        f"{f'Did you mean {near[0]}? ' if near else ''}Correct `topic` in the settings, topic.prefix or "
        "table.include.list in the connector; the topic appears with the table's first row.",
    )


def judge_topic(topic: str, count: int, kept: Mapping[str, str] | None) -> Finding:
    """Whether the settings of a topic with so many partitions keep every delete. `kept` None: they may not be read."""
    check, partitions = f"topic {topic}", f"partitions: {count}"
    if not count:
        what = "No partition of it has a leader: it is being made, or its broker is down."
        return failed(check, what, "Ask again in a moment; if it stays so, look at the brokers.")
    if kept is None:
        return warned(check, f"{partitions}; its settings may not be read.", "Allow DescribeConfigs on the topic.")
    retention, size = int(kept.get("retention.ms", -1)), int(kept.get("retention.bytes", -1))
    alter = (
        f"kafka-configs.sh --bootstrap-server <broker> --alter --entity-type topics --entity-name {topic} --add-config"
    )
    if "compact" in kept.get("cleanup.policy", "delete"):
        hours = int(kept.get("delete.retention.ms", _DAY_MS)) / 3.6e6
        return warned(
            check,
            f"{partitions}; it is compacted: a consumer that is away for {hours:.0f} h can miss deletes.",
            f"{alter} cleanup.policy=delete",
        )
    if 0 <= retention < _DAY_MS:
        return warned(
            check,
            f"{partitions}; records, deletes among them, expire after {retention / 3.6e6:.1f} h, read or not.",
            f"{alter} retention.ms=604800000",
        )
    if size >= 0:
        return warned(
            check,
            f"{partitions}; records, deletes among them, expire when a partition has {size} bytes, read or not.",
            f"{alter} retention.bytes=-1",
        )
    days = "for ever" if retention < 0 else f"{retention / _DAY_MS:.0f} days"
    return passed(check, f"{partitions}; kept {days}")


class Beat(NamedTuple):
    """The newest heartbeat, in seconds: since it was written on the source, and since it was put into Kafka, as far as
    that is told. The consumer has found the source's clock to be `clock_behind`, which the first is without."""

    age: float
    arrived_age: float | None = None
    clock_behind: float = 0.0


def judge_heartbeat(prefix: str, there: bool, beat: Beat | None, stored_age: float | None, members: int) -> Finding:
    """Whether the connector of this `topic.prefix` beats, and the consumer applies it."""
    check = f"heartbeat {prefix}"
    if not there or beat is None:
        missing = "is empty" if there else "is not there"
        return failed(
            check,
            f"The topic {HEARTBEAT_TOPIC}{prefix} {missing}: nothing tells a quiet table from a dead connector.",
            f"Give the connector with topic.prefix {prefix} what connectors/ has on heartbeats (heartbeat.interval.ms, "
            "heartbeat.action.query, message.prefix.include.list, the transform), and see that it runs.",
        )
    if beat.age > FRESH_HEARTBEAT_SECONDS:
        if beat.arrived_age is not None and beat.arrived_age <= FRESH_HEARTBEAT_SECONDS:
            return failed(
                check,
                f"It beats, but {beat.age:.0f} s late by the source's clock: that clock is behind, or the connector.",
                f"`clock of the source` tells which, if source.dsn is set. If the clock: {NTP} If the connector: "
                "it has a backlog, which ends.",
            )
        what = f"The last heartbeat is {beat.age:.0f} s old: the connector does not run, or its slot does not move."
        return failed(check, what, CONNECTOR)
    last = f"the connector's last one is {max(beat.age, 0):.1f} s old"
    if not members:
        return passed(check, f"{last}; no consumer applies it now")
    if stored_age is None or stored_age > FRESH_HEARTBEAT_SECONDS:
        since = "none was ever" if stored_age is None else f"the last is {stored_age:.0f} s old that was"
        return failed(
            check,
            f"The connector beats and the group has members, but {since} applied: the consumer is behind or stuck.",
            "`embed-consumer status` names the partition that waits; the consumer's log says why.",
        )
    if beat.clock_behind:
        late = f"It comes, but always {beat.clock_behind:.0f} s late: the source's clock is behind."
        return warned(check, f"{late} Freshness is measured without that.", NTP)
    return passed(check, f"{last}, applied {max(stored_age, 0):.1f} s ago")


def judge_offsets(found: Sequence[Position]) -> Finding:
    """Whether the group can go on from where it is in every partition."""
    for at in found:
        reset = f"embed-consumer offsets reset --topic {at.topic} --partition {at.partition} --to beginning"
        if at.recreated:
            return failed(
                "offsets",
                f"{at.topic} was made anew since the group read it: its offsets mean something else now.",
                f"`{reset}` (add --execute), then take a snapshot of the table.",
            )
        heartbeat = at.topic.startswith(HEARTBEAT_TOPIC)  # heartbeats that expired are no loss
        if at.stored is not None and (at.stored > at.end or (at.stored < at.first and not heartbeat)):
            return failed(
                "offsets",
                f"The group stands at {at.stored} in {at.topic}[{at.partition}], which holds {at.first} to {at.end}.",
                f"`{reset}` (add --execute), then take a snapshot of the table: changes were lost.",
            )
    begun, waiting = [at for at in found if at.stored is not None], sum(at.lag for at in found)
    if not begun:
        return passed("offsets", "the group has begun no partition yet")
    return passed("offsets", f"partitions: {len(found)}, begun: {len(begun)}; offsets not applied yet: {waiting}")
