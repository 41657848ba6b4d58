"""The settings file that `stack up` writes: usable by every command, and never in the place of a person's own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from consumer.local import Endpoints, write_settings
from consumer.local.settings_file import remove_settings
from consumer.settings import load_settings


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints(
        bootstrap_servers="127.0.0.1:1092",
        connect_url="http://127.0.0.1:1083",
        source_dsn="postgresql://debezium:a@127.0.0.1:1432/shop",
        source_owner_dsn="postgresql://shop_owner:b@127.0.0.1:1432/shop",
        store_dsn="postgresql://embedder:c@127.0.0.1:1432/vectors",
        migrator_dsn="postgresql://embedding_migrator:d@127.0.0.1:1432/vectors",
        reader_dsn="postgresql://embedding_reader:e@127.0.0.1:1432/vectors",
        admin_dsn="postgresql://postgres:f@127.0.0.1:1432/vectors",
        admin_source_dsn="postgresql://postgres:f@127.0.0.1:1432/shop",
    )


def test_the_product_reads_what_was_written(endpoints: Endpoints, tmp_path: Path) -> None:
    tables = [{"topic": "shop.public.notes", "text": "{{ body }}\n\n{{ title }}", "metadata": ["kind"]}]
    wanted = tmp_path / "embed-consumer.yaml"
    assert write_settings(wanted, tmp_path / "instead.yaml", endpoints, schema="other", tables=tables) == wanted
    assert stat.S_IMODE(wanted.stat().st_mode) == 0o600
    settings = load_settings(wanted).settings
    assert settings.kafka.bootstrap_servers == endpoints.bootstrap_servers
    assert settings.store.dsn.get_secret_value() == endpoints.store_dsn
    assert settings.store.schema_name == "other"
    assert settings.source.dsn is not None
    assert settings.source.dsn.get_secret_value() == endpoints.source_dsn
    assert [(table.topic, table.text, table.metadata) for table in settings.tables] == [
        ("shop.public.notes", "{{ body }}\n\n{{ title }}", ("kind",))
    ]


def test_its_own_file_is_written_again_with_the_new_ports(endpoints: Endpoints, tmp_path: Path) -> None:
    wanted, instead = tmp_path / "embed-consumer.yaml", tmp_path / "instead.yaml"
    first = write_settings(wanted, instead, endpoints)
    content = first.read_text()
    assert write_settings(wanted, instead, endpoints) == wanted
    assert wanted.read_text() == content
    assert not instead.exists()


@pytest.mark.parametrize("edit", ["group: mine\n", "{written}# a note of mine\n", ""])
def test_a_file_that_a_person_wrote_or_edited_stays(endpoints: Endpoints, tmp_path: Path, edit: str) -> None:
    wanted, instead = tmp_path / "embed-consumer.yaml", tmp_path / "home" / "embed-consumer.yaml"
    write_settings(wanted, instead, endpoints)
    wanted.write_text(mine := edit.format(written=wanted.read_text()))
    assert write_settings(wanted, instead, endpoints) == instead
    assert wanted.read_text() == mine
    assert load_settings(instead).settings.tables


def test_only_what_was_written_for_this_stack_is_removed(endpoints: Endpoints, tmp_path: Path) -> None:
    path = write_settings(tmp_path / "embed-consumer.yaml", tmp_path / "instead.yaml", endpoints)
    assert not remove_settings(path, "the password of another stack")
    written = path.read_text()
    path.write_text(f"{written}# a note of mine\n")
    assert not remove_settings(path, "c")
    path.write_text(written)
    assert remove_settings(path, "c")
    assert not path.exists()
    assert remove_settings(path, "c"), "there is nothing left to remove"
