"""docker-compose.yml is valid, safe by default, and the same stack as the local one."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from consumer.local import Endpoints, registry, write_settings
from consumer.local.artifacts import pinned
from consumer.local.connect import connector_environment
from consumer.local.state import State
from consumer.local.versions import (
    APICURIO,
    CONNECT_SETTINGS,
    CONNECTOR,
    CONNECTORS,
    DEBEZIUM,
    HEARTBEAT_TOPIC,
    KAFKA,
    KAFKA_SETTINGS,
    PGVECTOR,
    POSTGRES_MAJOR,
    POSTGRES_SETTINGS,
    ROLES,
    SIGNAL_TOPIC,
    TOPIC_PREFIX,
)
from consumer.settings import load_settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
ONE_SHOT = ["connector", "migrate"]
JOBS = [*ONE_SHOT, "connector-avro", "signal-topic"]
# What depends on where a stack runs, not on what it is.
PLACES = {"SOURCE_HOST", "SOURCE_PORT", "SOURCE_PASSWORD", "TOPIC_BOOTSTRAP_SERVERS", "REGISTRY_URL"}


def environment(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service]["environment"].items()}


def connector() -> dict[str, str]:
    content: dict[str, str] = json.loads((ROOT / "connectors" / f"{CONNECTOR}.json").read_text())
    return content


def test_it_follows_the_compose_specification() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []
    assert "version" not in COMPOSE


def test_images_are_pinned_and_the_versions_are_those_of_the_local_stack() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert images["kafka"] == f"apache/kafka:{KAFKA}"
    assert images["postgres"].startswith(f"pgvector/pgvector:{PGVECTOR}-pg{POSTGRES_MAJOR}-")
    assert (
        images["connect"] == images["connector"] == images["connector-avro"] == f"quay.io/debezium/connect:{DEBEZIUM}"
    )
    assert images["registry"] == f"quay.io/apicurio/apicurio-registry-kafkasql:{APICURIO}"
    assert all(re.search(r":[\w.-]*\d", images[name]) for name in SERVICES if name not in OURS)
    locked = {artifact.name: artifact.version for artifact in pinned()}
    assert locked["kafka_2.13"] == locked["connect-runtime"] == KAFKA
    assert locked["debezium-connector-postgres"] == DEBEZIUM
    assert locked["apicurio-registry-app"] == locked["apicurio-registry-utils-converter"] == APICURIO


def test_broker_connect_and_postgres_are_set_as_in_the_local_stack() -> None:
    def variable(prefix: str, name: str) -> str:
        return f"{prefix}{name.upper().replace('.', '_')}"

    kafka, connect = environment("kafka"), environment("connect")
    assert {name: kafka.get(variable("KAFKA_", name)) for name in KAFKA_SETTINGS} == KAFKA_SETTINGS
    # The image has names of its own for some properties.
    given = {
        name: connect.get(variable("", name), connect.get(variable("CONNECT_", name))) for name in CONNECT_SETTINGS
    }
    assert given == CONNECT_SETTINGS
    command = SERVICES["postgres"]["command"]
    assert dict(part.split("=", 1) for part in command[2::2]) == POSTGRES_SETTINGS
    assert set(command[1::2]) == {"-c"}


def test_connector_files_find_every_variable_in_both_stacks() -> None:
    local = connector_environment(State(passwords={"debezium": "x"}))
    compose = {name: value for name, value in environment("connect").items() if name in local}
    assert local.keys() == compose.keys()
    same = local.keys() - PLACES
    assert {name: local[name] for name in same} == {name: compose[name] for name in same}
    for path in (ROOT / "connectors").glob("*.json"):
        named = set(re.findall(r"\$\{env:(\w+)\}", path.read_text()))
        assert named <= local.keys()
        allowed = CONNECT_SETTINGS["config.providers.env.param.allowlist.pattern"]
        assert all(re.fullmatch(allowed, name) for name in named)


def test_the_connector_jobs_register_the_files_of_the_local_stack() -> None:
    for job, name in (("connector", CONNECTORS["json"]), ("connector-avro", CONNECTORS["avro"])):
        command = SERVICES[job]["command"]
        assert f"@/connectors/{name}.json" in command
        assert command[-1].endswith(f"/connectors/{name}/config")
    switch = SERVICES["connector-avro"]["command"]
    assert switch[switch.index("DELETE") + 1].endswith(f"/connectors/{CONNECTORS['json']}")
    assert connector()["topic.prefix"] == TOPIC_PREFIX
    assert re.fullmatch(connector()["topic.creation.heartbeat.include"], HEARTBEAT_TOPIC)
    assert SIGNAL_TOPIC in SERVICES["signal-topic"]["command"]
    assert SERVICES["signal-topic"]["image"] == SERVICES["kafka"]["image"]


def test_avro_is_written_and_read_by_the_apis_of_the_local_stack() -> None:
    state = State(ports={"registry": 1})
    local = connector_environment(state)["REGISTRY_URL"]
    assert environment("connect")["REGISTRY_URL"] == local.replace(registry.address(state), "http://registry:8080")
    url = environment("consumer")["EMBEDDING_REGISTRY__URL"]
    assert url == f"http://registry:8080{registry.CONFLUENT_API}"
    assert environment("connect")["ENABLE_APICURIO_CONVERTERS"] == "true"


def test_roles_get_their_passwords_by_the_same_variables() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "ops/postgres").glob("*.sql"))
    wanted = set(re.findall(r"^\\getenv \w+ (\w+_PASSWORD)$", scripts, re.MULTILINE))
    assert wanted == set(ROLES.values())
    assert wanted <= environment("postgres").keys()


def test_the_consumer_is_set_as_in_the_local_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMBEDDING_STORE__DSN", "EMBEDDING_STORE__MIGRATOR_DSN"):
        monkeypatch.delenv(name, raising=False)
    endpoints = Endpoints("localhost:1", "http://localhost:2", *["postgresql://someone@localhost:3/db"] * 7)
    local = load_settings(write_settings(tmp_path / "local.yaml", tmp_path / "other.yaml", endpoints)).settings
    compose = load_settings(ROOT / "ops/compose/embed-consumer.yaml").settings
    places = {"kafka": {"bootstrap_servers"}, "store": {"dsn", "migrator_dsn"}, "source": True, "http": True}
    assert compose.model_dump(exclude=places) == local.model_dump(exclude=places)  # type: ignore[arg-type]
    assert all(table.topic.startswith(f"{TOPIC_PREFIX}.public.") for table in compose.tables)
    # The variables that bring the DSNs are ones that the product knows.
    for name, value in environment("consumer").items():
        monkeypatch.setenv(name, value)
    dsn = load_settings(ROOT / "ops/compose/embed-consumer.yaml").settings.store.dsn.get_secret_value()
    assert dsn.startswith("postgresql://embedder:")


def test_the_consumer_waits_for_its_jobs_and_they_for_what_they_need() -> None:
    for name in ("consumer", "consumer-gpu"):
        conditions = {key: value["condition"] for key, value in SERVICES[name]["depends_on"].items()}
        assert {conditions.pop(job) for job in ONE_SHOT} == {"service_completed_successfully"}
        assert set(conditions.values()) == {"service_healthy"}
    assert SERVICES["consumer"]["command"] == ["--group", "prod"]
    assert SERVICES["migrate"]["command"] == ["migrate"]


def test_health_is_watched_and_nothing_of_ours_runs_as_root() -> None:
    watched = {name for name, service in SERVICES.items() if "test" in service["healthcheck"]}
    assert watched == SERVICES.keys() - set(JOBS)
    for name in OURS:
        user = int(SERVICES[name]["user"].split(":")[0])
        assert user > 0
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")
    assert re.search(r"^USER [1-9]\d*", stages[-1], re.MULTILINE)


def test_ports_are_published_on_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_profiles_add_gpu_observability_and_avro_and_nothing_else_is_optional() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {
        "consumer-gpu": ["gpu"],
        "prometheus": ["observability"],
        "grafana": ["observability"],
        "registry": ["avro"],
        "connector-avro": ["avro"],
    }


def test_every_mounted_file_is_there() -> None:
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert [mount for mount in mounts if mount.startswith(".") and not (ROOT / mount).exists()] == []
