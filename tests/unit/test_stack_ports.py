"""How the local stack chooses the ports it listens on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from consumer.errors import Exit, Stop
from consumer.local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_port_it_had_before_is_kept_while_free(taken: int) -> None:
    free = ports.choose(["kafka"], {}, {"kafka": taken}, set())["kafka"]
    assert free > taken
    assert ports.choose(["kafka"], {}, {"kafka": free}, set()) == {"kafka": free}


def test_no_port_is_chosen_twice() -> None:
    chosen = ports.choose(["kafka", "controller"], {}, {"kafka": 20000, "controller": 20000}, {20001})
    assert len({*chosen.values(), 20001}) == 3


def test_a_port_that_was_asked_for_is_taken_or_refused(taken: int) -> None:
    with pytest.raises(Stop, match=str(taken)) as refused:
        ports.choose(["connect"], {"connect": taken}, {}, set())
    assert refused.value.exit_code == Exit.USAGE
    free = ports.choose(["connect"], {}, {"connect": taken}, set())["connect"]
    assert ports.choose(["connect"], {"connect": free}, {"connect": taken}, set()) == {"connect": free}


def test_there_is_no_port_beyond_the_last() -> None:
    with pytest.raises(Stop, match="No free port"):
        ports.choose(["kafka"], {}, {"kafka": ports.HIGHEST}, {ports.HIGHEST})


def test_all_addresses_of_the_machine_count(taken: int) -> None:
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        everywhere.listen()
        assert not ports.free(everywhere.getsockname()[1])
    assert not ports.free(taken)
