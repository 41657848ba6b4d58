"""Plots of the newest run of each group, as SVG from its JSON alone: the same run gives the same bytes.

Most are one drawing: a dot for each figure, an open one for its baseline, and the line between them is the ratio.
"""

from __future__ import annotations

import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

Run = Mapping[str, Any]
Series = Sequence[tuple[float, float]]

WIDTH = 9.0  # inches
_STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "embed-consumer",  # ids are random without
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
KINDS = {
    "insert": "insert",
    "edit": "edit",
    "load": "first load, without vector index",
    "index_build": "building the index after it",
    "unchanged": "update that changes nothing",
}
_OURS, _BASE = "#1f5fa8", "0.45"


def plots(runs: Mapping[str, Run]) -> dict[str, bytes]:
    """Group -> image, of the groups of which a picture says something."""
    return {group: _svg(DRAWINGS[group], run) for group, run in runs.items() if group in DRAWINGS}


def _svg(draw: Callable[[Run], Canvas], run: Run) -> bytes:
    with _plain():
        canvas, out = draw(run), io.BytesIO()
        facts = run["machine"]
        canvas.suptitle(f"{run['group']} {run['at']}, {facts['cores']} cores ({facts['cpu']})", fontsize=9, color=_BASE)
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


@contextmanager
def _plain() -> Iterator[None]:
    """Whatever style this machine's user has chosen."""
    with style.context(["default", dict(_STYLE)]):
        yield


def _ratios(run: Run) -> Canvas:
    """All figures that have a ratio, each over its baseline."""
    rows = [(_label(run, f), f["ratio"], 1.0) for f in run["figures"] if f["ratio"] is not None]
    return _dots(rows, "times the baseline", log=True)


def _values(run: Run, unit: str, *, log: bool = False) -> Canvas:
    """All figures in this unit, beside their baselines."""
    found = [f for f in run["figures"] if f["unit"] == unit]
    return _dots(
        [(_label(run, f), f["value"], f["value"] / f["ratio"] if f["ratio"] else None) for f in found], unit, log
    )


def _label(run: Run, figure: Mapping[str, Any]) -> str:
    """The figure's name and, below it, what it is compared with."""
    name = figure["name"].removeprefix(f"{run['group']}_").replace("_", " ")
    return f"{name}\nbaseline: {figure['baseline'].replace('_', ' ')}" if figure["baseline"] else name


def _dots(rows: Sequence[tuple[str, float, float | None]], unit: str, log: bool) -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 1.1 + 0.42 * len(rows)), layout="constrained")
    axes = canvas.subplots()
    for place, (_, value, base) in enumerate(rows):
        if base is not None:
            axes.plot([base, value], [place, place], color=_OURS, linewidth=1.5, alpha=0.4, zorder=2)
            axes.plot([base], [place], "o", color=_BASE, fillstyle="none", zorder=3, label="_" if place else "baseline")
        axes.plot([value], [place], "o", color=_OURS, zorder=3)
        left = base is not None and value < base and (log or value > base / 10)
        axes.annotate(_number(value), (value, place), (-7 if left else 7, 0), textcoords="offset points", va="center",
                      ha="right" if left else "left", color=_OURS)  # fmt: skip
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _scale(axes, [x for _, value, base in rows for x in (value, base) if x], log)
    axes.set_xlabel(f"{unit}; open: the baseline" if any(base for _, _, base in rows) else unit)
    axes.grid(False, axis="y")
    return canvas


def _scale(axes: Axes, values: Sequence[float], log: bool) -> None:
    """With room for the numbers beside the outermost dots."""
    low, high = min(values), max(values)
    if log:
        room = (high / low) ** 0.12
        axes.set_xscale("log")
        axes.set_xlim(low / room, high * room)
        shown = "25" if high > 2 * low else "123456789"
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: _number(x) if f"{x:e}"[0] in shown else ""))
    else:
        axes.set_xlim(0, high * 1.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _number(x)))


def _growth(run: Run) -> Canvas:
    """Cost of an event, size and memory by documents stored; rates by partitions and by processes."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for figure in run["figures"]:
        if match := re.fullmatch(r"growth_(\w+)_(\d+)", figure["name"]):
            found[match[1]].append((int(match[2]), figure["value"]))
    canvas = Canvas(figsize=(WIDTH, 7.4), layout="constrained")
    (cost, size), (memory, rate) = canvas.subplots(2, 2)
    for place, (kind, what) in enumerate(KINDS.items()):
        _line(cost, found[f"{kind}_us"], what, color=f"C{place}")
        _line(cost, _n_log_n(found[f"{kind}_us"]), "_" if place else "n log n", color=_BASE, linestyle=":", marker="")
    cost.set_yscale("log")
    cost.set_ylim(top=cost.get_ylim()[1] * 12)  # room for the names
    _by_documents(cost, "Cost of an event", "µs")
    _line(size, found["bytes"], "all tables and indexes")
    _line(size, found["index_bytes"], "the vector index")
    _by_documents(size, "Size of the store", "bytes a document")
    _line(memory, found["rss_mib"], "one process, at most")
    _by_documents(memory, "Resident memory", "MiB")
    for kind in ("partitions", "processes"):
        _line(rate, found[kind], f"by {kind}")
    _from_zero(rate, "Events that change nothing", "events/s", "partitions, processes")
    return canvas


def _n_log_n(series: Series) -> Series:
    """What the first cost would have become."""
    return [(n, series[0][1] * math.log(n) / math.log(series[0][0])) for n, _ in series]


def _line(axes: Axes, series: Series, label: str, **how: Any) -> None:
    xs, ys = zip(*series, strict=True) if series else ((), ())
    drawn: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 1.3, "label": label}
    axes.plot(xs, ys, **(drawn | how))


def _by_documents(axes: Axes, title: str, unit: str) -> None:
    axes.set_xscale("log")
    _from_zero(axes, title, unit, "documents stored")


def _from_zero(axes: Axes, title: str, unit: str, along: str) -> None:
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, axes.get_ylim()[1] * 1.1)
    axes.set(title=title, ylabel=unit, xlabel=along)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _number(y)))
    if axes.get_yscale() == "linear":
        axes.legend(fontsize=8)
    else:
        axes.legend(fontsize=7, loc="upper left", ncols=2)


def _number(value: float) -> str:
    """With the digits that tell something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


DRAWINGS: Mapping[str, Callable[[Run], Canvas]] = {
    "backlog": partial(_values, unit="MiB"),
    "chunks": _ratios,
    "decode": _ratios,
    "demo": partial(_values, unit="s"),
    "engine": _ratios,
    "freshness": partial(_values, unit="ms", log=True),
    "growth": _growth,
    "scrape": partial(_values, unit="ms", log=True),
    "segments": _ratios,
    "skip": _ratios,
    "write": _ratios,
}
