"""What the checks of rules and dashboards share: Debian's programs, and which metrics there are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from consumer.observe import CATALOGUE
from tests.stacks import unavailable

OPS = Path(__file__).parents[1] / "ops"
RULES = sorted((OPS / "prometheus/rules").glob("*.yml"))
RUNBOOKS = sorted((OPS / "runbooks").glob("*.md"))
_BLOCK = re.compile(r"^( *)```sh (\w+)\n(.*?)^ *```\n( *Shows .*?)(?=\n\n| *\n *(?:\d+\.|-|```)|\Z)", re.M | re.S)


def program(name: str) -> str:
    """Where promtool, prometheus or amtool is; a test that needs a missing one fails in CI and skips elsewhere."""
    return shutil.which(name) or unavailable(f"{name} is not installed; Debian's prometheus packages have it")


def rules(path: Path | None = None) -> list[dict[str, Any]]:
    """The recording and alerting rules of one file, or of all."""
    files = [path] if path else RULES
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def known_names() -> set[str]:
    """Every series name of the catalogue, as exposed, and of the recording rules."""
    names = {rule["record"] for rule in rules() if "record" in rule}
    for spec in CATALOGUE:
        parts = ("_bucket", "_sum", "_count") if spec.kind == "histogram" else ("",)
        names |= {spec.name + part for part in parts}
    return names


def used_names(query: str) -> set[str]:
    """The series of ours that a PromQL query names."""
    return set(re.findall(r"[a-z_:]*embedding_pipeline[\w:]*", query))


class Shown(NamedTuple):
    """A command that runbooks print, the fault it is about, and the texts that its output has under that fault."""

    fault: str
    command: str
    texts: tuple[str, ...]


def printed(runbook: str) -> list[Shown]:
    """The commands of a runbook's diagnosis: blocks of `sh` with a fault's name, and below each what it shows."""
    diagnosis = runbook.split("## Diagnosis\n")[1].split("## Mitigation\n")[0]
    found = []
    for indent, fault, command, text in _BLOCK.findall(diagnosis):
        lines = [line.removeprefix(indent) for line in command.splitlines()]
        (sentence, *_) = re.split(r"\.(?=\s|$)", " ".join(text.split()))
        texts = re.findall(r"`([^`]+)`", sentence)
        assert texts, f"nothing is said of what {command!r} shows"
        found.append(Shown(fault, "\n".join(lines), tuple(texts)))
    assert len(found) == diagnosis.count("```sh"), "a block without a fault, or without what it shows"
    return found


def diagnoses() -> list[Shown]:
    """Every command of all runbooks, once a fault, with all that any of them says of it."""
    texts: dict[tuple[str, str], tuple[str, ...]] = {}
    for path in RUNBOOKS:
        for fault, command, shows in printed(path.read_text(encoding="utf-8")):
            texts[fault, command] = (*texts.get((fault, command), ()), *shows)
    return [Shown(fault, command, shows) for (fault, command), shows in texts.items()]
