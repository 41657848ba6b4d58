"""Token ids -> vectors. Importing this room is cheap: torch comes in with `load_engine`."""

from consumer.embedding.engine import Embedded, Engine, EngineConfig, load_engine
from consumer.embedding.identity import Identity

__all__ = ["Embedded", "Engine", "EngineConfig", "Identity", "load_engine"]
