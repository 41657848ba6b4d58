"""The dashboards are what the code makes of them, show series that exist, and reach Grafana."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.grafana.__main__ import FOLDER, rendered
from tests.observability import OPS, RULES, known_names, program, used_names

ROOT = OPS.parent
BOARDS: dict[str, Any] = {name: json.loads(content) for name, content in rendered().items()}


def test_the_files_are_up_to_date() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == rendered(), "run `make docs`"


def test_panels_are_told_apart_and_explained() -> None:
    for content in BOARDS.values():
        numbers = [panel["id"] for panel in content["panels"]]
        assert len(numbers) == len(set(numbers))
    shown = [panel for panel in BOARDS["embed-consumer.json"]["panels"] if panel["type"] != "row"]
    assert all(panel["description"] and panel["targets"] for panel in shown)
    titles = [panel["title"] for panel in shown]
    assert len(titles) == len(set(titles))


def test_a_single_number_is_of_now_and_not_the_last_one_that_there_was() -> None:
    """Of a range, Grafana shows the last value in it: FRESH for an hour after the consumer's death."""
    numbers = [panel for panel in BOARDS["embed-consumer.json"]["panels"] if panel["type"] == "stat"]
    assert numbers
    assert [panel["title"] for panel in numbers if any(t["range"] or not t["instant"] for t in panel["targets"])] == []


THRESHOLD = {'slo_threshold_seconds{job="j", instance="a"}': "60x20"}
TOPIC = {'topic_partitions{job="j", instance="a", source="s", topic="t", prefix="p"}': "2x20"}
FIRST, SECOND = (f'freshness_lag_seconds{{job="j", instance="a", source="s", partition="{number}"}}' for number in "01")


@pytest.mark.parametrize(
    ("situation", "shown"),
    [
        ({**TOPIC, FIRST: "0x20", SECOND: "60x20"}, 1),
        ({**TOPIC, FIRST: "0x20", SECOND: "61x20"}, 0),
        ({**TOPIC, FIRST: "0x20"}, 2),
        ({**TOPIC, FIRST: "61x20"}, 0),
        ({**TOPIC, FIRST: "0x10 stale", SECOND: "0x20"}, 2),
        ({FIRST: "0x20", next(iter(TOPIC)): "1x20", next(iter(TOPIC)).replace('"s"', '"missing"'): "0x20"}, 2),
        (dict.fromkeys([*TOPIC, FIRST, SECOND], "0x10 stale"), None),
    ],
    ids=["fresh", "stale", "one unmeasured", "stale, one unmeasured", "one lost", "no topic", "nobody reports"],
)
def test_fresh_is_said_only_of_what_is_measured(situation: dict[str, str], shown: int | None, tmp_path: Path) -> None:
    series = {f"embedding_pipeline_{name}": values for name, values in {**THRESHOLD, **situation}.items()}
    expected = [] if shown is None else [{"labels": '{job="j"}', "value": shown}]
    promtool(tmp_path, "Fresh?", series, expected)


@pytest.mark.parametrize(("answers", "shown"), [("1x20", 1), ("1x10 0x10", 0)])
def test_only_consumers_count_among_those_that_answer(answers: str, shown: int, tmp_path: Path) -> None:
    series = {'embedding_pipeline_build_info{job="j", instance="a"}': "1x10 stale"}
    series |= {'up{job="j", instance="a"}': answers, 'up{job="node", instance="b"}': "1x20"}
    promtool(tmp_path, "Consumers that answer", series, [{"labels": "{}", "value": shown}])


def promtool(folder: Path, title: str, series: dict[str, str], expected: list[dict[str, Any]]) -> None:
    """Whether the panel shows this of these series, five minutes after they began."""
    (panel,) = [panel for panel in BOARDS["embed-consumer.json"]["panels"] if panel["title"] == title]
    query = panel["targets"][0]["expr"].replace("$job", ".*")
    situation = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "5m", "exp_samples": expected}],
    }
    content = {"rule_files": [str(path) for path in RULES], "evaluation_interval": "15s", "tests": [situation]}
    (folder / "test.yml").write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(folder / "test.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_series_shown_is_in_the_catalogue_or_recorded() -> None:
    queries = [t["expr"] for panel in BOARDS["embed-consumer.json"]["panels"] for t in panel.get("targets", ())]
    used = used_names(" ".join(queries))
    assert used <= known_names()
    assert len(used) > 20


def test_compose_gives_grafana_the_dashboards_and_prometheus_the_rules() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"] if volume.startswith("."))
    (provider,) = yaml.safe_load((OPS / "compose/grafana-dashboards.yaml").read_text())["providers"]
    assert mounts["./ops/grafana/dashboards"] == provider["options"]["path"]
    assert Path(mounts["./ops/compose/grafana-dashboards.yaml"]).parent.name == "dashboards"
    (source,) = yaml.safe_load((OPS / "compose/grafana-datasource.yaml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in BOARDS["embed-consumer.json"]["panels"] if "datasource" in panel}
    assert used == {source["uid"]}
    assert "./ops/prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]
