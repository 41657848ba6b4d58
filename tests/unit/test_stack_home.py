"""The folder of a local stack: what is removed from it, and what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from consumer.errors import Exit, Retry, Stop
from consumer.local import Stack
from consumer.local.files import exclusive
from consumer.local.state import Layout, State


def test_purge_leaves_a_folder_alone_that_is_no_stack(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").touch()
    Stack(tmp_path).down(purge=True)
    assert (tmp_path / "data" / "mine").exists()


def test_purge_removes_what_a_stack_made_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Layout(home).create()
    State.new().save(Layout(home))
    (home / "mine").touch()
    Stack(home).down(purge=True)
    assert [path.name for path in home.iterdir()] == ["mine"]
    (home / "mine").unlink()
    State.new().save(Layout(home))
    Stack(home).down(purge=True)
    assert not home.exists()


def test_who_waits_for_another_process_is_told_so(tmp_path: Path) -> None:
    told: list[str] = []
    with exclusive(tmp_path / "lock", 60, told.append):
        assert told == []
        with pytest.raises(Retry, match="Another process"), exclusive(tmp_path / "lock", 1.5, told.append):
            pass
    assert told == [f"waiting for another process that is at work on {tmp_path} (up to 2 s)"]


@pytest.mark.parametrize("name", ["config/app.toml", "data/.keep", "embed-consumer.yaml", ".gitignore.mine"])
def test_a_folder_with_files_of_others_does_not_become_a_stack(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.touch()
    with pytest.raises(Stop, match="no stack made") as refused:
        Stack(tmp_path).up()
    assert refused.value.exit_code == Exit.USAGE
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_start_that_was_killed_at_its_very_beginning_does_not_keep_the_next_one_away(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for _ in range(2):
        layout.create()
        layout.lock.touch()
        (tmp_path / ".state.json.a1b2c3").touch()
    State.new().save(layout)
    (tmp_path / "mine").touch()
    layout.create()


def test_a_damaged_state_does_not_keep_a_stack_from_being_purged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Layout(home).create()
    Layout(home).state.write_text("{")
    Stack(home).down(purge=True)
    assert not home.exists()


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Stop, match=r"file/embed-consumer cannot keep .* XDG_CACHE_HOME") as refused:
        Stack(tmp_path / "home").up()
    assert refused.value.exit_code == Exit.USAGE


def test_what_runs_of_a_stack_whose_folder_was_removed_is_found_and_ended(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home")
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    markers = {"postgres": layout.data("postgres"), "java": layout.config("kafka.properties")}
    running = [subprocess.Popen([name, *sleep[1:], str(path)], executable=sleep[0]) for name, path in markers.items()]
    try:
        stack = Stack(layout.home)
        told = {service.name: (service.state, service.pid) for service in stack.status()}
        postgres, kafka = (process.pid for process in running)
        expected = {"postgres": ("starting", postgres), "kafka": ("starting", kafka), "connect": ("stopped", None)}
        assert told == expected
        stack.down()
        assert {service.state for service in stack.status()} == {"stopped"}
        assert not layout.home.exists()
    finally:
        for process in running:
            process.kill()
            process.wait()
