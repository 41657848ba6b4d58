"""Between the thread that polls and the one that works: what is stored goes one way, what has arrived the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Event, Thread, current_thread

from consumer.planning import Advance, Batch

ANSWER_SECONDS = 0.1  # the polling thread answers at once, unless a rebalance keeps it


class Handoff:
    """`stored` and `take` are called in the polling thread only, so that the source belongs to one thread."""

    def __init__(
        self,
        stored: Callable[[Sequence[Advance]], None],
        take: Callable[[], Batch | None],
        take_idle: Callable[[], Batch | None],
    ) -> None:
        self._stored, self._take, self._take_idle = stored, take, take_idle
        self._committed: SimpleQueue[Sequence[Advance]] = SimpleQueue()
        self._answers: SimpleQueue[Batch | None] = SimpleQueue()
        self._asked = Event()

    # --- the worker

    def told(self, advances: Sequence[Advance]) -> None:
        """These positions are committed in the database."""
        self._committed.put(advances)

    def more(self) -> Batch | None:
        """What has arrived in partitions of which nothing is under way."""
        self._asked.set()
        try:
            return self._answers.get(timeout=ANSWER_SECONDS)
        except Empty:
            return None

    # --- the polling thread

    def tell(self) -> None:
        """Let the source know what is stored."""
        while not self._committed.empty():
            self._stored(self._committed.get())

    def answer(self) -> None:
        """Give the worker what it asked for, if it did."""
        if self._asked.is_set():
            self._asked.clear()
            self._answers.put(self._take_idle())

    def next(self) -> list[Batch]:
        """What an idle worker is to do: an answer that came too late for it, or all that has arrived."""
        while not self._answers.empty():
            if late := self._answers.get():
                return [late]
        batch = self._take()
        return [batch] if batch else []


class Worker(ThreadPoolExecutor):
    """One thread for the work."""

    def __init__(self) -> None:
        self._begun: list[Thread] = []
        super().__init__(1, "worker", lambda: self._begun.append(current_thread()))

    @property
    def alive(self) -> bool:
        """False once the thread has ended, which no work that it was given can make it do."""
        return all(thread.is_alive() for thread in self._begun)
