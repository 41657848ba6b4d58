"""All questions at the same time, each part in a thread of its own with an end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import NamedTuple

from consumer.observe import get_logger
from consumer.operations.doctor import connect, here, kafka, source, store
from consumer.operations.doctor.finding import Finding
from consumer.settings import Settings

SECONDS = 20.0  # every question has an end of its own, a few seconds; this one is for what has none
MODEL_SECONDS = 120.0  # gigabytes are read and hashed

_log = get_logger("doctor")


class Part(NamedTuple):
    """One dependency: `look` asks and judges, and is given so many seconds."""

    name: str
    look: Callable[[Settings], Iterator[Finding]]
    seconds: float = SECONDS


PARTS = (
    Part("settings", here.tables),
    Part("kafka", kafka.look),
    Part("registry", here.registry),
    Part("source", source.look),
    Part("connector", connect.look),
    Part("store", store.look),
    Part("model", here.model, MODEL_SECONDS),
    Part("clock of the store", here.store_clock),
    Part("clock of the source", here.source_clock),
    Part("http", here.port),
)


def examine(settings: Settings, parts: Sequence[Part] = PARTS) -> Iterator[Finding]:
    """Every finding, in the same order each time, as soon as it and those before it are known."""
    begun = time.monotonic()
    running = [(part, *_start(part, settings)) for part in parts]
    for part, thread, found in running:
        thread.join(max(begun + part.seconds - time.monotonic(), 0.0))
        late = thread.is_alive()
        yield from list(found)
        if late:
            yield Finding(
                part.name,
                "fail",
                f"It has not answered everything within {part.seconds:.0f} s.",
                "Look for what is slow between here and there: network, name service, a full machine.",
                unreachable=True,
            )


def _start(part: Part, settings: Settings) -> tuple[Thread, list[Finding]]:
    found: list[Finding] = []

    def ask() -> None:
        try:
            found.extend(part.look(settings))
        except Exception as bug:
            _log.debug("a bug of the doctor", part=part.name, exc_info=bug)
            what = f"It could not be checked: {type(bug).__name__}."
            fix = "This is a bug of embed-consumer: run it with log.level debug and report what it says."
            found.append(Finding(part.name, "fail", what, fix))

    thread = Thread(target=ask, name=f"doctor-{part.name}", daemon=True)
    thread.start()
    return thread, found
