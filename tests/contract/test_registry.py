"""What the registry client promises, against the real Apicurio and against a stand-in that speaks the Confluent API."""

from __future__ import annotations

import json
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from consumer.errors import Exit, Reject, Stop
from consumer.events import AvroSchema, SchemaRef
from consumer.local import Stack
from consumer.operations.wiring import open_registry
from consumer.settings import Settings
from consumer.source import Access, RegistryWait, SchemaRegistry
from tests.registry_standin import StandInRegistry

CERTIFICATES = Path(__file__).parent / "certificates"
PASSWORD = "canary-password"
JSON_SCHEMA = "http://json-schema.org/draft-07/schema#"


class Registry(Protocol):
    """A registry with a way to put schemas into it."""

    url: str

    def register(
        self, subject: str, schema: str, references: Sequence[Mapping[str, Any]] = (), kind: str = "AVRO"
    ) -> int: ...


class Apicurio:
    """The real one, filled by its Confluent-compatible API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def register(
        self, subject: str, schema: str, references: Sequence[Mapping[str, Any]] = (), kind: str = "AVRO"
    ) -> int:
        body = json.dumps({"schema": schema, "references": list(references), "schemaType": kind}).encode()
        request = urllib.request.Request(
            f"{self.url}/subjects/{subject}/versions", body, {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        )
        return int(self.read(request)["id"])

    def read(self, request: urllib.request.Request | str) -> Any:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as reply:
            return json.loads(reply.read())


@pytest.fixture(params=["stand-in", "apicurio"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    if request.param == "apicurio":
        yield Apicurio(request.getfixturevalue("avro_stack").endpoints().registry_url)
        return
    with StandInRegistry() as made:
        yield made


@pytest.fixture
def unique() -> str:
    """A name that no other test and no earlier run has: the real registry keeps what it is given."""
    return f"t{time.time_ns()}"


def client(registry: Registry, *, unknown_seconds: float = 60.0, **access: Any) -> SchemaRegistry:
    return SchemaRegistry(Access(registry.url, **access), unknown_seconds=unknown_seconds)


def record(name: str, *fields: str) -> str:
    pairs = (field.split(":") for field in fields)
    return json.dumps({"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in pairs]})


def reference(name: str, subject: str) -> dict[str, Any]:
    return {"name": name, "subject": subject, "version": 1}


def content(number: int) -> SchemaRef:
    return SchemaRef("content", number)


def parsed(found: AvroSchema | Reject) -> list[str]:
    """The names that were read, in their order; the last one is the schema's own."""
    assert isinstance(found, AvroSchema), found
    root: Any = found.root
    assert root["name"] == list(found.names)[-1]
    return list(found.names)


def rejected(found: AvroSchema | Reject) -> tuple[str, str]:
    assert isinstance(found, Reject), found
    return found.stage, found.error_type


def test_a_schema_is_found_by_its_id(registry: Registry, unique: str) -> None:
    number = registry.register(unique, record(unique, "x:int"))
    (found,) = client(registry).schemas({content(number)}).values()
    assert parsed(found) == [unique]


def test_references_come_in_the_order_they_are_read_in_each_once(registry: Registry, unique: str) -> None:
    top, left, right, leaf = (f"{unique}_{part}" for part in ("top", "left", "right", "leaf"))
    registry.register(leaf, record(leaf, "x:int"))
    for side in (left, right):
        registry.register(side, record(side, f"x:{leaf}"), [reference(leaf, leaf)])
    number = registry.register(
        top, record(top, f"l:{left}", f"r:{right}"), [reference(left, left), reference(right, right)]
    )
    (found,) = client(registry).schemas([content(number)]).values()
    assert parsed(found) == [leaf, left, right, top]


@pytest.mark.semantics("wire forms", "schema id that the registry does not know")
def test_an_unknown_id_is_waited_for_and_heals(registry: Registry, unique: str) -> None:
    before = registry.register(f"{unique}_before", record(f"{unique}_before", "x:int"))
    asked, awaited = client(registry), content(before + 1)
    with pytest.raises(RegistryWait, match=rf"schema id {before + 1} "):
        asked.schemas({content(before), awaited})
    assert registry.register(unique, record(unique, "x:int")) == before + 1
    assert set(asked.schemas({awaited})) == {awaited}


def test_an_id_unknown_for_too_long_is_rejected_and_its_neighbours_are_not(registry: Registry, unique: str) -> None:
    number = registry.register(unique, record(unique, "x:int"))
    asked = client(registry, unknown_seconds=0.0)
    found = asked.schemas({content(number), content(number + 1), SchemaRef("global", 2**40)})
    assert isinstance(found[content(number)], AvroSchema)
    assert rejected(found[content(number + 1)]) == ("decode", "schema_unknown")
    assert rejected(found[SchemaRef("global", 2**40)]) == ("decode", "schema_unknown")
    assert registry.register(f"{unique}_late", record(f"{unique}_late", "x:int")) == number + 1
    assert isinstance(asked.schemas({content(number + 1)})[content(number + 1)], AvroSchema), "rejected, not for ever"


@pytest.mark.semantics("wire forms", "schema id that the registry does not know")
def test_unknown_ids_share_one_wait(registry: Registry, unique: str) -> None:
    number = registry.register(unique, record(unique, "x:int"))
    asked, waits = client(registry, unknown_seconds=0.5), 0
    for unknown in range(number + 1, number + 20):
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            try:
                found = asked.schemas({content(unknown), content(number)})
            except RegistryWait:
                assert unknown == number + 1, "the first was waited for, in vain"
                waits += 1
                time.sleep(0.05)
            else:
                break
        assert rejected(found[content(unknown)]) == ("decode", "schema_unknown")
    assert waits
    name = f"{unique}_late"
    assert registry.register(name, record(name, "x:int")) == number + 1
    asked.schemas({content(number + 1)})
    with pytest.raises(RegistryWait):
        asked.schemas({content(number + 2)})  # what was waited for has turned up: so may others


@pytest.mark.parametrize("ref", [content(0), content(2**31), SchemaRef("global", 2**63)], ids=str)
def test_a_number_that_no_registry_gives_is_rejected_at_once(registry: Registry, ref: SchemaRef) -> None:
    assert rejected(client(registry).schemas({ref})[ref]) == ("decode", "schema_unknown")


def test_a_schema_that_is_not_avro_is_rejected(registry: Registry, unique: str) -> None:
    number = registry.register(unique, json.dumps({"$schema": JSON_SCHEMA, "title": unique}), kind="JSON")
    assert rejected(client(registry).schemas({content(number)})[content(number)]) == ("decode", "schema_not_avro")


def test_global_ids_are_apicurios_own(avro_stack: Stack, unique: str) -> None:
    """The same content under two names has one content id and two global ids."""
    registry, leaf = Apicurio(avro_stack.endpoints().registry_url), f"{unique}_leaf"
    registry.register(leaf, record(leaf, "x:int"))
    text, needed = record(unique, f"x:{leaf}"), [reference(leaf, leaf)]
    assert registry.register(unique, text, needed) == registry.register(f"{unique}_again", text, needed)
    native = registry.url.replace("/apis/ccompat/v7", "/apis/registry/v2")
    numbers = [
        registry.read(f"{native}/groups/default/artifacts/{name}/meta")["globalId"]
        for name in (unique, f"{unique}_again")
    ]
    assert len(set(numbers)) == 2
    for found in client(registry).schemas([SchemaRef("global", number) for number in numbers]).values():
        assert parsed(found) == [leaf, unique]


def test_only_a_registry_that_is_set_is_waited_for() -> None:
    """Bytes that look like Avro in a topic of JSON fail alone where nobody has a registry."""
    table = {"topic": "shop.public.a", "text": "{{ id }}"}
    unset = open_registry(Settings.model_validate({"tables": [table]}))
    assert rejected(unset.schemas({content(1)})[content(1)]) == ("decode", "registry_not_set")
    for given in ({"tables": [table | {"format": "avro"}]}, {"tables": [table], "registry": {"url": "http://r"}}):
        assert isinstance(open_registry(Settings.model_validate(given)), SchemaRegistry)


def test_an_id_is_asked_for_once() -> None:
    with StandInRegistry() as registry:
        refs = {content(registry.register("a", record("A", "x:int")))}
        asked = client(registry)
        first = asked.schemas(refs)
    assert asked.schemas(refs) == first, "and then needs no registry"
    assert registry.asked == ["/schemas/ids/1"]


BASIC: dict[str, Any] = {"user": "reader", "password": PASSWORD}


@pytest.mark.semantics(
    "wire forms",
    "registry with credentials or TLS",
    "basic, bearer and client certificates; one that refuses or is not trusted is waited for, and said",
)
@pytest.mark.parametrize(
    ("authorization", "access"),
    [
        (f"Basic {b64encode(f'reader:{PASSWORD}'.encode()).decode()}", BASIC),
        (f"Bearer {PASSWORD}", {"token": PASSWORD}),
    ],
    ids=["basic", "bearer"],
)
def test_credentials_let_in_and_their_lack_is_told(authorization: str, access: dict[str, Any]) -> None:
    with StandInRegistry(authorization=authorization) as registry:
        refs = {content(registry.register("a", record("A", "x:int")))}
        assert client(registry, **access).schemas(refs)
        wrong: dict[str, Any] = {name: f"{value}x" for name, value in access.items()}
        with pytest.raises(RegistryWait, match=r"refuses access \(401\)") as refused:
            client(registry, **wrong).schemas(refs)
    assert PASSWORD not in str(refused.value) + repr(Access(registry.url, **access))


@pytest.mark.semantics("wire forms", "registry with credentials or TLS")
def test_a_server_is_trusted_by_its_authority_and_by_nothing_else() -> None:
    with StandInRegistry(certificate=CERTIFICATES / "server.pem") as registry:
        refs = {content(registry.register("a", record("A", "x:int")))}
        assert client(registry, ca_file=CERTIFICATES / "authority.pem").schemas(refs)
        for authority in (None, CERTIFICATES / "stranger.pem"):
            with pytest.raises(RegistryWait, match="is not trusted"):
                client(registry, **BASIC, ca_file=authority).schemas(refs)
        registry.url = registry.url.replace("localhost", "127.0.0.1")
        with pytest.raises(RegistryWait, match=r"is not trusted .*mismatch"):
            client(registry, **BASIC, ca_file=CERTIFICATES / "authority.pem").schemas(refs)
    assert registry.credentials == [None], "nobody who was not trusted has seen the password"


@pytest.mark.semantics("wire forms", "registry with credentials or TLS")
def test_a_client_certificate_is_shown_where_one_is_demanded() -> None:
    authority, own = CERTIFICATES / "authority.pem", CERTIFICATES / "client.pem"
    with StandInRegistry(certificate=CERTIFICATES / "server.pem", client_authority=authority) as registry:
        refs = {content(registry.register("a", record("A", "x:int")))}
        assert client(registry, ca_file=authority, certificate_file=own, key_file=own).schemas(refs)
        with pytest.raises(RegistryWait):
            client(registry, ca_file=authority).schemas(refs)


def test_a_certificate_that_cannot_be_read_stops() -> None:
    with pytest.raises(Stop) as stopped:
        SchemaRegistry(Access("https://localhost", ca_file=Path("nowhere.pem")))
    assert stopped.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ((503, {}, b""), "status 503"),
        ((302, {"Location": "{other}/schemas/ids/1"}, b""), "status 302"),
        ((200, {}, b"<html>Log in</html>"), "is no schema registry"),
        ((200, {}, b'{"hello": "world"}'), "is no schema registry"),
        ((404, {}, b"<html>Not found</html>"), "is no schema registry"),
        ((404, {}, b'{"error_code": 404}'), "is no schema registry"),
    ],
    ids=["busy", "redirect", "page", "other", "elsewhere", "base-path"],
)
def test_what_may_pass_is_waited_for_in_one_line(fault: tuple[int, dict[str, str], bytes], told: str) -> None:
    with StandInRegistry() as registry, StandInRegistry() as other:
        refs = {content(registry.register("a", record("A", "x:int")))}
        status, headers, body = fault
        registry.fault = status, {name: value.format(other=other.url) for name, value in headers.items()}, body
        asked = client(registry, **BASIC, unknown_seconds=0.0)
        with pytest.raises(RegistryWait, match=told) as waited:
            asked.schemas(refs)
        assert "\n" not in waited.value.what
        assert other.asked == [], "a redirect carries the credentials nowhere"
        registry.fault = None
        assert asked.schemas(refs)


def test_a_registry_that_is_away_is_waited_for() -> None:
    with StandInRegistry() as registry:
        pass
    with pytest.raises(RegistryWait, match=r"does not answer \(ConnectionRefusedError\)"):
        client(registry).schemas({content(1)})


def test_an_endless_schema_is_rejected() -> None:
    with StandInRegistry() as registry:
        registry.fault = 200, {}, b'"' + b"a" * (17 << 20)
        assert rejected(client(registry).schemas({content(1)})[content(1)]) == ("decode", "schema_too_large")
