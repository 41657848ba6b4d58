"""The settings: priority, origins, and a clear sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consumer.cli.config import shown
from consumer.errors import Exit, Stop
from consumer.operations.doctor.source import table_of
from consumer.operations.wiring import topics
from consumer.settings import Settings, StoreSettings, load_settings, settings_schema
from consumer.settings.kafka_properties import OWNED

ROOT = Path(__file__).parents[2]
TABLE = 'tables:\n  - topic: shop.public.products\n    text: "{{ title }}"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "embed-consumer.yaml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_environment_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    write("group: from-file\nbatch: {max_events: 5, max_bytes: 2MiB}\n" + TABLE)
    monkeypatch.setenv("EMBEDDING_BATCH__MAX_EVENTS", "7")
    loaded = load_settings(flags={"group": "from-flag"})
    assert (loaded.settings.group, loaded.settings.batch.max_events) == ("from-flag", 7)
    assert (loaded.settings.batch.max_bytes, loaded.settings.batch.max_seconds) == (2 * 2**20, 0.2)
    assert loaded.origins["group"] == "flag"
    assert loaded.origins["batch.max_events"] == "$EMBEDDING_BATCH__MAX_EVENTS"
    assert loaded.origins["batch.max_bytes"] == "embed-consumer.yaml"


def test_the_file_is_named_by_argument_then_environment_then_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().settings.group == "prod"
    write("group: here")
    assert load_settings().settings.group == "here"
    monkeypatch.setenv("EMBED_CONSUMER_CONFIG", str(write("group: named", "named.yaml")))
    assert load_settings().settings.group == "named"
    assert load_settings(write("group: argued", "argued.yaml")).settings.group == "argued"


def test_a_nested_value_from_the_environment_keeps_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    write("store: {dsn: postgresql://a@b/c, schema: mine}")
    monkeypatch.setenv("EMBEDDING_STORE__DSN", "postgresql://x@y/z")
    store = load_settings().settings.store
    assert (store.schema_name, store.dsn.get_secret_value()) == ("mine", "postgresql://x@y/z")


@pytest.mark.parametrize("name", ["embedding_batch__max_events", "Embedding_Batch__Max_Events"])
def test_the_environment_is_named_in_any_case(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    loaded = load_settings()
    assert loaded.settings.batch.max_events == 7
    assert loaded.origins == {"batch.max_events": f"${name}"}
    monkeypatch.setenv("embedding_btch__max_events", "7")
    with pytest.raises(Stop, match=r"\$embedding_btch__max_events: there is no setting btch"):
        load_settings()


def test_a_section_without_a_line_is_one_that_is_not_there() -> None:
    write("group: here\nstore:\n  # dsn: postgresql://a@b/c\ntables:\n")
    settings = load_settings().settings
    assert (settings.group, settings.store, settings.tables) == ("here", StoreSettings(), ())


def test_what_a_file_merges_may_stand_twice() -> None:
    write(
        "tables:\n  - &first {topic: a.b.c, text: x, metadata: [price]}\n"
        "  - &second {<<: *first, topic: a.b.d}\n  - {<<: *second, topic: a.b.e}\n"
    )
    assert [(table.topic, table.metadata) for table in load_settings().settings.tables] == [
        (topic, ("price",)) for topic in ("a.b.c", "a.b.d", "a.b.e")
    ]


def test_source_defaults_to_the_topic_and_gives_the_prefix() -> None:
    write(TABLE)
    table = load_settings().settings.tables[0]
    assert (table.source, table.prefix) == ("shop.public.products", "shop")


def test_a_prefix_that_contains_a_dot_is_said() -> None:
    routed = {"topic": "products", "source": "acme.eu.public.products", "topic_prefix": "acme.eu"}
    for given in ({"topic": "acme.eu.public.products", "topic_prefix": "acme.eu"}, routed):
        table = Settings.model_validate({"tables": [{"text": "x", **given}]}).tables[0]
        assert (table.prefix, table_of(table)) == ("acme.eu", ("public", "products"))
        assert topics(Settings.model_validate({"tables": [table]}))[1:] == ["__debezium-heartbeat.acme.eu"]
    with pytest.raises(ValueError, match="topic_prefix acme is that of neither topic nor source"):
        Settings.model_validate({"tables": [{"text": "x", "topic": "shop.public.products", "topic_prefix": "acme"}]})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("grup: x", r"no setting grup\. The nearest one is group"),
        ("store: {dsm: x}", r"store\.dsm\. The nearest one is store\.dsn"),
        ("tables:\n  - {topic: a.b.c, txt: x}", r"tables\.txt\. The nearest one is tables\.text"),
        ("group: [", "not valid YAML"),
        (f"{TABLE}group: x\n{TABLE}", "line 5: tables stands here twice"),
        ("store: {dsn: canary, dsn: canary}", "line 1: dsn stands here twice"),
        ("group:", "group"),
        ("- a\n- b", "top level must be keys"),
        ("batch: {max_events: 0}", r"batch\.max_events"),
        ("kafka: {properties: {group.id: x}}", r"group\.id is owned by embed-consumer.*set group instead"),
        ("kafka: {properties: {oauth_cb: canary}}", "oauth_cb is owned by embed-consumer.*remove it"),
        ("kafka: {properties: {Auto.Offset.Reset: earliest}}", "owned by embed-consumer"),
        ("kafka: {properties: {metadata.broker.list: 'h:1'}}", "set kafka.bootstrap_servers instead"),
        ("kafka: {properties: {plugin.library.paths: evil}}", "loads foreign code"),
        ("kafka: {properties: {ssl.engine.location: evil.so}}", "ssl.engine.location loads foreign code"),
        ("kafka: {properties: {ssl.engine.id: evil}}", "ssl.engine.id loads foreign code"),
        ("kafka: {properties: {ssl.providers: evil}}", "ssl.providers loads foreign code"),
        ("kafka: {properties: {sasl.kerberos.kinit.cmd: evil}}", "kinit.cmd loads foreign code"),
        ("kafka: {properties: {sasl.password: canary, sasl.username: bob}}", "not used .* PLAINTEXT; set SASL_SSL"),
        ("kafka: {properties: {sasl.password: canary, security.protocol: ssl}}", "not used .* SSL; set SASL_SSL"),
        ("kafka: {properties: {ssl.ca.location: ca.pem}}", "not used .* PLAINTEXT; set SSL or SASL_SSL"),
        (
            "kafka: {properties: {ssl.ca.location: ca.pem, security.protocol: sasl_plaintext}}",
            "not used .* SASL_PLAINTEXT",
        ),
        (
            "kafka: {properties: {ssl.ca.location: ca.pem, security.protocol: ssl,"
            " enable.ssl.certificate.verification: false}}",
            "ssl.ca.location is not used with enable.ssl.certificate.verification false; remove one",
        ),
        (
            "kafka: {properties: {ssl.ca.pem: canary, security.protocol: sasl_ssl,"
            " enable.ssl.certificate.verification: 'F'}}",
            "ssl.ca.pem is not used with enable.ssl.certificate.verification false",
        ),
        (TABLE + TABLE.removeprefix("tables:\n"), "share the topic"),
        ("tables:\n  - {topic: a b, text: x}", "no Kafka topic name"),
        ("store: {schema: 'a b'}", r"store\.schema"),
        ("embedding: {device: tpu}", r"embedding\.device"),
        ("registry: {url: 'ftp://r'}", r"registry\.url"),
        ("registry: {url: 'http://u:canary@r'}", "must not carry a user or password"),
        ("registry: {user: u}", "user and password go together"),
        ("registry: {user: u, password: canary, token: canary}", "not both"),
        ("registry: {key_file: k.pem}", "certificate_file and key_file go together"),
    ],
)
def test_every_mistake_is_named_with_exit_code_2(text: str, told: str) -> None:
    write(text)
    with pytest.raises(Stop, match=told) as caught:
        load_settings()
    assert caught.value.exit_code == Exit.USAGE
    assert "canary" not in str(caught.value)


def test_an_unknown_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_STORE__DNS", "x")
    with pytest.raises(Stop, match=r"\$EMBEDDING_STORE__DNS: there is no setting store\.dns"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "TABLES",
            '[{"topic": "a.b.c", "text": "x"}, {"topic": "a.b.d", "txt": "canary"}]',
            "tables.txt. .* tables.text",
        ),
        ("STORE", '{"dns": "canary"}', "store.dns. .* store.dsn"),
        ("KAFKA__PROPERTIES", '{"group.id": "canary"}', "group.id is owned"),
    ],
)
def test_a_mistake_inside_json_of_the_environment_is_named(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"EMBEDDING_{name}", value)
    with pytest.raises(Stop, match=told) as caught:
        load_settings()
    assert caught.value.exit_code == Exit.USAGE
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(OWNED))
def test_each_property_that_the_protocol_depends_on_is_refused_by_its_name(name: str) -> None:
    write(f"kafka: {{properties: {{{name}: x}}}}")
    with pytest.raises(Stop, match=f"{name} is owned by embed-consumer"):
        load_settings()


def test_a_secret_is_read_from_the_file_that_a_variable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    write("store: {schema: mine, dsn: postgresql://a@b/c}\nkafka: {bootstrap_servers: 'h:1'}")
    monkeypatch.setenv("EMBEDDING_STORE__DSN_FILE", str(write("postgresql://x:canary@y/z\n", "dsn")))
    login = {"security.protocol": "SASL_SSL", "sasl.username": "bob", "sasl.password": "canary"}
    monkeypatch.setenv("EMBEDDING_KAFKA__PROPERTIES_FILE", str(write(json.dumps(login), "login.json")))
    monkeypatch.setenv("EMBEDDING_REGISTRY__CA_FILE", "ca.pem")  # a setting of its own, though it ends alike
    loaded = load_settings()
    store, kafka = loaded.settings.store, loaded.settings.kafka
    assert (store.schema_name, store.dsn.get_secret_value()) == ("mine", "postgresql://x:canary@y/z")
    assert (kafka.bootstrap_servers, kafka.properties) == ("h:1", login)
    assert loaded.settings.registry.ca_file == Path("ca.pem")
    assert loaded.origins["store.dsn"] == "$EMBEDDING_STORE__DSN_FILE"
    assert "canary" not in json.dumps(shown(loaded.settings))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("STORE__DSN_FILE", None, r"EMBEDDING_STORE__DSN_FILE names cannot be read.*FileNotFoundError"),
        ("STORE__DNS_FILE", "canary", "there is no setting store.dns"),
        ("KAFKA__PROPERTIES_FILE", '{"canary', "cannot be read.*JSONDecodeError"),
        ("GROUP_FILE", "canary", "are both set"),
    ],
)
def test_a_mistake_with_such_a_file_is_named(
    name: str, content: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_GROUP", "canary")
    monkeypatch.setenv(f"EMBEDDING_{name}", "nowhere" if content is None else str(write(content, "secret")))
    with pytest.raises(Stop, match=told) as caught:
        load_settings()
    assert caught.value.exit_code == Exit.USAGE
    assert "canary" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(Stop, match="does not exist"):
        load_settings(Path("nowhere.yaml"))


def test_secrets_are_masked_also_inside_errors() -> None:
    write("store: {dsn: postgresql://u:canary@h/d}\nbatch: {max_events: x}")
    with pytest.raises(Stop) as caught:
        load_settings()
    assert "canary" not in str(caught.value)
    login = "{security.protocol: SASL_SSL, sasl.password: canary2, sasl.username: bob}"
    write(f"store: {{dsn: postgresql://u:canary@h/d}}\nkafka: {{properties: {login}}}")
    settings = load_settings().settings
    told = json.dumps(shown(settings))
    assert "canary" not in told
    assert settings.kafka.properties["sasl.password"] == "canary2"
    assert "bob" in told
    assert "postgresql://u:" in told
    for secret in ("{user: bob, password: canary}", "{token: canary}"):
        write(f"registry: {secret}")
        told = json.dumps(shown(load_settings().settings))
        assert "canary" not in told
        assert '"***"' in told


def test_the_checked_in_schema_is_the_trees() -> None:
    checked_in = json.loads((ROOT / "schemas/settings.schema.json").read_text(encoding="utf-8"))
    assert checked_in == settings_schema()


def test_a_schema_that_postgres_keeps_for_itself_is_refused() -> None:
    write("store: {schema: pg_vectors}")
    with pytest.raises(Stop, match="pg_") as fault:
        load_settings()
    assert fault.value.exit_code is Exit.USAGE
