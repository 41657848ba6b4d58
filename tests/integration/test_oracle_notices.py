"""The oracle is worth what it notices: every kind of damage to a right store must come out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.oracle import Oracle
from tests.states import StoreState, read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World

Damage = Callable[[StoreState], None]


def test_every_damage_is_noticed(world: World, tiny_model: Path) -> None:
    world.migrate()
    Workload(world, 3).run(60)
    with world.consumer():
        world.settle()
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    oracle = Oracle(world.tables, tiny_model)
    topics = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    events = read_topics(world.endpoints.bootstrap_servers, topics)
    rows = read_rows(world.endpoints.source_owner_dsn, topics)
    assert oracle.compare(state, rows) == []
    assert oracle.compare_with_topics(state, events) == []

    for damage in DAMAGES:
        damaged = copy.deepcopy(state)
        damage(damaged)
        assert oracle.compare_with_topics(damaged, events), damage.__name__
    last = max(events, key=lambda event: event.ts_us or 0)
    wrong_row = {**rows, (last.topic, '{"id": 0}'): {**next(iter(rows.values())), "id": 0}}
    assert oracle.compare(state, wrong_row), "a row that was never captured"


def _alive(state: StoreState) -> tuple[Any, dict[str, Any]]:
    return next((name, state.documents[name]) for name, chunks in state.chunks.items() if len(chunks) > 1)


def _chunk(state: StoreState) -> dict[str, Any]:
    return state.chunks[_alive(state)[0]][1]


def _dead(state: StoreState) -> Any:
    return next(name for name, document in state.documents.items() if document["state"] == "deleted")


def lost_document(state: StoreState) -> None:
    name, _ = _alive(state)
    del state.documents[name], state.chunks[name]


def revived_document(state: StoreState) -> None:
    state.documents[_dead(state)]["state"] = "embedded"


def lost_gravestone(state: StoreState) -> None:
    del state.documents[_dead(state)]


def chunk_of_a_dead_document(state: StoreState) -> None:
    state.chunks[_dead(state)] = [_chunk(state)]


def failed_document(state: StoreState) -> None:
    _alive(state)[1]["state"] = "failed"


def lost_chunk(state: StoreState) -> None:
    state.chunks[_alive(state)[0]].pop()


def doubled_chunk(state: StoreState) -> None:
    state.chunks[_alive(state)[0]].append(_chunk(state))


def other_number(state: StoreState) -> None:
    _chunk(state)["chunk_no"] += 1


def other_text(state: StoreState) -> None:
    _chunk(state)["content"] += "."


def other_vector(state: StoreState) -> None:
    first, second = state.chunks[_alive(state)[0]][:2]
    first["vector"], second["vector"] = second["vector"], first["vector"]


def empty_vector(state: StoreState) -> None:
    _chunk(state)["vector"] = [0.0] * len(_chunk(state)["vector"])


def other_metadata(state: StoreState) -> None:
    _chunk(state)["metadata"]["price"] = "0.01"


def other_document_hash(state: StoreState) -> None:
    _alive(state)[1]["content_hash"] = bytes(32)


def other_chunk_hash(state: StoreState) -> None:
    _chunk(state)["content_hash"] = bytes(32)


def other_model(state: StoreState) -> None:
    _chunk(state)["model"] = "another"


def other_configuration(state: StoreState) -> None:
    _chunk(state)["config_hash"] = bytes(32)


def other_topic(state: StoreState) -> None:
    _chunk(state)["kafka_topic"] = "another"


def other_offset(state: StoreState) -> None:
    _chunk(state)["kafka_offset"] += 100_000


def other_commit_time(state: StoreState) -> None:
    _chunk(state)["source_committed_at"] += timedelta(microseconds=1)


def offset_of_another_event(state: StoreState) -> None:
    _alive(state)[1]["kafka_offset"] = -1


def written_too_often(state: StoreState) -> None:
    _alive(state)[1]["version"] += 100


def applied_from_beyond_the_offsets(state: StoreState) -> None:
    for place in state.offsets:
        state.offsets[place] -= 1


def not_applied_up_to_the_offsets(state: StoreState) -> None:
    _, document = _alive(state)
    document["kafka_offset"] -= 1
    state.documents[_dead(state)]["kafka_offset"] -= 1


DAMAGES: list[Damage] = [
    lost_document,
    revived_document,
    lost_gravestone,
    chunk_of_a_dead_document,
    failed_document,
    lost_chunk,
    doubled_chunk,
    other_number,
    other_text,
    other_vector,
    empty_vector,
    other_metadata,
    other_document_hash,
    other_chunk_hash,
    other_model,
    other_configuration,
    other_topic,
    other_offset,
    other_commit_time,
    offset_of_another_event,
    written_too_often,
    applied_from_beyond_the_offsets,
    not_applied_up_to_the_offsets,
]
