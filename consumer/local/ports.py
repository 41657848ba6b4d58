"""Which ports the services listen on: the wanted ones if free, otherwise the next free ones. Loopback only."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from consumer.errors import Exit, Stop

HOST = "127.0.0.1"
PREFERRED = {"postgres": 5432, "kafka": 9092, "controller": 9093, "connect": 8083, "registry": 8081}
SEARCHED = 200
HIGHEST = 65535


def free(port: int) -> bool:
    """Whether a service could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def listening(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    try:
        socket.create_connection((HOST, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def choose(names: Iterable[str], asked: Mapping[str, int], before: Mapping[str, int], used: set[int]) -> dict[str, int]:
    """A free port for each name: the one asked for, else the one it had before, else its usual one or the next free.

    `used` are ports that must not be chosen. Raises `Stop` if a port that was asked for is taken.
    """
    chosen: dict[str, int] = {}
    for name in names:
        chosen[name] = _choose_one(name, asked.get(name), before.get(name, PREFERRED[name]), used)
        used = used | {chosen[name]}
    return chosen


def _choose_one(name: str, asked: int | None, first: int, used: set[int]) -> int:
    if asked is not None:
        if asked in used or not free(asked):
            raise Stop(
                f"Port {asked} is not free for {name}.",
                "Another program listens on it, or this account may not.",
                "Choose another one, or none: a free port is then found.",
                exit_code=Exit.USAGE,
            )
        return asked
    for port in range(first, min(first + SEARCHED, HIGHEST + 1)):
        if port not in used and free(port):
            return port
    raise Stop(f"No free port was found for {name}.", f"{SEARCHED} ports from {first} on are taken.", "Choose one.")
