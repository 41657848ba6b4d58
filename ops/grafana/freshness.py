"""The dashboard `embed-consumer`: fresh or not, what is wrong, and where to look, from top to bottom.

Panel numbers are part of the alerts' links (`dashboard_url`): a panel keeps its number for life.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh

from ops.grafana.panels import BAD, DATASOURCE, GOOD, WARN, Built, board, graph, number

UID = "embed-consumer"
JOB = '{job=~"$job"}'
SILENCE = 30.0  # seconds after which a path without a sign of life shows its age; the objective is the settings' own
_P = "embedding_pipeline_"


def dashboard() -> Dashboard:
    """All rows, in the order of an on-call engineer's questions."""
    job = (
        QueryVariable("job")
        .label("job")
        .datasource(DATASOURCE)
        .query("label_values(embedding_pipeline_build_info, job)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all"))
    )
    made = board(UID, "embed-consumer", "How fresh the vectors are, against the objective, and why.").with_variable(job)
    rows = (
        ("The promise", promise()),
        ("Where the time goes", stages()),
        ("Per table and partition", tables()),
        ("What was saved", saved()),
        ("Safety", safety()),
        ("Backfill", backfill()),
        ("Throughput", throughput()),
    )
    for place, (title, panels) in enumerate(rows, 101):
        made.with_row(Row(title).id(place))
        for panel in panels:
            made.with_panel(panel)
    return made


def rate(metric: str, by: str, **labels: str) -> str:
    """Increase a second of a counter of the catalogue, summed by labels. `labels`: matchers as PromQL has them."""
    matchers = "".join(f", {name}{matcher}" for name, matcher in labels.items())
    return f'sum by ({by}) (rate({_P}{metric}{{job=~"$job"{matchers}}}[$__rate_interval]))'


def quantile(share: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram of the catalogue, by labels."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le')})"


def promise() -> list[Built]:
    lag = f"max by (job) ({_P}freshness_lag_seconds{JOB})"
    threshold = f"job:{_P}slo_threshold:seconds{JOB}"
    # As `status` judges: what is surely stale comes first, then what nobody can tell.
    unmeasured = f"count by (job) (job_source:{_P}unmeasured:partitions{JOB} > 0)"
    fresh = f"0 * ({lag} > on (job) {threshold}) or on (job) 2 + 0 * {unmeasured} or on (job) 1 + 0 * {lag}"
    good = ((None, BAD), (0.0, WARN), (0.25, GOOD))
    known = f"max by (job) (last_over_time({_P}build_info{JOB}[1d]))"  # `up` has every job of this Prometheus
    burns = {
        window: f"max by (source) (job_source:{_P}slo_burn:rate{window}{JOB})" for window in ("5m", "1h", "6h", "3d")
    }
    return [
        number(
            *(3, "Fresh?", "UNKNOWN: a partition, or a table whose topic is missing, is measured by nobody."),
            *("none", fresh, ((None, BAD), (1.0, GOOD), (2.0, WARN))),
            words={"0": ("STALE", BAD), "1": ("FRESH", GOOD), "2": ("UNKNOWN", WARN)},
            legend="{{job}}",
        ),
        number(
            *(
                1,
                "Oldest change not searchable",
                "When idle, 0 only while heartbeats arrive; beyond 30 s is a silence.",
            ),
            *("s", f"max by (source) ({_P}freshness_lag_seconds{JOB})", ((None, GOOD), (SILENCE, WARN))),
            legend="{{source}}",
        ),
        number(
            *(2, "Consumers that answer", "Scraped successfully; the rest is down or starting."),
            *("none", f"sum(up{JOB} and on (job) {known})", ((None, BAD), (1.0, GOOD))),
        ),
        number(
            *(11, "Changes within the threshold, 30 days", "Good over applied and rejected streaming events."),
            *("percentunit", f"min by (source) (job_source:{_P}slo:ratio_rate30d{JOB})", ((None, "blue"),)),
            legend="{{source}}",
        ),
        number(
            *(12, "Error budget left, 30 days", "Below 0 the promise is broken."),
            *("percentunit", f"min by (source) (job_source:{_P}slo_budget:ratio_rate30d{JOB})", good),
            legend="{{source}}",
        ),
        number(
            *(15, "Objective", "The setting slo.objective."),
            *("percentunit", f"job:{_P}slo_objective:ratio{JOB}", ((None, "blue"),)),
        ),
        graph(
            *(10, "From commit to searchable", "Applied streaming events; silent in a stall, where the gauge rises."),
            "s",
            {f"p{share:g}": quantile(share / 100, "freshness_seconds") for share in (50, 95, 99)},
        ),
        graph(
            *(13, "Oldest change not searchable, and the threshold", "The gauge over time."),
            "s",
            {"{{source}}": f"max by (source) ({_P}freshness_lag_seconds{JOB})", "threshold": threshold},
        ),
        graph(
            *(14, "Burn rates", "1 spends the budget in exactly 30 days. Alerts: 14.4 (1 h), 6 (6 h), 1 (3 d)."),
            "none",
            {f"{{{{source}}}} {window}": query for window, query in burns.items()},
            limit=1,
        ),
    ]


def stages() -> list[Built]:
    seconds, events = rate("stage_seconds_sum", "stage"), rate("stage_seconds_count", "stage")
    steps = f"{rate('latency_seconds_sum', 'stage')} / {rate('latency_seconds_count', 'stage')}"
    return [
        graph(
            *(
                16,
                "Mean seconds per stage",
                "Source commit, connector, broker, queue, plan, model, write: the sum is freshness.",
            ),
            *("s", {"{{stage}}": f"{seconds} / {events}"}),
            stacked=True,
        ),
        graph(
            *(17, "p95 per stage", "The stage that is slow when it is slow.", "s"),
            {"{{stage}}": quantile(0.95, "stage_seconds", "stage")},
        ),
        graph(18, "Work per batch", "Seconds of work of one transaction, by step.", "s", {"{{stage}}": steps}),
    ]


def tables() -> list[Built]:
    measured = f"count by (source) (count by (source, partition) ({_P}freshness_lag_seconds{JOB}))"
    return [
        graph(
            *(20, "Oldest change, per partition", "Of those not searchable: a stuck partition stands out."),
            *("s", {"{{source}} {{partition}}": f"max by (source, partition) ({_P}freshness_lag_seconds{JOB})"}),
            width=6,
        ),
        graph(
            *(21, "Events", "What became of them."),
            *("ops", {"{{source}} {{outcome}}": f"{rate('events_total', 'source, outcome')} > 0"}),
            width=6,
        ),
        graph(
            *(22, "Queue", "Events of a partition that are not applied yet."),
            *("short", {"{{topic}} {{partition}}": f"max by (topic, partition) ({_P}queue_depth{JOB})"}),
            width=6,
        ),
        graph(
            *(23, "Partitions, and those measured", "A topic that Kafka has not is at 0; fewer measured are unseen."),
            "short",
            {"{{topic}}": f"max by (topic) ({_P}topic_partitions{JOB})", "{{source}} measured": measured},
            width=6,
        ),
    ]


def saved() -> list[Built]:
    unchanged = rate("events_total", "source", outcome='="unchanged"')
    applied = rate("events_total", "source", outcome='=~"embedded|unchanged|deleted"')
    reused, chunks = (
        rate("chunks_total", "source", outcome='="reused"'),
        rate("chunks_total", "source", outcome='!="deleted"'),
    )
    return [
        graph(
            *(30, "Changes that needed no write", "Share of applied events whose used columns did not change."),
            *("percentunit", {"{{source}}": f"{unchanged} / ({applied} > 0)"}),
            width=6,
        ),
        graph(
            *(31, "Chunks that needed no model", "Share of chunks reused by the hash of their content."),
            *("percentunit", {"{{source}}": f"{reused} / ({chunks} > 0)"}),
            width=6,
        ),
        graph(
            *(32, "Tokens", "Through the model, a second.", "short"),
            {"{{source}}": rate("tokens_total", "source")},
            width=6,
        ),
        graph(
            *(33, "Device busy", "Share of the time that a process spends in the model."),
            *("percentunit", {"{{instance}}": rate("latency_seconds_sum", "instance", stage='="embed"')}),
            width=6,
        ),
    ]


def safety() -> list[Built]:
    rejected = rate("events_total", "source", outcome='="rejected"')
    counted = rate("events_total", "source", outcome='!~"stale|ignored"')
    return [
        graph(
            *(41, "Failed documents", "Waiting for a retry, or given up (dead)."),
            *("short", {"{{source}} {{state}}": f"max by (source, state) ({_P}failed_documents{JOB})"}),
            width=6,
        ),
        graph(
            *(42, "Rejected changes", "Share of the changes that could not be applied; the alert is at 0.1 %."),
            *("percentunit", {"{{source}}": f"{rejected} / ({counted} > 0)"}),
            width=6,
            limit=0.001,
        ),
        graph(
            *(43, "Processed again", "By what asked for it.", "ops"),
            {"{{reason}}": rate("reprocessing_total", "reason")},
            width=6,
        ),
        graph(
            *(45, "Errors", "By stage and type, retried ones too; 0 where there was none since the start."),
            *("ops", {"{{stage}} {{error_type}}": f"{rate('errors_total', 'stage, error_type')} or vector(0)"}),
            width=6,
        ),
        graph(
            *(44, "Fenced", "Batch parts dropped because another process owns their partition.", "ops"),
            {"{{instance}}": rate("fenced_total", "instance")},
            width=6,
        ),
        graph(
            *(
                46,
                "Clock skew",
                "Seconds that a source's clock is behind, and events a second from the future.",
                "short",
            ),
            {
                "{{prefix}} behind": f"max by (prefix) ({_P}clock_behind_seconds{JOB})",
                "{{instance}} from the future": rate("clock_skew_total", "instance"),
            },
            width=6,
        ),
        graph(
            *(47, "WAL that the source keeps for the slot", "Grows while the connector does not read or confirm."),
            *("bytes", {"{{slot}}": f"max by (slot) ({_P}slot_retained_bytes{JOB})"}),
            width=6,
        ),
        graph(
            *(48, "Stale documents", "Rendered under other settings; rendered again in the background."),
            *("short", {"{{source}}": f"max by (source) ({_P}stale_documents{JOB})"}),
            width=6,
        ),
    ]


def backfill() -> list[Built]:
    reads = rate("events_total", "source", op='="r"')
    waiting, events = (
        f"sum by (job) (max by (job, topic, partition) ({_P}queue_depth{JOB}))",
        rate("events_total", "job"),
    )
    return [
        graph(51, "Snapshot rows", "Applied, a second.", "ops", {"{{source}}": reads}),
        graph(
            *(52, "Time until nothing waits", "Events that wait over events a second, if no more arrive."),
            *("s", {"{{job}}": f"{waiting} / ({events} > 0)"}),
        ),
        graph(
            *(
                53,
                "Age of snapshot and replayed rows",
                "p95 from the source's timestamp to searchable; in no objective.",
            ),
            *("s", {"{{kind}}": quantile(0.95, "backfill_seconds", "kind")}),
        ),
    ]


def throughput() -> list[Built]:
    return [
        graph(
            *(
                61,
                "Documents, against the measured ceiling",
                "The ceiling: the same mix of changes, if no process waited.",
            ),
            "ops",
            {
                "{{job}}": f"sum by (job) (job_source:{_P}documents:rate5m{JOB})",
                "{{job}} ceiling": f"job:{_P}ceiling:rate5m{JOB}",
            },
            width=12,
        ),
        graph(
            *(62, "Processes busy", "Share of the time that each works; at 1 another process helps."),
            *("percentunit", {"{{instance}}": rate("latency_seconds_sum", "instance")}),
            width=12,
            limit=0.9,
        ),
    ]
