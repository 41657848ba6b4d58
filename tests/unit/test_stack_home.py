"""The folder of a local stack: what is removed from it, and what is not."""

from __future__ import annotations

from pathlib import Path

from consumer.local import Stack
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


def test_a_damaged_state_does_not_keep_a_stack_from_being_purged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Layout(home).create()
    Layout(home).state.write_text("{")
    Stack(home).down(purge=True)
    assert not home.exists()
