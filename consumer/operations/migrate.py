"""`migrate`: the tables, then the vector space of the configured model. Only this command creates a generation."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.operations.wiring import load_model, migrator_dsn, vector_space
from consumer.settings import Settings
from consumer.store import Step, pending
from consumer.store import migrate as migrate_schema


def plan(settings: Settings) -> Sequence[Step]:
    """The steps that `migrate` would take, with their SQL, for review by whoever owns the database."""
    return pending(migrator_dsn(settings), settings.store.schema_name, vector_space(settings, load_model(settings)))


def migrate(settings: Settings) -> Sequence[Step]:
    """Take the steps that are pending; none if there are none."""
    space = vector_space(settings, load_model(settings))
    return migrate_schema(migrator_dsn(settings), settings.store.schema_name, space)
