"""The dashboards are what the code makes of them, show series that exist, and reach Grafana."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ops.grafana.__main__ import FOLDER, rendered
from tests.observability import OPS, known_names, used_names

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
