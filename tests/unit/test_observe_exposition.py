"""What a scrape gets is what prometheus_client would write, byte for byte, in both formats."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as as_text
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics

from consumer.observe import Metrics
from consumer.observe.exposition import Exposition


def of_the_product(page: bytes) -> list[bytes]:
    """Without what the process has used up between two pages."""
    return [line for line in page.split(b"\n") if not line.startswith(b"process_")]


@pytest.mark.parametrize("openmetrics", [False, True])
@settings(max_examples=30, deadline=None)
@given(
    source=st.text(max_size=20),
    seconds=st.lists(st.floats(0, 1e9), max_size=5),
    lag=st.floats(allow_nan=True, allow_infinity=True),
    count=st.integers(0, 2**60),
)
def test_the_pages_are_those_of_the_library(
    openmetrics: bool, source: str, seconds: list[float], lag: float, count: int
) -> None:
    encode: Callable[[CollectorRegistry], bytes] = as_openmetrics if openmetrics else as_text
    metrics = Metrics()
    metrics.declare([source])
    metrics.freshness.labels(source).observe_many(seconds)
    metrics.events.labels(source, "u", "embedded").inc(count)
    metrics.freshness_lag.set_all({(source, "0"): lag, (source, "1"): 0.0})
    pages = Exposition(metrics.registry)
    for _ in range(2):  # a series that was seen before reads as one that was not
        ours = of_the_product(pages.page(openmetrics=openmetrics))
        theirs = encode(metrics.registry)
        assert ours == of_the_product(theirs)
        metrics.freshness_lag.set_all({(source, "0"): lag, (source, "2"): 1.5})
