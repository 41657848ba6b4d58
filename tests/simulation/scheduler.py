"""One seed to one life of a world: what it is like, and what happens next, all drawn from one stream of numbers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.simulation.party import Party
from tests.simulation.source import HICCUP, POISON, Source, Users
from tests.simulation.world import Profile, World

LONGEST = 4_000  # moves; a world that does nothing but wait has a fault


class Simulation:
    """A world, its users, and the moves that may come next."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)

        def often(likely: float, value: float) -> float:
            return value if random.random() < likely else 0.0

        profile = Profile(
            partitions=random.choice((1, 2, 2, 3)),
            max_events=random.choice((2, 4, 8, 20)),
            tokens_per_second=random.choice((2.0, 1e9, 1e9)),
            hiccups=random.choice((1, 2)),
            trouble=often(0.7, 0.04),
            slow=often(0.3, 0.3),
            interrupt=random.choice((0.15, 0.4)),
        )
        source = Source(toast=random.random() < 0.6)
        self.world = world = World(profile, random, source)
        connector = world.connector
        connector.junk, connector.gaps = often(0.3, 0.06), often(0.3, 0.1)
        connector.noise, connector.bare = often(0.1, 0.04), often(0.25, 0.5)
        connector.complete_from = random.choice((0, 0, random.randint(0, 20)))
        self._transactions = random.randint(3, 22)
        moves = random.random() < 0.5
        # What such a snapshot reads ahead of the stream must not fill what an older event leaves out.
        self._blocking = not source.toast and random.random() < 0.5
        # A delete that is not recognised as delivered again takes what its key holds by now.
        safe = not (moves and source.toast and connector.complete_from)
        self._users = Users(
            random,
            source,
            keys=random.randint(2, 4),
            truncates=random.random() < 0.35,
            moves=moves,
            dense=not connector.complete_from,  # where only the time tells, no two changes of a row share it
            words="abcd" + random.choice(("", POISON)) + random.choice(("", HICCUP)),
        )
        self._members = random.randint(1, 3)
        self._grown = False
        grows = random.random() < 0.25
        if grows:
            # A tombstone alone, or behind a delete that cannot be read, deletes nothing across partitions.
            connector.bare, connector.junk_deletes = 0.0, False
        rates: dict[Callable[[], None], float] = {
            self._write: 5,
            self._deliver: 6,
            self._restart_connector: often(0.5, 0.6) * safe,
            self._read_rows: often(0.4, 0.8),
            self._grow: 0.2 if grows else 0.0,
            self._fetch: 12,
            self._begin: 8,
            self._go_on: 25,
            self._rebalance: 1.2,
            self._crash: often(0.6, 0.7),
            self._stop: 0.3,
            self._replay: often(0.3, 0.7),
            self._pass_time: 0.8,
        }
        self._moves, weights = list(rates), list(rates.values())
        self._weights = [sum(weights[: at + 1]) for at in range(len(weights))]

    def run(self) -> World:
        """All of it. Raises Violation if something is wrong."""
        world, connector = self.world, self.world.connector
        for _ in range(LONGEST):
            if not (self._transactions or connector.behind) and self.random.random() < 0.05:
                break
            self.random.choices(self._moves, cum_weights=self._weights)[0]()
        world.rest()
        return world

    # --- the source and the connector

    def _write(self) -> None:
        if self._transactions:
            self._transactions -= 1
            before = len(self.world.source.changes)
            self._users.transaction()
            for change in self.world.source.changes[before:]:
                self.world.tell("source", change)

    def _deliver(self) -> None:
        if self.world.connector.behind:
            self.world.connector.deliver(self.random.randint(1, 4))
            self.world.tell("connector", f"has delivered up to {self.world.connector.position}")

    def _restart_connector(self) -> None:
        position = self.world.connector.position
        if position:
            self.world.connector.restart(self.random.randrange(position))
            self.world.tell("connector", f"delivers again from {self.world.connector.position}")

    def _read_rows(self) -> None:
        # Across partitions nothing tells a read from an older change: only commit times, of which it has another.
        if self.world.connector.position and not self._grown:
            key = self.random.randint(1, 4)
            self.world.connector.read_row(key, blocking=self._blocking and self.random.random() < 0.3)
            self.world.tell("connector", f"reads row {key}")

    def _grow(self) -> None:
        # Known limit: what a change leaves out is filled from before where its key returns to an earlier partition.
        returns = self._grown and self.world.source.toast
        if len(self.world.log.partitions) < 4 and not self.world.connector.behind and not returns:
            self.world.source.commit()  # its next transaction is of a later moment
            self.world.log.add_partition()
            self._grown = True
            self.world.tell("broker", f"has {len(self.world.log.partitions)} partitions")

    # --- the group

    def _fetch(self) -> None:
        if members := [member for member in self.world.members if member.holdings.held]:
            member = self.random.choice(members)
            partition = self.random.choice(member.partitions)
            member.fetch(partition, self.random.randint(1, 9))

    def _begin(self) -> None:
        if members := [member for member in self.world.members if not member.busy]:
            member = self.random.choice(members)
            self.world.acquire(member)
            if self.random.random() < 0.15:
                self.world.tell(member, "retries")
                member.retry()
            elif member.take():
                self.world.tell(member, "takes a batch")

    def _go_on(self) -> None:
        parties: list[Party] = [*self.world.members, *self.world.replays]
        if busy := [party for party in parties if party.task]:
            party = self.random.choice(busy)
            assert party.task is not None
            party.task.go_on()
            if party.task.done:
                self.world.finish(party)

    def _rebalance(self) -> None:
        world = self.world
        if len(world.members) < self._members:
            world.join()
        member = self.random.choice(world.members)
        if member.zombie and self.random.random() < 0.3:
            world.tell_all(member)
        unowned = [p for p in range(len(world.log.partitions)) if p not in world.owners]
        for partition in unowned or [self.random.randrange(len(world.log.partitions))]:
            world.assign(partition, member, notice=self.random.choice(("waits", "late", "never")))

    def _crash(self) -> None:
        if parties := [*self.world.members, *self.world.replays]:
            self.world.crash(self.random.choice(parties))

    def _stop(self) -> None:
        """A member is asked to end: it finishes its transaction and leaves."""
        if self.world.members:
            member = self.random.choice(self.world.members)
            member.stopping.set()
            member.end()
            self.world.leave(member)

    def _replay(self) -> None:
        partition = self.random.randrange(len(self.world.log.partitions))
        end = self.world.next_offset(partition)
        if end and len(self.world.replays) < 2:
            self.world.replay(partition, self.random.randrange(end), force=self.random.random() < 0.4)

    def _pass_time(self) -> None:
        self.world.pass_time(self.random.choice((1, 30, 300, 2000)))


def lived(seed: int, life: Callable[[int], Simulation] = Simulation) -> tuple[Simulation, str]:
    """The life of one seed; if it failed the line that runs it again, and what is wrong."""
    simulation = life(seed)
    try:
        simulation.run()
    except Exception as fault:
        return simulation, f"python -m tests.simulation {seed}  # {type(fault).__name__}: {fault}"
    return simulation, ""
