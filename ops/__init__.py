"""What runs beside the consumer: rules, dashboards, runbooks, roles."""
