"""The text that a scrape gets: Prometheus's own format, or OpenMetrics.

prometheus_client writes the same, byte for byte (a test holds the two together), but checks and escapes each label of
each series every time: four times the processor time, which a scrape takes from the worker. Here it is done once.
"""

from __future__ import annotations

from collections.abc import Hashable

from prometheus_client import CollectorRegistry
from prometheus_client.utils import floatToGoString


class Exposition:
    """The pages of one registry, whose names are of letters, digits, `_` and `:` alone. Several threads may ask."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._heads: dict[Hashable, str] = {}  # of a series: its name and labels as written

    def page(self, *, openmetrics: bool) -> bytes:
        """Every series as it is now."""
        lines: list[str] = []
        for family in self._registry.collect():
            name = f"{family.name}_total" if family.type == "counter" and not openmetrics else family.name
            told = _escaped(family.documentation, quotes=openmetrics)
            lines.append(f"# HELP {name} {told}\n# TYPE {name} {family.type}\n")
            for sample in family.samples:
                series = (sample.name, *sample.labels.items())
                head = self._heads.get(series) or self._written(series, sample.name, sample.labels)
                value: str = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
                lines.append(f"{head} {value}\n")
        return "".join([*lines, "# EOF\n" if openmetrics else ""]).encode()

    def _written(self, series: Hashable, name: str, labels: dict[str, str]) -> str:
        pairs = ",".join(f'{label}="{_escaped(labels[label], quotes=True)}"' for label in sorted(labels))
        self._heads[series] = f"{name}{{{pairs}}}" if pairs else name
        return self._heads[series]


def _escaped(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
