"""One settings tree: a YAML file, overridden by the environment, overridden by flags."""

from consumer.settings.load import DEFAULT_FILE, Loaded, load_settings, own_variables, settings_schema
from consumer.settings.tree import (
    BatchSettings,
    EmbeddingSettings,
    HttpSettings,
    IndexSettings,
    KafkaSettings,
    LogSettings,
    RegistrySettings,
    Settings,
    SloSettings,
    StoreSettings,
    TableSettings,
)

__all__ = [
    "DEFAULT_FILE",
    "BatchSettings",
    "EmbeddingSettings",
    "HttpSettings",
    "IndexSettings",
    "KafkaSettings",
    "Loaded",
    "LogSettings",
    "RegistrySettings",
    "Settings",
    "SloSettings",
    "StoreSettings",
    "TableSettings",
    "load_settings",
    "own_variables",
    "settings_schema",
]
