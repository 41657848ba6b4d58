"""The dashboard `embed-consumer-runbooks`: ops/runbooks/*.md where the alerts' `runbook_url` leads.

So a link works wherever Grafana does, beside the graphs it speaks of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders.dashboard import Dashboard

from ops.grafana.panels import board, page

UID = "embed-consumer-runbooks"
OPS = Path(__file__).parents[1]


def alerts() -> Iterator[dict[str, Any]]:
    """Every alerting rule, in the order of the files."""
    for path in sorted((OPS / "prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def panel_of(url: str) -> int:
    """The panel that a link of an alert opens."""
    found = re.search(r"viewPanel=panel-(\d+)$", url)
    if found is None:
        raise ValueError(f"{url} opens no panel")
    return int(found[1])


def dashboard() -> Dashboard:
    """One page an alert, numbered as the alert's link says."""
    made = board(UID, "embed-consumer runbooks", "What each alert means and what to do.")
    pages = {panel_of(rule["annotations"]["runbook_url"]): rule["alert"] for rule in alerts()}
    for number, alert in sorted(pages.items()):
        made.with_panel(page(number, alert, (OPS / f"runbooks/{alert}.md").read_text(encoding="utf-8")))
    return made
