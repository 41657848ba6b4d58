"""The demo as a person or a pipeline runs it: the real command, its own stack, the real model."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import yaml

from consumer.errors import Exit
from consumer.local import Stack
from tests.stacks import local_only
from tests.world import CommandProcess

pytestmark = [pytest.mark.stack, local_only, pytest.mark.timeout(300)]

# Somebody's own database, which the demo must not so much as try to reach.
ELSEWHERE = {"EMBEDDING_STORE__DSN": "postgresql://embedder@127.0.0.1:1/mine", "EMBEDDING_GROUP": "mine"}


class Demos:
    """Runs `embed-consumer demo` in a folder, and sees to it that nothing outlives the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "demo home"
        self.processes: list[CommandProcess] = []

    def start(self, *arguments: str) -> CommandProcess:
        command = ["demo", "--home", str(self.home), *arguments]
        self.processes.append(CommandProcess(command, self.folder, ELSEWHERE, f"demo-{len(self.processes)}"))
        return self.processes[-1]

    def until(self, condition: Callable[[], Any], process: CommandProcess, seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            assert process.alive(), process.output()
            assert time.monotonic() < deadline, process.output()
            time.sleep(0.05)
        return answer

    def consumer_pid(self) -> int | None:
        """The consumer's, as the demo noted it; None before it was started."""
        try:
            return int(json.loads((self.home / "consumer.json").read_text())["pid"])
        except FileNotFoundError:
            return None

    def service_pids(self) -> list[int]:
        return [status.pid for status in Stack(self.home / "stack").status() if status.pid]


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[Demos]:
    made = Demos(tmp_path)
    yield made
    for process in made.processes:
        if process.alive():
            process.kill()
    if made.home.exists():
        made.start("--stop").wait(60)


def test_the_whole_demo_holds_and_leaves_a_running_stack_until_stopped(demos: Demos) -> None:
    process = demos.start("--rows", "250", "--json")
    assert process.wait(240) == Exit.DONE, process.output()
    told = json.loads(process.out.read_text())
    assert told["ok"] is True
    assert len(told["checks"]) >= 14
    assert all(check["holds"] for check in told["checks"])
    assert 0 < told["freshness_p50_ms"] <= told["freshness_p99_ms"]
    changes = {change["change"]: change for change in told["changes"]}
    assert changes["metadata column"]["embedded"] == changes["column the index ignores"]["embedded"] == 0
    assert changes["one paragraph of many"]["reused"] > changes["one paragraph of many"]["embedded"]
    assert told["embeds_saved"] > 0
    assert [search["shows"].split(" ", 1)[0] for search in told["searches"]] == ["the"] * 3
    assert_quiet(process.output())

    settings = yaml.safe_load((demos.home / "embed-consumer.yaml").read_text())
    endpoints = Stack(demos.home / "stack").endpoints()
    with psycopg.connect(endpoints.reader_dsn, autocommit=True) as store:
        assert_store_equals_source(store, endpoints.source_owner_dsn)
        edit = "UPDATE docs SET text = 'Brews green tea.' WHERE id = (SELECT min(id) FROM docs)"
        subprocess.run([demos.home / "sql", "shop", edit], check=True, capture_output=True)
        find = "SELECT 1 FROM embedding.chunks WHERE content LIKE '%%Brews green tea.'"
        deadline = time.monotonic() + 30
        while not store.execute(find).fetchall():
            assert time.monotonic() < deadline, "the consumer that was left running does not apply changes"
            time.sleep(0.05)
    with urllib.request.urlopen(f"http://{settings['http']['listen']}/metrics", timeout=5) as page:
        assert b"embedding_pipeline_freshness_seconds_count" in page.read()

    running = [*demos.service_pids(), demos.consumer_pid()]
    assert len(running) == 4
    assert all(runs(pid) for pid in running)
    assert demos.start("--stop").wait(60) == Exit.DONE
    assert not [pid for pid in running if runs(pid)]
    assert not demos.home.exists()


def test_a_demo_whose_consumer_dies_fails_names_the_log_and_ends_everything(demos: Demos) -> None:
    process = demos.start("--rows", "200", "--json")
    pid = demos.until(demos.consumer_pid, process)
    services = demos.service_pids()
    psutil.Process(pid).kill()
    assert process.wait(90) == Exit.FAILED
    assert str(demos.home / "consumer.log") in process.output()
    assert "Traceback" not in process.output()
    told = json.loads(process.out.read_text())
    assert told["ok"] is False
    assert "consumer" in told["error"]
    assert len(services) == 3
    assert not [pid for pid in services if runs(pid)]
    assert (demos.home / "stack" / "logs" / "connect.log").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_what_it_started(demos: Demos, number: signal.Signals) -> None:
    process = demos.start("--rows", "200")
    demos.until(lambda: (demos.home / "stack" / "state.json").exists() and demos.service_pids(), process)
    process.signal(number)
    assert process.wait(120) == Exit.INTERRUPTED, process.output()
    assert demos.service_pids() == []
    assert "Traceback" not in process.output()


def test_a_folder_that_is_not_the_demos_is_left_alone(demos: Demos) -> None:
    demos.home.mkdir()
    (demos.home / "thesis.txt").write_text("mine")
    process = demos.start()
    assert process.wait(60) == Exit.USAGE
    assert "not a folder of the demo" in process.output()
    assert [path.name for path in demos.home.iterdir()] == ["thesis.txt"]
    (demos.home / "thesis.txt").unlink()
    demos.home.rmdir()


def runs(pid: int | None) -> bool:
    """Whether there is such a process, other than one that has ended and waits to be reaped."""
    try:
        return psutil.Process(pid or 0).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_quiet(output: str) -> None:
    """No log line, no warning and no control code between what is told."""
    lines = output.splitlines()
    assert not [line for line in lines if line.startswith("{") or "warning" in line.lower()]
    assert "\x1b" not in output
    assert [line for line in lines if "rows/s" in line]


def assert_store_equals_source(store: psycopg.Connection, source_dsn: str) -> None:
    """Every row is there with its beginning, and nothing else is: read here, without the demo's own code."""
    with psycopg.connect(source_dsn) as source:
        rows = source.execute("SELECT id, name || E'\\n\\n' || text, reviewed FROM docs").fetchall()
    chunks: dict[int, tuple[str, bool]] = {
        key: (content, reviewed)
        for key, content, reviewed in store.execute(
            "SELECT (source_key->>'id')::int, content, (metadata->>'reviewed')::bool FROM embedding.chunks"
            " WHERE chunk_no = 0"
        )
    }
    assert chunks.keys() == {key for key, _, _ in rows}
    assert all(text.startswith(chunks[key][0]) and chunks[key][1] == reviewed for key, text, reviewed in rows)
