"""The doctor's verdicts about Kafka, the store and this machine, on plain data; and that no question hides another."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from consumer.errors import Exit, Retry, Stop
from consumer.operations.doctor import Finding, examine, exit_code
from consumer.operations.doctor.connect import judge_connector, look
from consumer.operations.doctor.examine import Part
from consumer.operations.doctor.finding import asked, failed, passed, skipped, warned
from consumer.operations.doctor.here import judge_clock, judge_port
from consumer.operations.doctor.kafka import Beat, judge_absence, judge_heartbeat, judge_offsets, judge_topic
from consumer.operations.doctor.store import (
    judge_failed,
    judge_index,
    judge_keys,
    judge_migrations,
    judge_migrator,
    judge_server,
    judge_writer,
)
from consumer.operations.offsets import Position
from consumer.settings import Settings
from consumer.store import Generation, IndexStatus, KeyChange, Rights, Server

TOPIC = "shop.public.products"
WEEK = {"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1"}
AT = Position(TOPIC, 0, "id", 5, 5, 0, 9)
GENERATION = Generation(1, "live", b"", "m", 32, "vector", "cosine", 16, 64, "chunks_1")
RIGHTS = Rights("embedder", "e", "vectors", "owner", True, True)


@pytest.mark.parametrize(
    ("kept", "verdict", "fix"),
    [
        (WEEK, "pass", ""),
        (WEEK | {"retention.ms": "-1"}, "pass", ""),
        (WEEK | {"retention.ms": "3600000"}, "warn", "retention.ms="),
        (WEEK | {"retention.bytes": "1000000"}, "warn", "retention.bytes=-1"),
        (WEEK | {"cleanup.policy": "compact"}, "warn", "cleanup.policy=delete"),
        (WEEK | {"cleanup.policy": "compact,delete"}, "warn", "cleanup.policy=delete"),
        (None, "warn", "DescribeConfigs"),
    ],
)
def test_a_topic_must_keep_deletes_for_a_day(kept: dict[str, str] | None, verdict: str, fix: str) -> None:
    finding = judge_topic(TOPIC, 3, kept)
    assert finding.verdict == verdict
    assert fix in finding.fix
    assert "partitions: 3" in finding.what


def test_a_missing_topic_names_the_one_that_was_meant_if_no_other_table_has_it_and_the_source_has_no_such_table() -> (
    None
):
    wrong = judge_absence("shop.public.product", False, {TOPIC})
    assert (wrong.verdict, f"Did you mean {TOPIC}?" in wrong.fix) == ("fail", True)
    assert "Did you mean" not in judge_absence("shop.public.product", False, set()).fix
    quiet = judge_absence("shop.public.product", True, {TOPIC})
    assert (quiet.verdict, "Did you mean" in quiet.fix, "first row" in quiet.fix) == ("warn", False, True)


def test_a_topic_without_a_leader() -> None:
    assert judge_topic(TOPIC, 0, WEEK).verdict == "fail"


@pytest.mark.parametrize(
    ("there", "beat", "stored", "members", "verdict", "said"),
    [
        (True, Beat(1.0), 1.5, 1, "pass", "1.0 s old"),
        (True, Beat(1.0), None, 0, "pass", "no consumer applies it"),
        (True, Beat(1.0), 500.0, 0, "pass", "no consumer applies it"),
        (True, Beat(1.0), 500.0, 1, "fail", "behind or stuck"),
        (True, Beat(1.0), None, 2, "fail", "none was ever"),
        (True, Beat(31.0), 31.0, 1, "fail", "does not run"),
        (True, Beat(331.0, 31.0), 331.0, 1, "fail", "does not run"),
        (True, Beat(300.0, 0.4), 300.0, 1, "fail", "late by the source's clock"),
        (True, Beat(0.4, 0.4, clock_behind=300.0), 0.5, 1, "warn", "always 300 s late"),
        (True, Beat(31.0, 31.0, clock_behind=300.0), 31.0, 1, "fail", "does not run"),
        (True, None, None, 1, "fail", "is empty"),
        (False, None, None, 1, "fail", "is not there"),
    ],
)
def test_heartbeats(
    there: bool, beat: Beat | None, stored: float | None, members: int, verdict: str, said: str
) -> None:
    finding = judge_heartbeat("shop", there, beat, stored, members)
    assert (finding.verdict, said in finding.what) == (verdict, True), finding


@pytest.mark.parametrize(
    ("position", "verdict"),
    [
        (AT, "pass"),
        (Position(TOPIC, 0, "id", None, None, 0, 9), "pass"),
        (Position(TOPIC, 0, "id", 5, 5, 6, 9), "fail"),
        (Position(TOPIC, 0, "id", 12, 5, 0, 9), "fail"),
        (Position(TOPIC, 0, "id", 5, 5, 0, 9, recreated=True), "fail"),
        (Position("__debezium-heartbeat.shop", 0, "id", 5, 5, 6, 9), "pass"),  # expired ones are no loss
    ],
)
def test_offsets(position: Position, verdict: str) -> None:
    finding = judge_offsets([AT, position])
    assert finding.verdict == verdict
    assert ("offsets reset" in finding.fix) is (verdict == "fail")


@pytest.mark.parametrize(
    ("server", "verdict", "fix"),
    [
        (Server(180004, "UTF8", "0.8.5", "0.8.5"), "pass", ""),
        (Server(180004, "UTF8", "0.8.3", "0.8.5"), "fail", "ALTER EXTENSION vector UPDATE"),
        (Server(180004, "UTF8", None, "0.8.5"), "fail", "CREATE EXTENSION vector"),
        (Server(180004, "UTF8", None, None), "fail", "Install pgvector"),
        (Server(180004, "SQL_ASCII", "0.8.5", "0.8.5"), "fail", "UTF8"),
        (Server(130010, "UTF8", "0.8.5", "0.8.5"), "fail", "Upgrade"),
        (Server(180004, "UTF8", "0.8.5", "0.8.5", "standby"), "fail", "the primary"),
        (Server(180004, "UTF8", "0.8.5", "0.8.5", "d1"), "fail", "ALTER DATABASE d1 RESET"),
    ],
)
def test_the_store_server(server: Server, verdict: str, fix: str) -> None:
    finding = judge_server(server)
    assert finding.verdict == verdict
    assert fix in finding.fix


def test_migrations_and_privileges() -> None:
    assert judge_migrations("e", []).verdict == "pass"
    assert "migrate" in judge_migrations("e", ["0002_more"]).fix
    assert "migrate" in judge_migrations("e", None).fix
    assert judge_writer(RIGHTS, {}).verdict == "pass"
    assert "migrate" in judge_writer(RIGHTS._replace(owner=None, usage=False), {}).fix
    assert "As owner: GRANT USAGE ON SCHEMA e TO embedder;" in judge_writer(RIGHTS._replace(usage=False), {}).fix
    lacking = judge_writer(RIGHTS, {"documents": ["DELETE", "INSERT"]})
    assert "GRANT DELETE, INSERT ON e.documents TO embedder;" in lacking.fix
    assert judge_migrator(RIGHTS, {}).verdict == "pass"
    assert "GRANT CREATE ON SCHEMA e TO embedder;" in judge_migrator(RIGHTS._replace(create=False), {}).fix
    assert "ON DATABASE vectors TO embedder;" in judge_migrator(RIGHTS._replace(create=False, owner=None), {}).fix
    assert "GRANT owner TO embedder;" in judge_migrator(RIGHTS, {"chunks_1": "owner"}).fix


@pytest.mark.parametrize(
    ("status", "chunks", "verdict"),
    [
        (IndexStatus("ready"), True, "pass"),
        (IndexStatus("building", "loading tuples", 5, 9), True, "pass"),
        (IndexStatus("missing"), False, "pass"),
        (IndexStatus("missing"), True, "warn"),
        (IndexStatus("invalid"), True, "fail"),
    ],
)
def test_the_vector_index(status: IndexStatus, chunks: bool, verdict: str) -> None:
    assert judge_index(GENERATION, status, chunks).verdict == verdict


def test_a_key_on_which_the_consumer_has_stopped() -> None:
    assert [finding.verdict for finding in judge_keys({})] == ["pass"]
    [finding] = judge_keys({"shop.public.products": KeyChange("id", "id, shop", 0)})
    assert (finding.verdict, "(id) to (id, shop)" in finding.what) == ("fail", True)
    assert "rekey --source shop.public.products" in finding.fix


def test_failed_documents() -> None:
    assert judge_failed({}).verdict == "pass"
    assert judge_failed({("s", "retrying"): 2}).verdict == "warn"
    assert judge_failed({("s", "retrying"): 2, ("s", "dead"): 1}).verdict == "fail"


@pytest.mark.parametrize(
    ("ahead", "doubt", "verdict"),
    [(0.01, 0.001, "pass"), (-0.9, 0.001, "pass"), (2.0, 1.5, "pass"), (2.0, 0.1, "warn"), (-31.0, 0.1, "fail")],
)
def test_clock_skew_beyond_doubt_is_judged_against_the_objective(ahead: float, doubt: float, verdict: str) -> None:
    assert judge_clock("store", ahead, doubt, threshold=60.0).verdict == verdict


def test_the_port() -> None:
    ready = {"checks": [{"name": "store", "ok": True, "reason": "reachable"}]}
    waiting = {"checks": [{"name": "store", "ok": False, "reason": "not yet"}]}
    assert judge_port("h:1", False, None).verdict == "fail"
    assert judge_port("h:1", True, None).verdict == "warn"
    assert judge_port("h:1", True, dict(ready)).verdict == "pass"
    assert "store: not yet" in judge_port("h:1", True, dict(waiting)).what


@pytest.mark.parametrize(
    ("state", "task", "verdict", "fix"),
    [
        ("RUNNING", "RUNNING", "pass", ""),
        ("RUNNING", "FAILED", "fail", "restart?includeTasks=true&onlyFailed=true"),
        ("RUNNING", None, "fail", "restart"),
        ("UNASSIGNED", "UNASSIGNED", "fail", "restart"),
        ("PAUSED", "PAUSED", "fail", "PUT http://c/connectors/a%2Fb/resume"),
        ("STOPPED", None, "fail", "resume"),
    ],
)
def test_the_connector(state: str, task: str | None, verdict: str, fix: str) -> None:
    trace = "org.apache.kafka.connect.errors.ConnectException: row (secret)\n\tat somewhere"
    tasks = [{"id": 0, "state": task, "trace": trace}] if task else []
    finding = judge_connector("http://c", "a/b", {"connector": {"state": state}, "tasks": tasks})
    assert finding.verdict == verdict
    assert fix in finding.fix
    assert "secret" not in repr(finding)
    assert ("ConnectException" in finding.what) is (task in ("FAILED", "UNASSIGNED"))


def test_a_worker_without_a_connector_or_that_refuses_is_a_finding() -> None:
    class Worker(BaseHTTPRequestHandler):
        answers = ((200, b"[]"), (401, b""), (200, b"no json"))

        def do_GET(self) -> None:
            code, body = self.answers[len(found)]
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    found: list[Finding] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Worker) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        settings = Settings.model_validate({"source": {"connect_url": url}})
        for _ in Worker.answers:
            found += look(settings)
        server.shutdown()
    assert [finding.verdict for finding in found] == ["fail"] * 3
    assert "has no connector" in found[0].what
    assert "(401)" in found[1].what
    assert found[2].unreachable


def test_the_exit_code_says_the_worst() -> None:
    well = [passed("a", ""), warned("b", "", "x"), skipped("c", "")]
    wrong = failed("d", "", "x")
    away = Finding("e", "fail", "", "x", unreachable=True)
    assert exit_code(well) == Exit.DONE
    assert exit_code([*well, wrong]) == Exit.FAILED
    assert exit_code([away, wrong]) == Exit.UNREACHABLE


def test_a_fault_of_the_question_is_a_finding() -> None:
    def raising(fault: Exception) -> Finding:
        raise fault

    (away,) = asked("a", lambda: raising(Retry("It is away.", "Why.", "Start it.")))
    (wrong,) = asked("b", lambda: raising(Stop("It is wrong.", "Why.", "Mend it.")))
    assert (away.what, away.fix, away.unreachable) == ("It is away. Why.", "Start it.", True)
    assert (wrong.verdict, wrong.unreachable) == ("fail", False)


def test_neither_what_hangs_nor_what_breaks_hides_another_question() -> None:
    hanging = Event()

    def hangs(_: Settings) -> Iterator[Finding]:
        yield passed("slow", "the first answer")
        hanging.wait(60)

    def breaks(_: Settings) -> Iterator[Finding]:
        yield passed("bug", "the first answer")
        raise ZeroDivisionError

    def works(_: Settings) -> Iterator[Finding]:
        yield passed("well", "")

    found = list(examine(Settings(), [Part("slow", hangs, 0.2), Part("bug", breaks), Part("well", works)]))
    hanging.set()
    assert [(f.check, f.verdict) for f in found] == [
        ("slow", "pass"), ("slow", "fail"), ("bug", "pass"), ("bug", "fail"), ("well", "pass"),
    ]  # fmt: skip
    assert "ZeroDivisionError" in found[3].what
