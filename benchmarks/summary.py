"""The newest run of every group as one Markdown page beside the runs: `python -m benchmarks.summary`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS

PAGE = RESULTS / "README.md"
HEAD = """# The newest run of every group

Made by `python -m benchmarks.summary`, and by every run of `make bench`. A ratio is the value over that of its
baseline, measured in the same run.
"""


def summary(folder: Path = RESULTS) -> str:
    """The page, from the runs in `folder`."""
    newest: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if "group" in run and run["at"] >= newest.get(run["group"], run)["at"]:
            newest[run["group"]] = {**run, "file": path.name}
    return "\n".join([HEAD, *(_section(group, run) for group, run in sorted(newest.items()))])


def _section(group: str, run: dict[str, Any]) -> str:
    facts = run["machine"]
    where = f"{facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB, load before {facts['load_before']}"
    lines = [f"## {group}", "", f"[{run['file']}]({run['file']}): {where}, {facts['gpu']}", ""]
    lines += ["| figure | value | unit | baseline | ratio |", "|---|---|---|---|---|"]
    for figure in run["figures"]:
        ratio = "" if figure["ratio"] is None else figure["ratio"]
        lines.append(f"| `{figure['name']}` | {figure['value']} | {figure['unit']} | {figure['baseline']} | {ratio} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the page."""
    PAGE.write_text(summary(), encoding="utf-8")


if __name__ == "__main__":
    main()
