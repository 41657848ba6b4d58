"""Kafka Connect: does the connector run, and if not, what is its state and what starts it again?"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from consumer.operations.doctor.finding import Finding, failed, passed, skipped
from consumer.settings import Settings

CONNECTOR = "Ask Connect: GET <connect>/connectors/<name>/status names the failed task; POST …/restart starts it again."
LOST = "if that does not help because its slot is gone: runbook ReplicationSlotGrowing, a lost slot"
_SECONDS = 5.0


def look(settings: Settings) -> Iterator[Finding]:
    """The connector of the settings, or every one that the worker has."""
    url = (settings.source.connect_url or "").rstrip("/")
    if not url:
        fix = "Set source.connect_url (EMBEDDING_SOURCE__CONNECT_URL) to the REST address of Kafka Connect."
        yield skipped("connector", "source.connect_url is not set: the connector's state is not checked.", fix)
        return
    try:
        named = settings.source.connector
        names = [named] if named else _ask(f"{url}/connectors")
        if not names:
            fix = "Give it the connector's file (connectors/)."
            yield failed("connector", f"Kafka Connect at {url} has no connector: no change arrives.", fix)
        for name in names:
            yield judge_connector(url, name, _ask(f"{url}/connectors/{quote(name, safe='')}/status"))
    except urllib.error.HTTPError as error:
        yield _refused(url, settings.source.connector or "", error.code)
    except (OSError, ValueError) as error:
        what = f"Kafka Connect at {url} does not answer ({type(error).__name__})."
        yield Finding("connector", "fail", what, "Start it, or correct source.connect_url.", unreachable=True)


def judge_connector(url: str, name: str, status: Mapping[str, Any]) -> Finding:
    """Whether connector and task run. `status` is Connect's own; of a failed task's trace only the error's name is
    told, for the rest of it may quote rows."""
    check, here = f"connector {name}", f"{url}/connectors/{quote(name, safe='')}"
    state, tasks = status["connector"]["state"], status["tasks"]
    wrong = [task for task in tasks if task["state"] != "RUNNING"]
    if state in ("PAUSED", "STOPPED"):
        return failed(check, f"It is {state}: somebody has halted it, and no change arrives.", f"PUT {here}/resume")
    restart = f"POST {here}/restart?includeTasks=true&onlyFailed=true"
    if state != "RUNNING" or wrong:
        said = f"Its task is {wrong[0]['state']}" if wrong else f"It is {state}"
        error = str(wrong[0].get("trace", "")).split(":", 1)[0].strip() if wrong else ""
        why = f" ({error.rsplit('.', 1)[-1]})" if error and " " not in error else ""
        return failed(check, f"{said}{why}: no change arrives.", f"GET {here}/status has the reason; {restart}; {LOST}")
    if not tasks:
        return failed(check, "It has no task: it is being started, or its worker is gone.", restart)
    return passed(check, f"it runs, tasks: {len(tasks)}")


def _refused(url: str, name: str, code: int) -> Finding:
    if code == HTTPStatus.NOT_FOUND and name:
        fix = "Correct source.connector, or give Connect the connector's file (connectors/)."
        return failed(f"connector {name}", f"Kafka Connect at {url} has no such connector.", fix)
    return failed("connector", f"Kafka Connect at {url} refuses the question ({code}).", "Correct source.connect_url.")


def _ask(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=_SECONDS) as reply:
        return json.loads(reply.read(1 << 20))
