"""The kinds of panel there are, each in a line where it is used."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, stat, text, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.text import TextMode

Built = Builder[Panel]

DATASOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
"""As ops/compose/grafana-datasource.yaml provisions it."""

GOOD, BAD, WARN = "green", "red", "orange"


def graph(
    number: int,
    title: str,
    text: str,
    unit: str,
    queries: dict[str, str],
    *,
    width: int = 8,
    stacked: bool = False,
    limit: float | None = None,
) -> Built:
    """A panel of lines over time. `queries`: legend -> PromQL; `limit` is drawn as a line: above it is bad."""
    panel = (
        timeseries.Panel()
        .id(number)
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .fill_opacity(30 if stacked else 8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if limit is not None:
        panel.thresholds(_steps((None, GOOD), (limit, BAD)))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE))
    for place, (legend, query) in enumerate(queries.items()):
        panel.with_target(_query(place, query, legend))
    return panel


def number(
    number: int,
    title: str,
    text: str,
    unit: str,
    query: str,
    steps: tuple[tuple[float | None, str], ...],
    *,
    legend: str = "",
    words: dict[str, tuple[str, str]] | None = None,
) -> Built:
    """A panel of one big value each series, coloured by `steps`; `words` replace values: value -> (word, colour)."""
    panel = (
        stat.Panel()
        .id(number)
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(4)
        .height(5)
        .no_value("no data")
        .thresholds(_steps(*steps))
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(0, query, legend).instant())  # the last value of a range may be an hour old
    )
    if words:
        results = {value: ValueMappingResult(text=word, color=colour) for value, (word, colour) in words.items()}
        panel.mappings([ValueMap(options=results)])
    return panel


def page(number: int, title: str, markdown: str) -> Built:
    """A panel of text."""
    return text.Panel().id(number).title(title).span(24).height(18).mode(TextMode.MARKDOWN).content(markdown)


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """An empty dashboard."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["embed-consumer"])
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
    )


def _query(place: int, query: str, legend: str) -> Dataquery:
    return Dataquery().ref_id(chr(ord("A") + place)).expr(query).range().legend_format(legend).datasource(DATASOURCE)


def _steps(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    levels = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(levels)
