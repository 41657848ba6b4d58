"""The catalogue: contract names, bounded labels, buckets, and the generated document."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest

from consumer.observe import CATALOGUE, Metrics, metrics_markdown

CONTRACT = {
    "freshness_seconds": ("histogram", ("source",)),
    "freshness_lag_seconds": ("gauge", ("source", "partition")),
    "stage_seconds": ("histogram", ("stage",)),
    "backfill_seconds": ("histogram", ("kind",)),
    "slo_events_total": ("counter", ("source", "result")),
    "slo_objective_ratio": ("gauge", ()),
    "slo_threshold_seconds": ("gauge", ()),
    "clock_skew_total": ("counter", ()),
    "clock_behind_seconds": ("gauge", ("prefix",)),
    "fenced_total": ("counter", ()),
    "events_total": ("counter", ("source", "op", "outcome")),
    "chunks_total": ("counter", ("source", "outcome")),
    "tokens_total": ("counter", ("source",)),
    "latency_seconds": ("histogram", ("stage",)),
    "errors_total": ("counter", ("stage", "error_type")),
    "queue_depth": ("gauge", ("topic", "partition")),
    "topic_partitions": ("gauge", ("source", "topic", "prefix")),
    "next_offset": ("gauge", ("source", "topic", "partition")),
    "failed_documents": ("gauge", ("source", "state")),
    "stale_documents": ("gauge", ("source",)),
    "slot_retained_bytes": ("gauge", ("slot",)),
    "reprocessing_total": ("counter", ("reason",)),
    "build_info": ("gauge", ("version", "model", "config_hash", "device")),
}


def text(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"embedding_pipeline_{name}", labels)


def test_the_catalogue_is_the_contract() -> None:
    assert {s.name.removeprefix("embedding_pipeline_"): (s.kind, s.label_names) for s in CATALOGUE} == CONTRACT


def test_every_metric_is_exposed_under_its_catalogue_name_and_no_other() -> None:
    families = {family.name for family in Metrics().registry.collect() if not family.name.startswith("process_")}
    assert families == {spec.name.removesuffix("_total") for spec in CATALOGUE}
    assert "_created" not in text(Metrics())
    assert "embedding_pipeline_clock_skew_total 0.0" in text(Metrics())


def test_the_document_in_schemas_is_generated_from_the_catalogue() -> None:
    path = Path(__file__).parents[2] / "schemas" / "metrics.md"
    assert path.read_text() == metrics_markdown(), "write metrics_markdown() to schemas/metrics.md"


def test_instances_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.fenced.inc(3)
    assert (value(one, "fenced_total"), value(other, "fenced_total")) == (3, 0)


def test_a_batch_counts_once() -> None:
    metrics = Metrics()
    metrics.events.labels("shop", "u", "unchanged").inc(900)
    metrics.events.labels("shop", "u", "unchanged").inc(100)
    assert value(metrics, "events_total", source="shop", op="u", outcome="unchanged") == 1000


def test_a_counter_does_not_go_down() -> None:
    with pytest.raises(ValueError, match="only goes up"):
        Metrics().fenced.inc(-1)


def test_a_wrong_number_of_labels_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="embedding_pipeline_chunks_total takes the labels"):
        Metrics().chunks.labels("shop")


def test_values_outside_a_closed_set_become_other() -> None:
    metrics = Metrics()
    metrics.events.labels("shop", "x", "vanished").inc()
    metrics.errors.labels("embed", "could not parse 'Dear Ms. Smith, …'").inc()
    assert value(metrics, "events_total", source="shop", op="other", outcome="other") == 1
    assert value(metrics, "errors_total", stage="embed", error_type="other") == 1
    assert "Smith" not in text(metrics)


def test_series_are_bounded_and_nothing_is_lost() -> None:
    metrics = Metrics()
    for number in range(5000):
        metrics.errors.labels("embed", f"E{number}").inc()
    counted = [
        float(line.split()[-1])
        for line in text(metrics).splitlines()
        if line.startswith("embedding_pipeline_errors_total{")
    ]
    assert len(counted) <= 2001
    assert sum(counted) == 5000


def test_no_partition_is_left_out_however_many_one_process_has() -> None:
    """A gauge that left some out would tell that all is well of those that nobody measures."""
    metrics = Metrics()
    metrics.freshness_lag.set_all({("shop", str(number)): float(number) for number in range(5000)})
    assert value(metrics, "freshness_lag_seconds", source="shop", partition="4999") == 4999


def test_declared_sources_show_zero_before_their_first_event() -> None:
    metrics = Metrics()
    metrics.declare(["shop"])
    assert value(metrics, "events_total", source="shop", op="c", outcome="rejected") == 0
    assert value(metrics, "events_total", source="shop", op="unknown", outcome="rejected") == 0, "a burst of junk"
    assert value(metrics, "freshness_seconds_count", source="shop") == 0


@pytest.mark.parametrize(("threshold", "bound"), [(0.05, "0.05"), (45, "45.0"), (60, "60.0"), (1_000_000, "1e+06")])
def test_the_objective_threshold_is_a_bucket(threshold: float, bound: str) -> None:
    metrics = Metrics(threshold)
    metrics.freshness.labels("shop").observe_many([threshold, threshold * 1.0001])
    assert value(metrics, "freshness_seconds_bucket", source="shop", le=bound) == 1


@given(st.lists(st.floats(0, 1e7), max_size=50), st.floats(0.01, 1e5))
def test_buckets_count_exactly_what_lies_below_them(values: list[float], threshold: float) -> None:
    metrics = Metrics(threshold)
    metrics.freshness.labels("s").observe_many(values)
    (family,) = metrics.freshness.collect()
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            assert sample.value == sum(v <= float(sample.labels["le"]) for v in values)
        elif sample.name.endswith("_sum"):
            assert sample.value == pytest.approx(sum(values))
        else:
            assert sample.value == len(values)


def test_observing_a_batch_costs_less_than_a_microsecond_an_event() -> None:
    child = Metrics().freshness.labels("shop")
    values = [i / 100 for i in range(1000)]
    best = float("inf")
    for _ in range(200):  # the best: a busy machine tells nothing of the cost
        start = time.perf_counter()
        child.observe_many(values)
        best = min(best, time.perf_counter() - start)
    assert best / len(values) < 1e-6


def test_counts_of_several_threads_add_up() -> None:
    metrics = Metrics()

    def work() -> None:
        for _ in range(2000):
            metrics.tokens.labels("shop").inc(2)
            metrics.freshness.labels("shop").observe(0.5)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics, "tokens_total", source="shop") == 16_000
    assert value(metrics, "freshness_seconds_count", source="shop") == 8000
    assert value(metrics, "freshness_seconds_bucket", source="shop", le="0.5") == 8000


def test_a_gauge_shows_exactly_its_last_series() -> None:
    metrics = Metrics()
    metrics.failed_documents.set_all({("shop", "retrying"): 2, ("shop", "dead"): 1})
    metrics.failed_documents.set_all({("shop", "dead"): 1})
    assert value(metrics, "failed_documents", source="shop", state="dead") == 1
    assert value(metrics, "failed_documents", source="shop", state="retrying") is None


def test_a_computed_gauge_is_read_at_scrape() -> None:
    metrics, depth = Metrics(), {("shop.public.products", 0): 5}
    metrics.queue_depth.computed_by(lambda: depth)
    assert value(metrics, "queue_depth", topic="shop.public.products", partition="0") == 5
    depth["shop.public.products", 0] = 7
    assert value(metrics, "queue_depth", topic="shop.public.products", partition="0") == 7


def test_a_gauge_that_cannot_be_read_is_absent_and_blinds_no_other() -> None:
    metrics = Metrics()

    def broken() -> dict[tuple[str, int], float]:
        raise RuntimeError("no answer")

    metrics.freshness_lag.computed_by(broken)
    metrics.fenced.inc()
    assert "embedding_pipeline_freshness_lag_seconds{" not in text(metrics)
    assert value(metrics, "fenced_total") == 1
