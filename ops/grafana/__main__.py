"""`python -m ops.grafana` writes the dashboards' JSON; Grafana reads it, a test holds it to the code."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ops.grafana import freshness, runbooks

FOLDER = Path(__file__).parent / "dashboards"


def rendered() -> dict[str, str]:
    """{file name: JSON} of every dashboard."""
    encode = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode
    boards = {freshness.UID: freshness.dashboard(), runbooks.UID: runbooks.dashboard()}
    return {f"{uid}.json": encode(made.build()) + "\n" for uid, made in boards.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in rendered().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
