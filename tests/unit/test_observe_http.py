"""The pages, over real HTTP."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from consumer.errors import Exit, Stop
from consumer.observe import Health, HttpServer, LagTracker, Metrics, observe_routes, serve

NOW = 1000.0

parse_openmetrics: Callable[[str], Iterable[Metric]] = text_string_to_metric_families


class Site:
    """A server on a free port, with what it shows."""

    def __init__(self) -> None:
        self.metrics, self.health, self.lag = Metrics(), Health(), LagTracker()
        self.metrics.freshness_lag.computed_by(lambda: self.lag.lag_seconds(int(NOW * 1e6)))
        self.server = HttpServer("127.0.0.1:0", observe_routes(self.metrics, self.health, lambda: NOW))

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with site.server:
        yield site


def test_a_scrape_shows_counts_and_the_lag_of_this_moment(site: Site) -> None:
    site.metrics.events.labels("products", "u", "embedded").inc(3)
    site.lag.assigned("shop.public.products", 2, "products", "shop", int(NOW * 1e6) - 7_000_000)
    status, kind, body = site.ask("/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert 'embedding_pipeline_events_total{op="u",outcome="embedded",source="products"} 3.0' in body
    assert 'embedding_pipeline_freshness_lag_seconds{partition="2",source="products"} 7.0' in body
    site.lag.revoked("shop.public.products", 2)
    assert "freshness_lag_seconds{" not in site.ask("/metrics")[2]


def test_openmetrics_is_served_where_asked_for(site: Site) -> None:
    site.metrics.freshness.labels("products").observe_many([0.02, 7.0])
    status, kind, body = site.ask("/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert (status, kind.split(";")[0]) == (200, "application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body)}
    assert {"embedding_pipeline_freshness_seconds", "embedding_pipeline_events"} <= names


def test_health_pages_answer_200_or_503_with_each_check(site: Site) -> None:
    status, kind, body = site.ask("/readyz")
    assert (status, kind.split(";")[0]) == (503, "application/json")
    assert {"name": "model", "ok": False, "reason": "not yet"} in json.loads(body)["checks"]
    for name in ("assigned", "model", "store"):
        site.health.set_ready(name, True, "fine")
    assert site.ask("/readyz")[0] == 200
    assert site.ask("/healthz")[0] == 200
    site.health.tick(NOW - 61)
    status, _, body = site.ask("/healthz")
    assert status == 503
    assert json.loads(body)["status"] == "failing"


@pytest.mark.parametrize("page", ["/metrics", "/healthz", "/readyz"])
def test_a_page_says_what_it_took_of_the_processor(site: Site, page: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.server.port, timeout=5)
    connection.request("GET", page)
    told = connection.getresponse().headers["Server-Timing"]
    connection.close()
    assert re.fullmatch(r"cpu;dur=\d+\.\d{3}", told)


def test_everything_else_is_404_in_json(site: Site) -> None:
    status, _, body = site.ask("/etc/passwd?x=1")
    assert status == 404
    assert json.loads(body) == {"error": "no such page", "pages": ["/healthz", "/metrics", "/readyz"]}


def test_head_has_no_body_and_other_methods_are_refused_in_json(site: Site) -> None:
    assert site.ask("/healthz?verbose", "HEAD")[::2] == (200, "")
    status, _, body = site.ask("/metrics", "POST")
    assert status == 501
    assert "error" in json.loads(body)


def test_a_taken_port_moves_to_the_next_free_one(site: Site) -> None:
    with serve(f"127.0.0.1:{site.server.port}", site.metrics, site.health) as second:
        assert second.port > site.server.port
        assert (second.moved, site.server.moved) == (True, False)
    assert site.ask("/healthz")[0] == 200


def test_close_frees_the_port_and_may_be_called_twice() -> None:
    site = Site()
    site.server.close()
    site.server.close()
    with pytest.raises(Stop, match="has died"):
        site.server.check()
    with socket.create_server(("127.0.0.1", site.server.port)):
        pass


@pytest.mark.parametrize("listen", ["9464", "localhost:http", "127.0.0.1:70000", "192.0.2.1:0"])
def test_an_address_that_cannot_be_used_stops_with_usage(listen: str) -> None:
    with pytest.raises(Stop) as stop:
        serve(listen, Metrics(), Health())
    assert stop.value.exit_code == Exit.USAGE
    assert "http.listen" in stop.value.fix


def test_a_client_that_says_nothing_does_not_block_the_others(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.port)):
        assert site.ask("/healthz")[0] == 200
