"""The dashboards as code: `python -m ops.grafana` writes ops/grafana/dashboards/*.json."""
