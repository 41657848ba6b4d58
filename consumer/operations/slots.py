"""What the source's replication slots hold back, as a metric: WAL that a stalled connector makes the source keep."""

from __future__ import annotations

from threading import Thread

from consumer.errors import Fault
from consumer.observe import Metrics, get_logger
from consumer.source import SourceDatabase

_log = get_logger("slots")


class SlotWatch:
    """A chore that returns at once: the source is asked in a thread of its own, one question at a time.

    While the source does not answer, the gauge has no series: an old figure must not pass for a measured one.
    """

    def __init__(self, dsn: str, metrics: Metrics) -> None:
        self._dsn, self._metrics = dsn, metrics
        self._asking: Thread | None = None
        self._trouble = ""
        self._bug: Exception | None = None

    def __call__(self) -> None:
        """Ask, unless an earlier question is still open. What no fault of ours explains is raised here."""
        if self._bug is not None:
            raise self._bug
        if self._asking is None or not self._asking.is_alive():
            self._asking = Thread(target=self._ask, name="slots", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        try:
            self._measure()
        except Exception as bug:
            self._bug = bug

    def _measure(self) -> None:
        trouble = ""
        try:
            with SourceDatabase(self._dsn) as source:
                slots = source.slots()
            held = {(slot.name,): float(slot.retained_bytes) for slot in slots if slot.retained_bytes is not None}
            self._metrics.slot_retained_bytes.set_all(held)
        except Fault as fault:
            trouble = str(fault)
            self._metrics.slot_retained_bytes.set_all({})
            self._metrics.errors.labels("source", type(fault).__name__.lower()).inc()
        if trouble and trouble != self._trouble:
            _log.warning("the replication slots cannot be measured; the consumer goes on without", reason=trouble)
        self._trouble = trouble
