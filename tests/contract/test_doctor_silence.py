"""Dependencies that take a connection and then say nothing: the doctor's answer still comes, and in time."""

from __future__ import annotations

import socket
import time

from consumer.operations.doctor import examine
from consumer.operations.doctor.examine import PARTS, SECONDS
from consumer.settings import Settings


def test_dependencies_that_never_answer_are_named_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        dsn = f"postgresql://somebody:secret@{where}/nothing"
        settings = Settings.model_validate(
            {
                "kafka": {"bootstrap_servers": where},
                "registry": {"url": f"http://{where}"},
                "store": {"dsn": dsn},
                "source": {"dsn": dsn, "connect_url": f"http://{where}"},
                "http": {"listen": where},
                "tables": [{"topic": "a.b.c", "text": "{{ x }}", "format": "avro"}],
            }
        )
        begun = time.monotonic()
        found = list(examine(settings, [part for part in PARTS if part.name != "model"]))
        seconds = time.monotonic() - begun
    assert [finding.check for finding in found if finding.unreachable] == [
        "kafka",
        "registry",
        "source",
        "connector",
        "store",
    ]
    assert {finding.check: finding.verdict for finding in found}["http"] == "warn"
    assert all(finding.fix for finding in found if finding.verdict == "fail")
    assert "secret" not in repr(found)
    assert seconds < SECONDS
