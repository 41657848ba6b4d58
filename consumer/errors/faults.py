"""Every fault, typed by what the caller must decide: try again, set one event aside, or stop.

Messages are three short sentences: what happened, why, and what to do. They never contain document text or secrets.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command, as documented in the README."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    HALTED = 4
    INTERRUPTED = 130


class Fault(Exception):
    """What happened, why, and what to do about it; the common shape of the three faults below."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(" ".join(part for part in (what, why, fix) if part))
        self.what, self.why, self.fix = what, why, fix


class Retry(Fault):
    """A dependency did not answer or asked for patience: the same work may succeed later, nothing was lost."""


class Reject(Fault):
    """One event or document can never be applied as it is: it becomes a failed document, its neighbours go on.

    `stage` is where it failed (decode, render, chunk, embed, write, …) and `error_type` a short, bounded name fit for
    a metric label. `topic`, `partition` and `offset` are the Kafka coordinates of the event.
    """

    def __init__(
        self, what: str, *, stage: str, error_type: str, topic: str = "", partition: int = -1, offset: int = -1
    ) -> None:
        super().__init__(what)
        self.stage, self.error_type = stage, error_type
        self.topic, self.partition, self.offset = topic, partition, offset


class Stop(Fault):
    """Going on could lose or corrupt data, or cannot work at all: the process ends with `exit_code`."""

    def __init__(self, what: str, why: str = "", fix: str = "", *, exit_code: Exit = Exit.HALTED) -> None:
        super().__init__(what, why, fix)
        self.exit_code = exit_code
