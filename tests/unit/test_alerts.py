"""Rules, their tests, the runbooks and the routing example: complete, valid, and about things that exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from consumer.cli.app import app
from tests.observability import OPS, RULES, RUNBOOKS, known_names, printed, program, rules, used_names

ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in rules() if "alert" in rule}
TESTS = sorted((OPS / "prometheus/tests").glob("*.yml"))
BOARDS = {path.stem: json.loads(path.read_text()) for path in (OPS / "grafana/dashboards").glob("*.json")}


def ran(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def linked(url: str) -> dict[str, Any]:
    """The panel that an alert's link opens."""
    found = re.fullmatch(r"\{\{ \$externalLabels\.grafana \}\}/d/([\w-]+)\?viewPanel=panel-(\d+)", url)
    assert found, url
    (panel,) = [panel for panel in BOARDS[found[1]]["panels"] if panel.get("id") == int(found[2])]
    return dict(panel)


def test_promtool_accepts_the_configuration_and_every_rule() -> None:
    said = ran(program("promtool"), "check", "config", OPS / "prometheus/prometheus.yml")
    assert f"{len(RULES)} rule files found" in said
    assert all(str(path) in said for path in RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(path: Path) -> None:
    ran(program("promtool"), "test", "rules", path)


def judged(situation: dict[str, Any], alert: str) -> set[bool]:
    """Whether one of promtool's tests expects the alert to fire (True), or not to (False), or says nothing of it."""
    said = {bool(test["exp_alerts"]) for test in situation.get("alert_rule_test", ()) if test["alertname"] == alert}
    for test in situation.get("promql_expr_test", ()):
        if not (asked := re.search(r"\bALERTS(\{[^}]*\})?", test["expr"])):
            continue
        named = re.search(r'alertname(=~|!=|=)"([^"]+)"', asked[1] or "")
        if named is None or (alert in named[2].split("|")) is (named[1] != "!="):
            alone = named is not None and named[2] == alert  # its name need not be in the answer
            said.add(f'alertname="{alert}"' in str(test["exp_samples"]) or bool(alone and test["exp_samples"]))
    return said


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_each_alert_is_judged_in_every_situation(path: Path) -> None:
    """Firing, not firing, without samples, idle, while a backfill runs, and with clocks that differ."""
    files = [yaml.safe_load(test.read_text()) for test in TESTS if test.stem.split("-")[0] == path.stem]
    situations = [situation for content in files for situation in content["tests"]]
    for alert in [rule["alert"] for rule in rules(path) if "alert" in rule]:
        assert {outcome for each in situations for outcome in judged(each, alert)} == {True, False}, alert
        unjudged = {
            word
            for word in ("idle", "absent", "backfill running", "skew")
            if not any(judged(each, alert) for each in situations if word in each["name"])
        }
        assert not unjudged, alert


def test_every_series_that_a_rule_reads_exists() -> None:
    assert used_names(" ".join(rule["expr"] for rule in rules())) <= known_names()


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_it_means_how_grave_it_is_and_where_to_look(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert linked(rule["annotations"]["runbook_url"])["title"] == name
    panel = linked(rule["annotations"]["dashboard_url"])
    shown = " ".join(target["expr"] for target in panel["targets"])
    assert (used_names(shown) | {"up"}) & (behind(rule["expr"]) | set(re.findall(r"\bup\b", rule["expr"])))


def behind(expr: str) -> set[str]:
    """Every series that an expression rests on, also by way of recording rules."""
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    names = used_names(expr)
    return names.union(*(behind(recorded[name]) for name in names & recorded.keys()))


def test_alerts_and_runbooks_match_one_to_one() -> None:
    assert {path.stem for path in RUNBOOKS} == ALERTS.keys()


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_its_four_parts_and_names_commands_that_exist(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE) == [
        *(path.stem, "Meaning", "Impact", "Diagnosis", "Mitigation"),
    ]
    commands = re.findall(r"`(embed-consumer\b[^`]*)`", text)
    commands += [shown.command for shown in printed(text) if shown.command.startswith("embed-consumer")]
    assert printed(text)
    assert commands
    for command in commands:
        parse(shlex.split(command)[1:])
    assert [link for link in re.findall(r"docs/\w+\.md", text) if not (OPS.parent / link).is_file()] == []
    assert set(re.findall(r"connectors/([\w-]+)/", text)) <= {path.stem for path in OPS.parent.glob("connectors/*")}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for wrong in (["statsu"], ["status", "--wach"], ["failed", "retry", "--every"], ["replay"]):
        with pytest.raises(Exception, match=r"(?i)no such|missing"):
            parse(wrong)


def parse(arguments: list[str]) -> None:
    """Read the arguments as the command line does, without running anything."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("embed-consumer", list(arguments), resilient_parsing=False)
    while rest := [*context._protected_args, *context.args]:
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def test_panels_that_runbooks_quote_exist() -> None:
    titles = {panel["title"] for panel in BOARDS["embed-consumer"]["panels"]}
    prose = [re.sub(r"```.*?```|`[^`]*`", "", path.read_text(), flags=re.DOTALL) for path in RUNBOOKS]
    quoted = {title for text in prose for title in re.findall(r'"([^"]+)"', " ".join(text.split()))}
    assert quoted
    assert quoted <= titles


def test_the_routing_example_is_valid_and_names_alerts_that_exist() -> None:
    path = OPS / "alertmanager/alertmanager.yml"
    ran(program("amtool"), "check-config", path)
    content = yaml.safe_load(path.read_text())
    matchers = [m for rule in content["inhibit_rules"] for m in (*rule["source_matchers"], *rule["target_matchers"])]
    named = {name for matcher in matchers for name in matcher.split('"')[1].split("|")}
    assert named <= ALERTS.keys()
