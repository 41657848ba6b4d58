"""What a person sees: stages, a progress bar, the live view, searches. Without a terminal the same in plain lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from consumer.local.demo import figures
from consumer.local.demo.figures import Check, Found, Report, Snapshot, percentile
from consumer.local.display import shown
from consumer.local.stack import Watcher
from consumer.store import SearchHit

_LINE_EVERY = 5.0  # seconds between two lines where there is no terminal
_DRAW_EVERY = 0.1
_BLOCKS = "▁▂▃▄▅▆▇█"


class Screen:
    """`aside` (stderr) gets progress, `out` (stdout) the searches and what to try next; None: nothing goes there."""

    def __init__(self, aside: Console, out: Console | None) -> None:
        self._aside, self._out = aside, out
        self._number = 0

    def stage(self, title: str, what: str) -> None:
        """A new part of the story begins."""
        self._number += 1
        heading = Text.assemble("\n", (f"{self._number}  {title}", "bold"), "  ", (what, "dim"))
        self._aside.print(heading)

    def line(self, label: str, text: str) -> None:
        """One fact."""
        self._aside.print(Text(f"{label:<10} {text}"), soft_wrap=True)

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Something that takes seconds."""
        return self._aside.status(Text(what)) if self._aside.is_terminal else nullcontext()

    def stack(self) -> AbstractContextManager[Watcher]:
        """The services coming up."""
        return shown(self._aside)

    @contextmanager
    def progress(self, rows: int) -> Iterator[Callable[[int], None]]:
        """The snapshot: call it with the number of rows that are done."""
        if not self._aside.is_terminal:
            yield _Lines(self, rows)
            return
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows  {task.fields[rate]}  ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._aside, transient=True) as bar:
            task, began = bar.add_task("", total=rows, rate=""), time.monotonic()

            def update(done: int) -> None:
                bar.update(task, completed=done, rate=f"{done / max(time.monotonic() - began, 1e-3):,.0f} rows/s")

            yield update

    def snapshot(self, snapshot: Snapshot) -> None:
        """What became of it."""
        self.line(
            "searchable",
            f"{snapshot.rows:,} rows as {snapshot.chunks:,} chunks in {snapshot.seconds:.1f} s,"
            f" {snapshot.rows_per_second:,.0f} rows/s",
        )

    @contextmanager
    def live(self, groups: Sequence[figures.Group]) -> Iterator[Callable[[], None]]:
        """The live view of the changes; call it when they have moved on."""
        if not self._aside.is_terminal:
            yield lambda: None
            self._aside.print(self._changes(groups))
            return
        drawn = 0.0
        with Live(console=self._aside, auto_refresh=False) as live:

            def draw() -> None:
                nonlocal drawn
                if (now := time.monotonic()) - drawn >= _DRAW_EVERY:
                    drawn = now
                    live.update(self._changes(groups), refresh=True)

            yield draw
            live.update(self._changes(groups), refresh=True)

    def searches(self, found: Sequence[Found]) -> None:
        """Question by question: what it shows, the hits and where they came from."""
        self.stage("Three searches", "as `embed-consumer search` would answer")
        if self._out is None:
            return
        for search in found:
            self._say(("", ""))
            self._say((search.shows, "bold"), (f"  “{search.question}”", "cyan"))
            if search.before is not None:
                self._hit("before", search.before)
            for rank, hit in enumerate(search.hits, 1):
                self._hit(str(rank), hit)
                if rank == 1:
                    self._origin(hit, search.model)

    def checks(self, checks: Sequence[Check]) -> None:
        """Every claim with its figures."""
        self.stage("Checked", "against the store, the source and the consumer's own counters")
        shown = Table.grid(padding=(0, 1))
        for check in checks:
            mark = Text("ok", style="green") if check.holds else Text("NO", style="bold red")
            told = Text.assemble(f"{check.claim} ", (f"({check.detail})", "dim"))
            if self._aside.is_terminal:
                shown.add_row(mark, told)
            else:
                self._aside.print(Text.assemble(mark, " ", told), soft_wrap=True)
        if self._aside.is_terminal:
            self._aside.print(shown)

    def summary(self, report: Report) -> None:
        """The demo in one paragraph."""
        if self._out is None or report.snapshot is None:
            return
        seconds = report.freshness_seconds
        self._out.print(
            Text.assemble(
                "\nEdits of text, from commit on the source to searchable: ",
                (f"p50 {_ms(percentile(seconds, 0.5))}, p99 {_ms(percentile(seconds, 0.99))}", "bold"),
                f" ({len(seconds)} edits, one at a time, on this machine). "
                f"First load: {report.snapshot.rows:,} rows in {report.snapshot.seconds:.0f} s. "
                f"All {len(report.checks.made)} checks hold. {report.seconds:.0f} s in all.",
            )
        )

    def next_steps(self, steps: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Headings with lines under them that a person may copy; nothing is wrapped or cut."""
        for heading, lines in steps if self._out is not None else ():
            self._out_line(Text.assemble("\n", (heading, "bold")))
            for line in lines:
                self._out_line(Text(f"  {line}"))

    def _hit(self, label: str, hit: SearchHit) -> None:
        known, key = hit.metadata or {}, json.dumps(hit.source_key)
        text = " ".join(hit.content.removeprefix(str(known.get("name"))).split())
        piece = f"  chunk {hit.chunk_no}" if hit.chunk_no else ""
        score = f"{1 - hit.distance:.2f}  "
        self._say((f"  {label:<7}", "dim"), score, (str(known.get("name")), "bold"), f"  {key}{piece}  ", (text, "dim"))

    def _origin(self, hit: SearchHit, model: str) -> None:
        committed = f"{hit.source_committed_at:%H:%M:%S.%f}"[:-3] if hit.source_committed_at else "unknown"
        place = f"{hit.kafka_topic}, partition {hit.kafka_partition}, offset {hit.kafka_offset}"
        self._say(("         from  ", "dim"), place)
        self._say(
            ("         when  ", "dim"), f"committed {committed}, embedded {f'{hit.embedded_at:%H:%M:%S.%f}'[:-3]} UTC"
        )
        self._say(("         model ", "dim"), model)

    def _say(self, *parts: str | tuple[str, str]) -> None:
        """One line of the searches, cut where the terminal ends."""
        if self._out is not None:
            self._out.print(Text.assemble(*parts), no_wrap=True, overflow="ellipsis")

    def _out_line(self, text: Text) -> None:
        if self._out is not None:
            self._out.print(text, soft_wrap=True)

    def _changes(self, groups: Sequence[figures.Group]) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 1))
        # Numbers are never cut; where the terminal is narrow, the names of the changes are.
        table.add_column("change", no_wrap=True, min_width=24 if self._aside.width >= 74 else None)
        for title, width in (("done", 5), ("p50", 6), ("p99", 6), ("embedded", 8), ("reused", 6), ("skipped", 7)):
            table.add_column(title, justify="right", no_wrap=True, min_width=width)
        for group in groups:
            table.add_row(
                group.title,
                f"{group.done}/{group.total}",
                _ms(percentile(group.seconds, 0.5)),
                _ms(percentile(group.seconds, 0.99)),
                *(f"{count}" for count in (group.embedded, group.reused, group.skipped)),
            )
        return Group(table, self._summary(groups))

    def _summary(self, groups: Sequence[figures.Group]) -> Text:
        seconds = [value for group in groups if group.new_text for value in group.seconds]
        latest = [value for group in groups for value in group.seconds][-24:]
        return Text.assemble(
            ("freshness of edits", "bold"),
            f"  p50 {_ms(percentile(seconds, 0.5))}  p99 {_ms(percentile(seconds, 0.99))}  ",
            (_sparkline(latest) if self._aside.encoding.startswith("utf") else "", "cyan"),
            f"\n{sum(group.events for group in groups)} events, "
            f"{sum(group.saved for group in groups)} embeds saved by the hash, "
            f"{sum(group.reused for group in groups)} chunks reused",
        )


class _Lines:
    def __init__(self, screen: Screen, total: int) -> None:
        self._screen, self._total = screen, total
        self._began = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said < _LINE_EVERY:
            return
        self._said = now
        rate = done / (now - self._began)
        left = f", about {(self._total - done) / rate:.0f} s left" if rate else ""
        self._screen.line("snapshot", f"{done:,} of {self._total:,} rows, {rate:,.0f} rows/s{left}")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _sparkline(seconds: Sequence[float]) -> str:
    most = max(seconds, default=1.0)
    return "".join(_BLOCKS[min(int(value / most * len(_BLOCKS)), len(_BLOCKS) - 1)] for value in seconds)
