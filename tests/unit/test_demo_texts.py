"""The demo's texts: what this Python brings, and what a Python without sources is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.errors import Stop
from consumer.local.demo.searches import NAMES
from consumer.local.demo.texts import collect


def test_this_python_has_thousands_of_texts_of_every_kind() -> None:
    texts = collect(2000, NAMES)
    assert len(texts) == 2000
    assert len({text.name for text in texts}) == 2000
    assert {text.kind for text in texts} == {"topic", "module", "class", "method", "function"}
    assert len({text.module for text in texts}) > 150
    assert not [text.name for text in texts if "\0" in text.text or not text.text.strip()]
    assert set(NAMES) <= {text.name for text in texts}
    assert texts == collect(2000, NAMES)


def test_few_rows_still_have_the_wanted_names_and_long_texts() -> None:
    texts = collect(200, NAMES)
    assert len(texts) == 200
    assert set(NAMES) <= {text.name for text in texts}
    assert max(len(text.text) for text in texts) > 2000


def test_sources_are_parsed_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    words = "Waits for somebody to import it, and then leaves a trace of that."
    functions = "".join(f'def public_{n}():\n    """{words} Number {n}."""\n' for n in range(120))
    (tmp_path / "trap.py").write_text(
        f'"""{words}"""\nopen({str(trap)!r}, "w")\n{functions}'
        f'def _private():\n    """{words} Private."""\n'
        f'class Cage:\n    """{words} Cage."""\n    def inner(self):\n        """{words} Inner."""\n'
    )
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text(f'"""{words} Skipped."""\n')
    found = {text.name: (text.module, text.kind) for text in collect(1000, library=tmp_path) if text.kind != "topic"}
    assert not trap.exists()
    assert found["trap"] == ("trap", "module")
    assert found["trap.public_7"] == ("trap", "function")
    assert found["trap.Cage"] == ("trap", "class")
    assert found["trap.Cage.inner"] == ("trap", "method")
    assert len(found) == 123


def test_a_python_without_sources_is_named(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="sources of its standard library") as stopped:
        collect(2000, library=tmp_path)
    assert str(tmp_path) in str(stopped.value)
    assert stopped.value.exit_code == 1
