"""The local stack as a whole: Postgres, Kafka, Connect with Debezium and, for Avro, a registry, as local processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from consumer.errors import Exit, Stop
from consumer.local import artifacts, binaries, connect, kafka, ports, postgres, processes, registry, settings_file
from consumer.local.artifacts import Jars
from consumer.local.endpoints import Endpoints, endpoints
from consumer.local.files import exclusive, write_private
from consumer.local.java import LOG4J2, Java
from consumer.local.processes import Account
from consumer.local.resources import resource
from consumer.local.services import Service
from consumer.local.state import Layout, State
from consumer.local.versions import CONNECTORS

# Enough to find and end services, not to start them.
NO_JARS = Jars((), ())


class Watcher(Protocol):
    """Who wants to see the stack come up."""

    def downloading(self, received: int, total: int) -> None:
        """`received` of `total` bytes are here."""

    def service(self, name: str, state: str) -> None:
        """A service is now `starting` or `ready`."""


class Unwatched:
    """Nobody looks."""

    def downloading(self, received: int, total: int) -> None:
        """Says nothing."""

    def service(self, name: str, state: str) -> None:
        """Says nothing."""


@dataclass(frozen=True)
class ServiceStatus:
    """One service as it is now. `state` is `ready`, `starting` or `stopped`; `pid` is None when stopped."""

    name: str
    state: str
    port: int
    pid: int | None
    log: Path


class Stack:
    """One stack with all its files under `home`. Every method may be called at any time, and by another process."""

    def __init__(
        self,
        home: Path,
        *,
        asked: Mapping[str, int] | None = None,
        cache: Path | None = None,
        schema: str = "embedding",
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`notice` is told when a method must wait for another process.

        `asked`: ports that must be taken, by name (those of `ports.PREFERRED`); the others are found.

        `cache` keeps downloads (default: `embed-consumer` in the user's cache); `schema` is the store's schema.
        """
        self.layout = Layout(home.absolute())
        self._asked = dict(asked or {})
        self._cache = (cache or artifacts.default_cache()).absolute()
        self._schema = schema
        self._notice = notice

    def up(
        self,
        watcher: Watcher | None = None,
        *,
        wire: Literal["json", "avro"] | None = None,
        mariadb: bool | None = None,
    ) -> Endpoints:
        """Starts what does not run, whatever an earlier start left, and waits until all of it answers.

        `wire` is the format that the connector shall write (default: as before, at first `json`); `avro` adds the
        registry. `mariadb` adds the connector for MariaDB (default: as before, at first not). Raises `Stop` or
        `Retry`, naming the log that says why.
        """
        watcher = watcher or Unwatched()
        self.layout.create()
        with exclusive(self.layout.lock, 300, self._notice):
            state = State.load(self.layout) or State.new()
            state.format = wire or state.format
            state.mariadb = state.mariadb if mariadb is None else mariadb
            state.save(self.layout)
            jars = artifacts.ensure(self._cache, watcher.downloading, avro=state.has_registry, mariadb=state.mariadb)
            who = binaries.account()
            programs = binaries.programs(who, self._cache)
            state.postgres_data = str(binaries.data_folder(self.layout.data("postgres"), who))
            # From choosing ports until all are taken, one start of a user at a time: two would choose the same ones.
            with exclusive(artifacts.default_cache() / "start.lock", 300, self._notice):
                self._assign_ports(state)
                state.save(self.layout)
                write_private(self.layout.config("log4j2.properties"), LOG4J2)
                self._start(self._services(state, jars, programs, who), watcher)
            return endpoints(state)

    @property
    def exists(self) -> bool:
        """Whether there is a stack in this folder, running or not."""
        return self.layout.state.exists()

    def write_settings(self, wanted: Path, instead: Path) -> Path:
        """As the writer of settings files does, for this stack; `down` remembers where."""
        with exclusive(self.layout.lock, 300, self._notice):
            state = self._remembered()
            written = settings_file.write_settings(wanted, instead, endpoints(state))
            state.settings_file = str(written.absolute())
            state.save(self.layout)
        return written

    def down(self, *, purge: bool = False) -> Path | None:
        """Ends every process, also of a half-finished start; with `purge` removes data, logs and passwords too.

        Returns the settings file that it leaves, because it was changed or is another stack's by now.
        """
        if not self.exists:
            self._end_forgotten()
            return None
        with exclusive(self.layout.lock, 300, self._notice):
            state = self._remembered(damaged_too=purge)
            for service in reversed(self._services(state)):
                service.stop()
            if not purge:
                return None
            postgres.remove(Path(state.postgres_data or self.layout.data("postgres")))
            self.layout.remove()
        written = Path(state.settings_file) if state.settings_file else None
        gone = written is None or settings_file.remove_settings(written, state.passwords["embedder"])
        return None if gone else written

    def _end_forgotten(self) -> None:
        """Ends what still runs of a stack whose folder was removed. No file is touched: they are not a stack's."""
        wanted = self.layout.data("postgres")
        for data in (wanted, binaries.data_elsewhere(wanted)):
            for service in reversed(self._services(State(postgres_data=str(data)))):
                if processes.find(service.command):
                    processes.stop(service.command, service.patience)

    def status(self) -> list[ServiceStatus]:
        """Each service as it is now, whoever started it."""
        return [_status(service) for service in self._services(self._remembered())]

    def endpoints(self) -> Endpoints:
        """Where the services of a stack that was brought up answer; `Stop` if it never was."""
        state = State.load(self.layout)
        if state is None or any(name not in state.ports for name in _listeners(state)):
            raise Stop(
                f"There is no stack in {self.layout.home}.",
                "It was never brought up.",
                "Run `embed-consumer stack up`.",
                exit_code=Exit.UNREACHABLE,
            )
        return endpoints(state)

    def register_connector(
        self, path: Path | None = None, *, name: str | None = None, overrides: Mapping[str, str] | None = None
    ) -> None:
        """Gives Connect the connector file and waits until its task runs.

        Without `path`: the file of the stack's format; the connector of another format goes first.
        """
        url, log = self.endpoints().connect_url, self.layout.log("connect")
        if path is None:
            chosen = CONNECTORS[self._remembered().format]
            path = resource(f"connectors/{chosen}.json")
            for other in set(CONNECTORS.values()) - {chosen}:
                connect.unregister(url, other, log)
        config = json.loads(path.read_text(encoding="utf-8")) | dict(overrides or {})
        connect.register(url, name or path.stem, config, log)

    def kill(self, name: str) -> None:
        """SIGKILL to one service, as a crash would end it; returns when it is gone."""
        processes.kill(self._service(name).command)

    def stop(self, name: str) -> None:
        """Ends one service in order."""
        self._service(name).stop()

    def restart(self, name: str) -> None:
        """Ends one service in order, then brings the stack up again."""
        self.stop(name)
        self.up()

    def _service(self, name: str) -> Service:
        return next(service for service in self._services(self._remembered()) if service.name == name)

    def _remembered(self, *, damaged_too: bool = False) -> State:
        try:
            return State.load(self.layout) or State()
        except Stop:
            if not damaged_too:
                raise
            return State()

    def _assign_ports(self, state: State) -> None:
        """Keeps the ports of what runs, unless others are asked for; finds ports for the rest."""
        running = {service.name for service in self._services(state) if processes.find(service.command)}
        kept = {
            name: port
            for name, port in state.ports.items()
            if ("kafka" if name == "controller" else name) in running and self._asked.get(name, port) == port
        }
        missing = [name for name in _listeners(state) if name not in kept]
        state.ports = kept | ports.choose(missing, self._asked, state.ports, set(kept.values()))

    def _services(
        self, state: State, jars: Jars = NO_JARS, programs: Path = Path(), who: Account | None = None
    ) -> list[Service]:
        """The services in the order of their dependence; without jars and programs good for finding and ending them."""
        logging = self.layout.config("log4j2.properties")
        java, apart = Java(jars.classpath, logging), Java(registry.classpath(jars.registry), logging)
        data = Path(state.postgres_data or self.layout.data("postgres"))
        cluster = postgres.Cluster(self.layout, state, programs, data, who, self._schema)
        return [
            cluster.service(),
            kafka.service(self.layout, state, java),
            *([registry.service(self.layout, state, apart)] if state.has_registry else []),
            connect.service(self.layout, state, java, jars.plugins),
        ]

    def _start(self, services: list[Service], watcher: Watcher) -> None:
        """All at once: Connect takes longest and waits for Kafka by itself. The first failure ends the wait."""
        cancelled, failures = threading.Event(), list[BaseException]()

        def start(service: Service) -> None:
            try:
                watcher.service(service.name, "starting")
                service.start(cancelled)
                if not cancelled.is_set():
                    watcher.service(service.name, "ready")
            except BaseException as failure:
                failures.append(failure)
                cancelled.set()

        with ThreadPoolExecutor(max_workers=len(services)) as pool:
            try:
                list(pool.map(start, services))
            except BaseException:  # an interrupt must not wait for services that may never come
                cancelled.set()
                raise
        if failures:
            raise failures[0]


def _listeners(state: State) -> list[str]:
    """The names of the ports that this stack listens on."""
    return [name for name in ports.PREFERRED if name != "registry" or state.has_registry]


def _status(service: Service) -> ServiceStatus:
    process = processes.find(service.command)
    pid = process.pid if process else None
    return ServiceStatus(service.name, service.state, service.port, pid, service.command.log)
