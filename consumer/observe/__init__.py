"""How the consumer is seen from outside: metrics, freshness arithmetic, health, the HTTP pages, logging."""

from consumer.observe.catalogue import CATALOGUE, Metrics, metrics_markdown
from consumer.observe.freshness import (
    FRESH_HEARTBEAT_SECONDS,
    BatchTimes,
    LagTracker,
    Stamps,
    freshness_batch,
    freshness_seconds,
    stage_split,
)
from consumer.observe.health import Check, Health, Report
from consumer.observe.http import HttpServer, Response, json_response, observe_routes, serve
from consumer.observe.logging import adopt_library_loggers, configure_logging, error_text, get_logger
from consumer.observe.secrets import is_secret_name, mask_secrets

__all__ = [
    "CATALOGUE",
    "FRESH_HEARTBEAT_SECONDS",
    "BatchTimes",
    "Check",
    "Health",
    "HttpServer",
    "LagTracker",
    "Metrics",
    "Report",
    "Response",
    "Stamps",
    "adopt_library_loggers",
    "configure_logging",
    "error_text",
    "freshness_batch",
    "freshness_seconds",
    "get_logger",
    "is_secret_name",
    "json_response",
    "mask_secrets",
    "metrics_markdown",
    "observe_routes",
    "serve",
    "stage_split",
]
