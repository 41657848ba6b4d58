"""The newest run of every group as one Markdown page with plots beside the runs: `python -m benchmarks.summary`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, newest
from benchmarks.plots import DRAWINGS, plots

PAGE = RESULTS / "README.md"
HEAD = """# The newest run of every group

Made by `python -m benchmarks.summary`, and by every run of `make bench`. A ratio is the value over that of its
baseline, measured in the same run. The plots are drawn from the same files (`benchmarks/plots.py`).
"""


def summary(folder: Path = RESULTS) -> str:
    """The page, from the runs in `folder`."""
    return "\n".join([HEAD, *(_section(group, run) for group, run in newest(folder).items())])


def _section(group: str, run: dict[str, Any]) -> str:
    facts = run["machine"]
    where = f"{facts['cores']} cores ({facts['cpu']}), {facts['memory_gib']} GiB, load before {facts['load_before']}"
    lines = [f"## {group}", "", f"[{run['file']}]({run['file']}): {where}, {facts['gpu']}", ""]
    if group in DRAWINGS:
        lines += [f"![{group}]({group}.svg)", ""]
    lines += ["| figure | value | unit | baseline | ratio |", "|---|---|---|---|---|"]
    for figure in run["figures"]:
        ratio = "" if figure["ratio"] is None else figure["ratio"]
        lines.append(f"| `{figure['name']}` | {figure['value']} | {figure['unit']} | {figure['baseline']} | {ratio} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Write the page and its plots; a plot of a group that has none any more goes."""
    drawn = plots(newest())
    for old in RESULTS.glob("*.svg"):
        if old.stem not in drawn:
            old.unlink()
    for group, image in drawn.items():
        (RESULTS / f"{group}.svg").write_bytes(image)
    PAGE.write_text(summary(), encoding="utf-8")


if __name__ == "__main__":
    main()
