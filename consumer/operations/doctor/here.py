"""This machine and what the settings alone decide: the model, templates, the registry, the port, the clocks."""

from __future__ import annotations

import errno
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from consumer.content import TableContent
from consumer.errors import Fault, Retry
from consumer.events import declared_types
from consumer.operations.doctor.finding import NTP, Finding, asked, failed, faulty, passed, skipped, warned
from consumer.operations.wiring import build_tables, check_registry, content_spec, load_model, open_store, vector_space
from consumer.settings import Settings
from consumer.source import SourceDatabase, is_foreign
from consumer.steps import now_us
from consumer.store import Checkup, Phase


def tables(settings: Settings) -> Iterator[Finding]:
    """Whether templates, declared types and the rest of each table's entry can be used at all."""
    if not settings.tables:
        yield failed("settings", "They name no table.", "Add an entry to `tables` with a topic and a text template.")
    faults = []
    for table in settings.tables:
        try:
            TableContent(content_spec(table))
            declared_types(table.source, table.columns)
        except Fault as fault:
            faults.append(faulty("settings", fault))
    yield from faults
    if settings.tables and not faults:
        yield passed("settings", f"tables: {len(settings.tables)}; their templates and types can be used")


def model(settings: Settings) -> Iterator[Finding]:
    """Whether the model loads exactly as configured, and is the one that the stored vectors are of."""
    try:
        engine = load_model(settings)
        build_tables(settings, engine)
    except Fault as fault:
        yield faulty("model", fault)
        yield skipped("vectors", "Without the model nothing can be compared with the stored vectors.")
        return
    identity = engine.identity
    yield passed("model", f"{identity.model} loads on {engine.device}; {identity.dimension} dimensions")
    try:
        with open_store(settings, answer_within=5.0) as store:
            generation = store.live_generation(vector_space(settings, engine))
        yield passed("vectors", f"generation {generation.number} is of this model and these settings")
    except Retry as retry:
        yield skipped("vectors", f"The store does not tell: {retry.what}")
    except Fault as fault:
        yield faulty("vectors", fault)


def registry(settings: Settings) -> Iterator[Finding]:
    """Whether the schema registry answers, where a table is Avro."""
    if not any(table.format == "avro" for table in settings.tables):
        yield skipped("registry", "No table is declared as Avro (format: avro): none is needed.")
        return

    def ask() -> Finding:
        check_registry(settings)
        return passed("registry", f"{settings.registry.url} answers")

    yield from asked("registry", ask)


def port(settings: Settings) -> Iterator[Finding]:
    """Whether `http.listen` can be served, or already is, by a consumer that is well."""
    host, _, number = settings.http.listen.rpartition(":")
    host = host.strip("[]")
    if number == "0":
        yield passed("http", "any free port is taken")
        return
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, int(number)))
        yield passed("http", f"{settings.http.listen} is free")
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        yield judge_port(settings.http.listen, taken, _health(host, int(number)) if taken else None)


def _health(host: str, number: int) -> dict[str, object] | None:
    """What a consumer there says of itself; None where it is no consumer."""
    there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    url = f"http://{f'[{there}]' if ':' in there else there}:{number}/readyz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        try:
            with opener.open(url, timeout=3) as reply:
                body = reply.read(1 << 16)
        except urllib.error.HTTPError as error:
            with error:
                body = error.read(1 << 16)
        answer = json.loads(body)
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("checks"), list) else None


def judge_port(listen: str, taken: bool, health: dict[str, object] | None) -> Finding:
    """`health` is the body of /readyz of whoever has the port, None where that is no consumer."""
    if not taken:
        return failed("http", f"{listen} cannot be listened on.", "Set http.listen to an address of this machine.")
    if health is None:
        fix = "End what listens there, or set http.listen (EMBEDDING_HTTP__LISTEN)."
        return warned("http", f"{listen} is in use: a consumer serves its metrics on the next free port.", fix)
    checks = health["checks"] if isinstance(health["checks"], list) else []
    bad = [f"{check['name']}: {check['reason']}" for check in checks if not check["ok"]]
    if bad:
        return warned(
            "http", f"The consumer at {listen} is not ready: {'; '.join(bad).rstrip('.')}.", "See the consumer's log."
        )
    return passed("http", f"a consumer serves {listen}, and is ready")


def store_clock(settings: Settings) -> Iterator[Finding]:
    """Whether the store's clock agrees with this machine's: freshness is computed from them."""
    try:
        with Checkup(settings.store.dsn.get_secret_value(), settings.store.schema_name, Phase.WRITE) as checkup:
            yield judge_clock("store", *_skew(checkup.clock_us), settings.slo.threshold_seconds)
    except Fault:
        yield skipped("clock of the store", "It does not answer.")


def source_clock(settings: Settings) -> Iterator[Finding]:
    """Whether the source's clock, which stamps each commit, agrees with this machine's."""
    dsn = settings.source.dsn.get_secret_value() if settings.source.dsn else ""
    if not dsn or is_foreign(dsn):
        yield skipped("clock of the source", "It cannot be asked: no Postgres is named by source.dsn.")
        return
    try:
        with SourceDatabase(dsn) as database:
            yield judge_clock("source", *_skew(database.clock_us), settings.slo.threshold_seconds)
    except Fault:
        yield skipped("clock of the source", "It does not answer.")


def _skew(ask: Callable[[], int]) -> tuple[float, float]:
    """Seconds that the other clock is ahead, and by how much that may be wrong; the quickest of three questions."""
    best = (0.0, float("inf"))
    for _ in range(3):
        before, begun = now_us(), time.monotonic()
        there = ask()
        doubt = (time.monotonic() - begun) / 2
        best = min(best, ((there - before) / 1e6 - doubt, doubt), key=lambda pair: pair[1])
    return best


def judge_clock(name: str, ahead: float, doubt: float, threshold: float) -> Finding:
    """Skew is an error of the measured freshness: half of the objective's threshold makes the measurement worthless."""
    check, off = f"clock of the {name}", max(abs(ahead) - doubt, 0.0)
    said = f"{abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if off > threshold / 2:
        return failed(check, f"It is {said}: freshness is off by as much, more than half the objective.", NTP)
    if off > min(1.0, threshold / 10):
        return warned(check, f"It is {said}: freshness is off by as much.", NTP)
    return passed(check, f"within {max(abs(ahead), doubt) * 1000:.0f} ms of this machine's")
