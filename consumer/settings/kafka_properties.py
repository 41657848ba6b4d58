"""Which librdkafka properties pass through, and which are refused by name: owned ones, foreign code, a downgrade."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# What the exactly-once protocol depends on. A user who could set these could lose changes without noticing.
OWNED = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "metadata.broker.list": "kafka.bootstrap_servers",  # the same by its old name
    "group.id": "group",
    "partition.assignment.strategy": None,
    "allow.auto.create.topics": None,
    "enable.auto.commit": None,
    "auto.commit.enable": None,
    "enable.auto.offset.store": None,
    "enable.partition.eof": None,
    "auto.offset.reset": None,
    "isolation.level": None,
    "on_commit": None,
    "error_cb": None,
    "stats_cb": None,
    "throttle_cb": None,
    "oauth_cb": None,
    "default.topic.config": None,
    "logger": None,
}
# librdkafka, or OpenSSL for it, would load or run whatever these name.
FOREIGN_CODE = {
    "plugin.library.paths",
    "ssl.engine.id",
    "ssl.engine.location",
    "ssl.providers",
    "sasl.kerberos.kinit.cmd",
}
# Who names a login or a certificate wants it used; the client's default is a connection with neither.
_LOGIN = re.compile(r"sasl\.(username|password|mechanisms?|oauthbearer\..+|kerberos\..+)")
_TRUST = re.compile(r"ssl\.(ca|certificate|key|keystore)\.(location|pem)")
_VERIFIES = "enable.ssl.certificate.verification"


def refuse(properties: Mapping[str, Any]) -> None:
    """Raise ValueError for what may not pass; the message names the property and never its value."""
    for name in properties:
        if name.lower() in OWNED:
            instead = OWNED[name.lower()]
            hint = f"; set {instead} instead" if instead else "; remove it"
            raise ValueError(f"{name} is owned by embed-consumer, which keeps offsets in Postgres{hint}")
        if name.lower() in FOREIGN_CODE:
            raise ValueError(f"{name} loads foreign code into the process; remove it")
    _refuse_downgrade(properties)


def _refuse_downgrade(properties: Mapping[str, Any]) -> None:
    protocol = str(properties.get("security.protocol", "plaintext")).upper()
    believes_anybody = str(properties.get(_VERIFIES, "true")).lower() in ("false", "f", "0")
    for name in properties:
        if _LOGIN.fullmatch(name) and not protocol.startswith("SASL_"):
            raise ValueError(f"{name} is not used with security.protocol {protocol}; set SASL_SSL")
        if _TRUST.fullmatch(name) and not protocol.endswith("SSL"):
            raise ValueError(f"{name} is not used with security.protocol {protocol}; set SSL or SASL_SSL")
        if name.startswith("ssl.ca.") and believes_anybody:
            raise ValueError(f"{name} is not used with {_VERIFIES} false; remove one of the two")
