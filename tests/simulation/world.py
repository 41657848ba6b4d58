"""One simulated world and its moves: what a scheduler, or the script of a named schedule, can make happen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from consumer.errors import Retry
from consumer.store import Generation, TooSlow
from tests.simulation.connector import Connector, Log
from tests.simulation.invariants import Truth
from tests.simulation.model import Model
from tests.simulation.party import Member, Party, Replay
from tests.simulation.source import Source
from tests.simulation.tasks import Task
from tests.store_standin import Database

GENERATION = Generation(1, "live", b"", "model", 2, "vector", "cosine", 16, 64, "chunks_1")
AT_ONCE = ("commit",)  # the transaction holds its locks: nobody can come between


class Violation(AssertionError):
    """Something that must never be."""


@dataclass(slots=True)
class Profile:
    """What a world is like. `trouble` is how often a question to the store goes wrong, `slow` how often an embed takes
    so long that others come and go, and failed documents fall due, meanwhile."""

    partitions: int = 2
    max_events: int = 50
    tokens_per_second: float = 1e9
    hiccups: int = 1
    trouble: float = 0.0
    slow: float = 0.0
    interrupt: float = 1.0  # how often others come between two steps


@dataclass
class World:
    """Source, connector, log, database, members. `owners` is who the group's coordinator has given each partition."""

    profile: Profile = field(default_factory=Profile)
    random: Random = field(default_factory=lambda: Random(0))
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        self.log = Log.of(self.profile.partitions)
        self.connector = Connector(self.source, self.log, self.random)
        self.database = Database(GENERATION)
        self.model = Model(self.profile.hiccups)
        self.truth = Truth(self.source, self.connector, self.log, self.database)
        self.members: list[Member] = []
        self.replays: list[Replay] = []
        self.owners: dict[int, Member] = {}
        self.trace: list[str] = []
        self.holders: dict[tuple[str, int], tuple[Party, int]] = {}  # by group and partition: who, and its epoch
        self.planned: dict[tuple[str, str], Exception] = {}  # by member and step
        self.commits = 0
        self._joined = 0

    # --- what parties ask of it

    def at(self, party: Party, step: str) -> None:
        """A party is about to take a step."""
        self.tell(party, step)
        if step == "commit":
            self.complain(*self.truth.before_commit(party.store.plan, set() if party.force else party.fresh))
            self._only_the_last(party)
        if step == "committed":
            self.commits += 1
            self.complain(*self.truth.after_commit())
        self.trouble(party, step)
        if step == "embed" and party.task and self.profile.slow and self.random.random() < self.profile.slow:
            self._embed_slowly(party, party.task)
        if step not in AT_ONCE and party.task and self.random.random() < self.profile.interrupt:
            party.task.pause(step)

    def trouble(self, party: Party, step: str) -> None:
        """Now and then a question is not answered, or takes too long; or just when a script wants it."""
        if fault := self.planned.pop((party.name, step), None):
            raise fault
        if self.profile.trouble and self.random.random() < self.profile.trouble:
            slow = step in ("lookup", "details", "vectors", "begin") and self.random.random() < 0.4
            if step not in ("embed", "wait"):
                self.tell(party, f"{step} fails")
                raise (TooSlow if slow else Retry)(f"{step} failed.")

    def _embed_slowly(self, party: Party, task: Task) -> None:
        """Several times others have their turn."""
        for _ in range(self.random.randint(2, 12)):
            self.tell(party, "is still embedding")
            self.pass_time(self.random.choice((1, 30, 300, 2000)))
            task.pause("embed")

    def _only_the_last(self, party: Party) -> None:
        """Nobody moves a partition but who took it over last."""
        plan = party.store.plan
        for advance in plan.advances:
            if self.holders[plan.group, advance.partition] != (party, advance.epoch):
                self.complain(f"{party.name} moves partition {advance.partition}, which another has taken over")

    @property
    def seconds(self) -> float:
        return self.database.now.timestamp()

    def next_offset(self, partition: int) -> int:
        return self.truth.next_offset(partition)

    def tell(self, who: Party | str, what: object) -> None:
        """One more line of the trace."""
        self.trace.append(f"{who if isinstance(who, str) else who.name}: {what}")

    def complain(self, *wrong: str) -> None:
        """Something is wrong."""
        if wrong:
            raise Violation("; ".join(wrong))

    # --- the group

    def join(self) -> Member:
        """A new member, without partitions yet."""
        self._joined += 1
        self.members.append(Member(self, f"member {self._joined}"))
        return self.members[-1]

    def member(self, *partitions: int) -> Member:
        """A new member that holds these, from whoever had them."""
        member = self.join()
        for partition in partitions:
            self.assign(partition, member)
        return member

    def assign(self, partition: int, member: Member, *, notice: str = "waits") -> None:
        """Give the partition to a member.

        The former owner waits for its batch, or the wait times out ("late"), or it does not hear of it ("never").
        """
        former = self.owners.get(partition)
        self.tell("group", f"{partition} goes to {member.name}, the former owner {notice if former else 'is none'}")
        if former is member:
            return
        if former is not None:
            self.revoke(former, [partition], notice)
        self.owners[partition] = member
        member.unacquired.add(partition)
        self.acquire(member)

    def revoke(self, member: Member, partitions: Iterable[int], notice: str) -> None:
        """Tell the owner that they are not its own any more."""
        if notice == "never":
            member.zombie = True
            return
        if notice == "waits":
            member.end()
        member.lose(partitions)

    def tell_all(self, member: Member) -> None:
        """A zombie learns what it owns."""
        member.zombie = False
        owned = {partition for partition, owner in self.owners.items() if owner is member}
        member.lose({*member.partitions, *member.unacquired} - owned)

    def acquire(self, member: Member) -> None:
        """Try to take over what is assigned."""
        try:
            if member.unacquired:
                member.acquire()
                self.tell(member, f"holds {member.partitions}")
        except Retry:
            self.tell(member, "acquires later")

    def leave(self, member: Member) -> None:
        """A member is gone: its partitions have no owner until the group gives them to another."""
        self.tell(member, "is gone")
        if member in self.members:
            self.members.remove(member)
        for partition in [p for p, owner in self.owners.items() if owner is member]:
            del self.owners[partition]

    def finish(self, party: Party) -> None:
        """A party's work is done."""
        if isinstance(party, Member):
            party.finish()
        elif isinstance(party, Replay):
            self.replays.remove(party)

    def crash(self, party: Party) -> None:
        """The process ends where it stands."""
        self.tell(party, f"crashes before {party.task.step}" if party.task else "crashes")
        party.crash()
        if isinstance(party, Member):
            self.leave(party)
        elif isinstance(party, Replay):
            self.replays.remove(party)

    def replay(self, partition: int, start: int, *, force: bool = False) -> Replay:
        """A replay of one partition begins beside the group."""
        self.replays.append(Replay(self, partition, start, force=force))
        self.tell(self.replays[-1], f"from {start} to {self.next_offset(partition)}{' by force' * force}")
        return self.replays[-1]

    # --- the end

    def rest(self) -> None:
        """No more trouble: everything is delivered, read, and tried again until nothing is left to try."""
        self.profile.trouble = self.profile.interrupt = self.profile.slow = 0.0
        self.connector.deliver()
        self.tell("world", "rests")
        for replay in self.replays:
            assert replay.task is not None
            replay.task.to_the_end()
        member = next(iter(self.members), None) or self.join()
        for each in list(self.members):
            each.end()
        for each in list(self.members):
            self.tell_all(each)
            self.acquire(each)
        if member not in self.members:
            member = self.join()
        for partition in range(len(self.log.partitions)):
            self.assign(partition, member)
        for _ in range(sum(self.log.ends) + 20):  # more than the batches that there can be
            member.work()
            self.acquire(member)
        self._retry(member)
        behind = [p for p, end in enumerate(self.log.ends) if self.next_offset(p) != end]
        self.complain(*(f"partition {p} stands at {self.next_offset(p)}" for p in behind))
        self.complain(*self.truth.after_commit(), *self.truth.at_rest())

    def _retry(self, member: Member) -> None:
        """Every failed document, until it heals or is given up."""
        failed = self.database.failed
        for _ in range(200):
            due = min((row.next_attempt_at for row in failed.rows.values() if row.next_attempt_at), default=None)
            if due is None:
                return
            self.database.now = max(self.database.now, due)
            member.retry()
            member.end()
        self.complain("failed documents are retried without end")

    def pass_time(self, seconds: float) -> None:
        """The store's clock goes on."""
        self.database.now += timedelta(seconds=seconds)
