"""Who works on the store: members of the group, and replays beside them. The pipeline in each is the real one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import msgspec

from consumer import steps
from consumer.errors import Abandoned, Reject, Retry
from consumer.events import AvroSchema, Record, SchemaRef
from consumer.operations.failed import RetryWorker
from consumer.pipeline import Pipeline
from consumer.planning import Advance, Batch, Partition, Plan, Planner
from consumer.source import Holdings
from consumer.steps import Settled
from consumer.store import Outcome, Wanted
from consumer.store.model import Acquired
from tests.simulation.connector import TOPIC_ID, Log
from tests.simulation.model import MemberModel
from tests.simulation.tasks import Task
from tests.store_standin import StandInStore
from tests.store_standin.database import Vector
from tests.unit.records import TOPIC, WordTokenizer, table

if TYPE_CHECKING:
    from tests.simulation.world import World

GROUP = "g"
TABLE = table(when="{{ price != '0' }}", max_tokens=2)
PLANNER = Planner([TABLE], 1, WordTokenizer())
steps.PIECE = 2  # so that what is stored of a batch of a few records is asked for in several queries
FENCES_ALLOWED, WITHIN_SECONDS = 3, 60.0  # as KafkaSource


class Waiting(Event):
    """The process's end, and the one way to wait: others run meanwhile."""

    def __init__(self, at: Callable[[str], None]) -> None:
        super().__init__()
        self._at = at

    def wait(self, timeout: float | None = None) -> bool:
        self._at("wait")
        return self.is_set()


class NoRegistry:
    """JSON asks for no schema."""

    def schemas(self, refs: Collection[SchemaRef]) -> Mapping[SchemaRef, AvroSchema | Reject]:
        raise AssertionError(refs)


class WatchedStore(StandInStore):
    """Remembers the plan under way, for who looks on."""

    plan: Plan

    def apply(self, plan: Plan, vectors: Mapping[bytes, Vector]) -> Outcome:
        self.plan = plan
        return super().apply(plan, vectors)


class Party:
    """One process: a session of the store, a model, a pipeline, and the work under way."""

    def __init__(self, world: World, name: str, group: str, *, force: bool = False) -> None:
        self.world, self.name, self.force = world, name, force
        self.task: Task | None = None
        self.read: list[str] = []  # every text that the model has read
        self.computed: set[str] = set()  # texts that the model has read for the part under way
        self.fresh: set[str] = set()  # and those since it last looked at the store
        self.stopping = Waiting(self.at)
        self.store = WatchedStore(world.database, self.at)
        engine = MemberModel(world.model, world.profile.tokens_per_second, self.at, self._compute)
        self.pipeline = Pipeline(
            PLANNER, engine, self.store, NoRegistry(), self, self.stopping,
            generation=world.database.generation, tables={TOPIC: TABLE}, group=group,
            max_events=world.profile.max_events, max_seconds=1.0, force=force,
        )  # fmt: skip

    @property
    def busy(self) -> bool:
        return self.task is not None

    def at(self, step: str) -> None:
        """Where others may run, and where trouble may strike."""
        if step == "lookup":
            self.fresh.clear()
        self.world.at(self, step)

    def begin(self, work: Callable[[], Any]) -> Task:
        """Work on its way, not begun."""
        assert self.task is None
        self.computed.clear()
        self.task = Task(work)
        return self.task

    def crash(self) -> None:
        """The process is gone, with all that it has not committed."""
        if self.task is not None:
            self.task.crash()
            self.task = None

    def _compute(self, text: str) -> None:
        if text in self.computed:
            self.world.complain(f"{self.name} computed the vector of {text!r} twice in one part of a batch")
        self.read.append(text)
        self.computed.add(text)
        self.fresh.add(text)

    # --- the report

    def waiting(self, *_: object) -> None:
        self.computed.clear()  # a new part begins

    def done(self, *_: object) -> None: ...
    def fenced(self, *_: object) -> None: ...
    def retrying(self, *_: object) -> None: ...


class Member(Party):
    """One member of the group: as `KafkaSource` and `pipeline.run` do it, a move at a time."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name, GROUP)
        self.holdings = Holdings(world.profile.max_events, 1 << 30)
        self.unacquired: set[int] = set()
        self.told: list[Advance] = []
        self.left: Sequence[Batch] = ()
        self.zombie = False  # the group has given its partitions away, and it does not know yet
        self._fences: list[tuple[int, float]] = []
        self._claims = StandInStore(world.database, partial(world.trouble, self))
        self._retries = RetryWorker(
            cast(Any, self.store), cast(Any, LogBroker(world.log, self.at)), self.pipeline,
            group=GROUP, tables={TOPIC: TABLE}, generation=world.database.generation, reader=cast(Any, LogReader),
        )  # fmt: skip

    @property
    def partitions(self) -> list[int]:
        return sorted(partition for _, partition in self.holdings.held)

    def acquire(self) -> None:
        """Take over what the group has assigned; raises Retry if the database does not answer."""
        wanted = sorted(self.unacquired)
        taken: Mapping[Any, Acquired] = self._claims.acquire(
            GROUP, [Wanted(TOPIC, TOPIC_ID, partition, 0) for partition in wanted]
        )
        for partition in wanted:
            epoch, position = taken[TOPIC, partition]
            end = self.world.log.ends[partition]
            self.world.holders[GROUP, partition] = self, epoch
            self.holdings.acquire((TOPIC, partition), TOPIC_ID, epoch, position, end)
            self.world.log.read_one_before(self.holdings, partition, position)
            self.unacquired.discard(partition)

    def lose(self, partitions: Iterable[int]) -> None:
        """They are another's now."""
        gone = set(partitions)
        self.holdings.drop({(TOPIC, partition) for partition in gone})
        self.unacquired -= gone

    def fetch(self, partition: int, count: int) -> None:
        """Up to so many records; at the end of the partition it learns that."""
        held = self.holdings.held[TOPIC, partition]
        for record in self.world.log.partitions[partition]:
            if record.offset < held.fetched:
                continue
            if not count or not self.holdings.room:
                return
            count -= 1
            self.holdings.add(msgspec.structs.replace(record, epoch=held.epoch))
        self.holdings.reached_end((TOPIC, partition), self.world.log.ends[partition])

    def take(self) -> Task | None:
        """Begin to process what was fetched, or go on with what was left."""
        batch = None if self.left else self.holdings.take()
        parts, self.left, self.told = self.left or ([batch] if batch else []), (), []
        told = self.told

        def more() -> Batch | None:
            self.holdings.stored(told)
            return self.holdings.take_idle()

        return self.begin(lambda: self.pipeline.process(parts, told.extend, more)) if parts else None

    def retry(self) -> Task:
        """Begin to retry failed documents that are due."""
        return self.begin(self._retry_due)

    def _retry_due(self) -> None:
        with suppress(Retry, Abandoned):  # as Chores: another round will come
            self._retries.retry_due()

    def finish(self) -> None:
        """The work is done: what it has stored, and what it has lost."""
        assert self.task is not None
        result, self.task = self.task.result, None
        if isinstance(result, Settled):
            self.holdings.stored(self.told)
            self.left = result.left
            self._fenced(result.fenced)
            self.holdings.expect(changes=result.changed)

    def start(self) -> Task:
        """Begin to process everything that is there."""
        for partition in self.partitions:
            self.fetch(partition, 1000)
        task = self.take()
        assert task is not None, f"nothing is there for {self.name}"
        return task

    def end(self) -> None:
        """Finish what is under way, with nobody in between."""
        if self.task is not None:
            self.task.to_the_end()
            self.finish()

    def work(self) -> None:
        """Process everything that is there, if anything is, with nobody in between."""
        for partition in self.partitions:
            self.fetch(partition, 1000)
        self.take()
        self.end()

    def _fenced(self, advances: Iterable[Advance]) -> None:
        """Somebody else advanced these: if they are still ours, take the next epoch and read from the stored offset."""
        now = self.world.seconds
        for advance in advances:
            partition: Partition = (advance.topic, advance.partition)
            held = self.holdings.held.get(partition)
            if held is None or held.epoch != advance.epoch:
                continue
            self.holdings.drop([partition])
            self.unacquired.add(advance.partition)
            self._fences = [f for f in self._fences if now - f[1] < WITHIN_SECONDS] + [(advance.partition, now)]
            if sum(number == advance.partition for number, _ in self._fences) >= FENCES_ALLOWED:
                self.world.leave(self)
                return


class LogBroker:
    """The broker and its reader, as the retry worker asks them."""

    def __init__(self, log: Log, at: Callable[[str], None]) -> None:
        self.log, self.at = log, at

    def partitions(self, topic: str) -> list[int]:
        return list(range(len(self.log.partitions)))

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(topics, TOPIC_ID)


class LogReader:
    """`Reader` on the simulated log."""

    def __init__(self, broker: LogBroker, notice: object) -> None:
        self._broker = broker

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read_one(self, topic: str, partition: int, offset: int) -> Record | None:
        self._broker.at("read")
        return self._broker.log.read(partition, offset)


class Replay(Party):
    """`embed-consumer replay` of one partition, up to where the group stands when it begins."""

    def __init__(self, world: World, partition: int, start: int, *, force: bool) -> None:
        super().__init__(world, f"replay of {partition}", f"replay:{partition}:{start}:{force}", force=force)
        self._partition, self._start = partition, start
        self._end = world.next_offset(partition)
        self.begin(self._run)

    def _run(self) -> None:
        with suppress(Retry):  # the command ends; run again, it goes on where it was
            self._replay()

    def finish(self) -> None:
        """It has come to its end."""
        self.task = None

    def _replay(self) -> None:
        group = f"replay:{self._partition}:{self._start}:{self.force}"
        place = (TOPIC, self._partition)
        wanted = Wanted(TOPIC, TOPIC_ID, self._partition, min(self._start, self._end))
        (epoch, position), *_ = self.store.acquire(group, [wanted]).values()
        holdings = Holdings(self.world.profile.max_events, 1 << 30)
        self.world.holders[group, self._partition] = self, epoch
        holdings.acquire(place, TOPIC_ID, epoch, position, self._end)
        self.world.log.read_one_before(holdings, self._partition, position)
        while holdings.held[place].taken < self._end:
            for record in self.world.log.partitions[self._partition]:
                if holdings.held[place].fetched <= record.offset < self._end and holdings.room:
                    holdings.add(msgspec.structs.replace(record, epoch=epoch))
            if not holdings.full:
                holdings.reached_end(place, self._end)
            if (batch := holdings.take()) and self.pipeline.process([batch]).fenced:
                return  # another run of the same replay has taken over
        self.store.forget_job(group)
