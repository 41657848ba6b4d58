"""No secret and no document text leaves by a log, an error, a label or a page, whatever goes wrong."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.envelopes import Raw, change, key, row
from tests.world import World

TEXT = f"canary{secrets.token_hex(6)}"  # in every row, event and key
SECRET = f"hush{secrets.token_hex(6)}"  # in every credential that is not a real one
# A database error that quotes the row in each of its parts, as a constraint or a trigger of a user's may.
_TRIGGER = """
CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.content LIKE '%write%' THEN
    RAISE EXCEPTION 'no %', NEW.content USING ERRCODE = '22000', DETAIL = NEW.content, HINT = NEW.content;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON {schema}.chunks_1 FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
"""


def records() -> list[Raw]:
    """Good rows, and one that fails at each step."""
    return [
        change(row(1, title=f"good {TEXT}"), "c"),
        (key(2), b'{"op": "c", "after": {"title": "' + TEXT.encode()),
        (key(3), b'{"op": "' + TEXT.encode() + b'", "after": {}}'),
        change(row(4, title=TEXT, price=TEXT), "c"),
        change(row(5, title=f"{TEXT} \0"), "c"),
        change({"id": 6, "title": TEXT}, "c"),
        change(row(7, title=f"write {TEXT}"), "c"),
        change(row(8, title=TEXT, category=f"{TEXT} \ud800"), "c"),
        (TEXT.encode(), change(row(9), "c")[1]),
        change(row(10, title=f"{TEXT} " * 2, price="1"), "u"),
    ]


def page(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=30) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def told(world: World, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """All that a command prints, whatever its exit code."""
    done = world.command(*arguments, environment=environment)
    world.processes.pop()
    return done.stdout + done.stderr


def passwords(world: World) -> list[str]:
    """The stack's own, and the made-up one."""
    dsns = (world.endpoints.store_dsn, world.endpoints.migrator_dsn, world.endpoints.source_dsn)
    real = [str(conninfo_to_dict(dsn)["password"]) for dsn in dsns]
    return [SECRET, *real, *map(quote, real)]


def leaks(found: Mapping[str, str], canaries: list[str]) -> list[str]:
    return [f"{name}: {canary[:4]}…" for name, said in found.items() for canary in canaries if canary in said]


@pytest.mark.semantics(
    "faults",
    "any failure",
    "names stage, type and Kafka coordinates; no document text and no secret in logs, errors, labels, pages, outputs",
)
def test_neither_text_nor_secret_is_told(world: World) -> None:
    world.tables = [world.tables[0] | {"text": "{{ title }} {{ 1 // price|float }}"}]
    kafka = {
        "bootstrap_servers": world.endpoints.bootstrap_servers,
        "properties": {"ssl.keystore.password": SECRET, "ssl.key.password": SECRET},
    }
    world.settings(kafka=kafka, registry={"user": "bob", "password": SECRET}, log={"level": "debug", "format": "json"})
    world.create_topic()
    world.migrate()
    with psycopg.connect(world.endpoints.migrator_dsn, autocommit=True) as store:
        store.execute(sql.SQL(_TRIGGER).format(schema=sql.Identifier(world.name)))
    world.produce(*records())
    found: dict[str, str] = {}
    with world.consumer() as consumer:
        world.until(lambda: world.caught_up("a"))
        url = consumer.lines("ready to join")[0]["http"]
        found |= {name: page(f"{url}/{name}") for name in ("metrics", "healthz", "readyz", f"none?{SECRET}")}
        failed = world.store("SELECT stage, error_type, error FROM failed_documents")
        jobs = ("failed list", "failed list --json", "offsets show", "status", "status --json", "doctor")
        found |= {job: told(world, *job.split()) for job in (*jobs, "config show", "config show --json")}
    found |= {"log": consumer.output(), "failed documents": json.dumps(failed)}
    stages = {document["stage"] for document in failed}
    assert stages >= {"decode", "plan", "render", "write"}, "little went wrong"
    assert "error_type" in found["metrics"]
    assert "***" in found["config show"]
    assert leaks(found, [TEXT, *passwords(world)]) == []


WRONG = {
    "a store that is away": {"EMBEDDING_STORE__DSN": f"postgresql://bob:{SECRET}@127.0.0.1:1/vectors"},
    "a password that is wrong": {"EMBEDDING_STORE__DSN": ""},
    "a DSN that cannot be read": {"EMBEDDING_STORE__DSN": f"postgresql://bob:{SECRET}@[::1/vectors"},
    "a DSN of pairs": {"EMBEDDING_STORE__DSN": f"host=127.0.0.1 port=1 password='{SECRET}' user=bob"},
    "a source that is away": {"EMBEDDING_SOURCE__DSN": f"postgresql://bob:{SECRET}@127.0.0.1:1/shop"},
    "a login that Kafka does not know": {
        "EMBEDDING_KAFKA__PROPERTIES": json.dumps(
            {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "bob"}
            | {"sasl.password": SECRET}
        )
    },
    "a key that is none": {
        "EMBEDDING_KAFKA__PROPERTIES": json.dumps(
            {"security.protocol": "SSL", "ssl.key.pem": SECRET, "ssl.certificate.pem": SECRET}
        )
    },
    "a registry's URL with a password": {"EMBEDDING_REGISTRY__URL": f"http://bob:{SECRET}@127.0.0.1:1"},
    "a token and a password": {"EMBEDDING_REGISTRY__TOKEN": SECRET, "EMBEDDING_REGISTRY__PASSWORD": SECRET},
}


def test_no_secret_is_told_by_what_is_wrong_with_it(world: World) -> None:
    world.migrate()
    right = conninfo_to_dict(world.endpoints.store_dsn)
    address = f"{right['host']}:{right['port']}/{right['dbname']}"
    WRONG["a password that is wrong"]["EMBEDDING_STORE__DSN"] = f"postgresql://{right['user']}:{SECRET}@{address}"
    found = {what: told(world, "status", environment=wrong) for what, wrong in WRONG.items()}
    found["none of it"] = told(world, "doctor", environment=WRONG["a login that Kafka does not know"])
    found["a start"] = told(world, "--no-wait", environment=WRONG["a store that is away"])
    assert all(said.strip() for said in found.values())
    assert leaks(found, passwords(world)) == []
