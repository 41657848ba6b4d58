"""Every panel shows data: a real Prometheus with our rules scrapes a real consumer at work."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import yaml

from ops.grafana.__main__ import rendered
from tests.envelopes import change, row
from tests.observability import RULES, program
from tests.stacks import local_only
from tests.workload import Workload
from tests.world import World

Panel = tuple[str, str]  # title, PromQL


class Prometheus:
    """A running server, asked over its API."""

    def __init__(self, url: str) -> None:
        self._url, self._opener = url, urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ready(self) -> bool:
        try:
            with self._opener.open(f"{self._url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def values(self, query: str) -> list[float]:
        """What an instant query gives now, without the series that are no number."""
        asked = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with self._opener.open(asked, timeout=10) as reply:
            result = json.loads(reply.read())["data"]["result"]
        found = [float(series["value"][1]) for series in result]
        return [value for value in found if not math.isnan(value)]


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Debian's Prometheus on a free port, with the rules as they are, read every second."""
    folder.mkdir()
    for path in RULES:
        (folder / path.name).write_text(re.sub(r"interval: \d+m", "interval: 1s", path.read_text()))
    content = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["*.yml"],
        "scrape_configs": [{"job_name": "embed-consumer", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(content))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = ("--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address={address}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program("prometheus"), *settings], cwd=folder, stdout=log, stderr=log)
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)


def panels() -> list[Panel]:
    """Every query of the dashboard, as Grafana would send it with all jobs chosen."""
    content: dict[str, Any] = json.loads(rendered()["embed-consumer.json"])
    return [
        (panel["title"], target["expr"].replace("$job", ".*").replace("$__rate_interval", "1m"))
        for panel in content["panels"]
        for target in panel.get("targets", ())
    ]


@contextmanager
def at_work(world: World) -> Iterator[None]:
    """Rows change, a snapshot row comes, and some events are no events, until the block ends."""
    load, stopping = Workload(world, 71), Event()
    load.fill(20)

    def play() -> None:
        number = 900_000
        while not stopping.is_set():
            load.run(5, pause=0.1, stopping=stopping)
            number += 1
            world.produce(change(row(number, body="A row of a snapshot."), "r"), (b'{"id": 1}', b"no event"))

    player = Thread(target=play)
    player.start()
    try:
        yield
    finally:
        stopping.set()
        player.join(60)


@local_only
def test_every_panel_shows_data_of_a_consumer_at_work(world: World, tmp_path: Path) -> None:
    program("prometheus")
    world.migrate()
    asked = panels()
    assert len(asked) > 35
    with world.consumer() as consumer:
        world.until(lambda: consumer.lines("ready to join"))
        target = consumer.lines("ready to join")[0]["http"].removeprefix("http://")
        with prometheus(tmp_path / "prometheus", target) as server, at_work(world):
            world.until(server.ready)
            empty = {"all of them"}

            def all_show() -> bool:
                empty.clear()
                empty.update(f"{title}: {query}" for title, query in asked if not server.values(query))
                return not empty

            try:
                world.until(all_show, timeout=150)
            except AssertionError:
                raise AssertionError("no data:\n" + "\n".join(sorted(empty))) from None
            assert server.values('ALERTS{alertname=~"FreshnessUnmeasured|ConsumerStopped", alertstate="firing"}') == []
