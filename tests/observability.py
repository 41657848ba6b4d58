"""What the checks of rules and dashboards share: Debian's programs, and which metrics there are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from consumer.observe import CATALOGUE
from tests.stacks import unavailable

OPS = Path(__file__).parents[1] / "ops"
RULES = sorted((OPS / "prometheus/rules").glob("*.yml"))


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
