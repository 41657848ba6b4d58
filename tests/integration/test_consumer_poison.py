"""Poison: an event that can never be applied fails alone, says why, and is superseded by the next good one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.envelopes import Raw, change, key, row
from tests.tiny_model import make_tiny_model
from tests.world import World

NAN_WORD = "nightingale"  # one token of MiniLM's vocabulary


@pytest.fixture(scope="module")
def nan_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model but for one word, whose embedding is not a number, as a damaged or overflowing weight gives."""
    import torch
    from sentence_transformers import SentenceTransformer

    folder = make_tiny_model(tmp_path_factory.mktemp("nan") / "tiny")
    model: Any = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    (token,) = model.tokenizer.convert_tokens_to_ids([NAN_WORD])
    assert token != model.tokenizer.unk_token_id
    with torch.no_grad():
        model[0].model.get_input_embeddings().weight[token] = float("nan")
    model.save(str(folder), create_model_card=False)
    return folder


def good(number: int) -> Raw:
    return change(row(number, f"good {number}", times=1, divisor=1), "c")


def poison(number: int, **columns: Any) -> Raw:
    return change(row(number, **{"title": f"secret {number}", "times": 1, "divisor": 1, **columns}), "c")


POISON: dict[int, tuple[Raw, str, str]] = {
    1: ((key(1), b'{"op": "c", "after": {"title": "secret'), "decode", "value_undecodable"),
    2: ((key(2), b'["secret"]'), "decode", "not_an_envelope"),
    3: ((key(3), b"\xff\xfe secret"), "decode", "value_undecodable"),
    4: ((key(4), b'{"op": "x", "after": {"title": "secret"}}'), "decode", "op_unknown"),
    5: ((key(5), b'{"op": "c"}'), "decode", "after_missing"),
    6: (poison(6, divisor=0), "render", "template_error"),
    7: (poison(7, title="secret \0"), "render", "nul_character"),
    8: (poison(8, category="secret \0"), "render", "nul_character"),
    9: (poison(9, times=20_000_000), "render", "too_long"),
    10: (poison(10, title=f"the secret {NAN_WORD} sings"), "embed", "not_finite"),
    11: (change({"id": 11, "title": "secret"}, "c"), "plan", "missing_column"),
    12: ((key(12), b"\0\0\0\0\7 secret"), "decode", "registry_not_set"),  # looks like Avro, and nobody has a registry
}
KEYLESS: list[Raw] = [(b"{secret", good(90)[1]), (b'"secret"', good(91)[1]), (None, good(92)[1])]


@pytest.mark.semantics(
    "faults",
    "poison event",
    "failed document with stage, reason and coordinates; its neighbours go on; the next good event supersedes it",
)
def test_poison_fails_alone_with_its_reason(world: World, nan_model: Path) -> None:
    world.model = str(nan_model)
    world.tables = world.tables[:1]
    world.tables[0]["text"] = "{{ title * times }} {{ 1 // divisor }}"
    world.create_topic()
    # Every poison between two good neighbours; all of it is one batch, since it is there before the consumer is.
    records = [record for number in POISON for record in (POISON[number][0], good(100 + number))]
    offsets = world.produce(good(99), *records, *KEYLESS, good(98))
    world.migrate()
    with world.consumer() as consumer:
        world.until(lambda: world.caught_up("a"))
        failed = world.store("SELECT * FROM failed_documents ORDER BY kafka_offset")
        by_key = {row["source_key"]["id"]: row for row in failed if row["source_key"]}
        assert {number: (row["stage"], row["error_type"]) for number, row in by_key.items()} == {
            number: (stage, error_type) for number, (_, stage, error_type) in POISON.items()
        }
        for place, number in enumerate(POISON):
            found = by_key[number]
            where = (world.topic(), 0, offsets[1 + 2 * place])
            assert (found["kafka_topic"], found["kafka_partition"], found["kafka_offset"]) == where
            assert (found["attempts"], found["state"]) == (1, "retrying")
        keyless = [row for row in failed if row["source_key"] is None]
        assert [(row["stage"], row["error_type"], row["state"]) for row in keyless] == [
            ("decode", "key_undecodable", "retrying"),
            ("decode", "key_undecodable", "retrying"),
            ("decode", "key_missing", "dead"),  # no further attempt can find a key
        ]
        assert [row["kafka_offset"] for row in keyless] == offsets[-4:-1]
        neighbours = {98, 99, *(100 + number for number in POISON)}
        states = world.store("SELECT source_key, state FROM documents")
        assert {row["source_key"]["id"] for row in states if row["state"] == "embedded"} == neighbours
        assert {row["source_key"]["id"] for row in states if row["state"] == "failed"} == set(POISON)
        chunks = world.store("SELECT source_key, content FROM chunks")
        assert {row["source_key"]["id"] for row in chunks} == neighbours
        assert len(consumer.batches()) <= 2, "the poison was to share a batch with its neighbours"

        world.produce(*(good(number) for number in POISON))  # newer good events supersede
        world.until(lambda: world.caught_up("a"))
        left = world.store("SELECT source_key FROM failed_documents")
        assert [row["source_key"] for row in left] == [None] * len(KEYLESS)
        chunks = world.store("SELECT source_key, content FROM chunks")
        assert {row["source_key"]["id"] for row in chunks} == neighbours | set(POISON)
        rejected = sum(value for (name, labels), value in consumer.metrics().items() if _is_rejected(name, labels))
        assert rejected == len(POISON) + len(KEYLESS)
    assert "secret" not in consumer.output(), "document text in the log"
    assert "secret" not in json.dumps([row["error"] for row in failed])


@pytest.mark.semantics(
    "faults",
    "edit that cannot be applied",
    "the last good vectors stay searchable, the document is `failed`",
)
def test_a_failed_edit_keeps_the_last_good_vectors(world: World) -> None:
    world.tables = world.tables[:1]
    world.tables[0]["text"] = "{{ title }} {{ 1 // divisor }}"
    world.create_topic()
    world.produce(change(row(1, "first", divisor=1), "c"))
    world.migrate()
    with world.consumer():
        before = world.until(lambda: world.store("SELECT * FROM chunks"))
        world.produce(change(row(1, "second", divisor=0)))
        world.until(lambda: world.store("SELECT * FROM documents WHERE state = 'failed'"))
        assert world.store("SELECT * FROM chunks") == before
        world.produce(change(row(1, "third", divisor=1)))
        world.until(lambda: world.store("SELECT * FROM chunks WHERE content = 'third 1'"))
        assert len(world.store("SELECT * FROM chunks")) == 1
        assert world.store("SELECT * FROM failed_documents") == []
        world.produce(change(row(1, "fourth", divisor=0)), (key(1), None))
        world.until(lambda: world.store("SELECT * FROM documents WHERE state = 'deleted'"))
        assert world.store("SELECT * FROM chunks") == []
        assert world.store("SELECT * FROM failed_documents") == []


def _is_rejected(name: str, labels: tuple[str, ...]) -> bool:
    return name == "events_total" and "rejected" in labels
