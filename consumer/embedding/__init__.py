"""Token ids -> vectors. Importing this room is cheap: torch comes in with `load_engine`."""

from consumer.embedding.engine import Embedded, Engine, EngineConfig, load_engine
from consumer.embedding.identity import Identity
from consumer.embedding.locate import check_name

__all__ = ["Embedded", "Engine", "EngineConfig", "Identity", "check_name", "load_engine"]
