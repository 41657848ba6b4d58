"""Logs: one chain for every line, faults in words, no secret, no traceback, no row."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from threading import Thread

import psycopg
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import Reject, Stop
from consumer.observe import adopt_library_loggers, configure_logging, get_logger, is_secret_name, mask_secrets

CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_room_and_the_process_fields_in_every_thread() -> None:
    out = io.StringIO()
    configure_logging("info", stream=out, fields={"group": "prod"})
    thread = Thread(target=lambda: get_logger("pipeline").info("batch applied", events=3))
    thread.start()
    thread.join()
    (line,) = lines(out)
    assert line.pop("timestamp")
    assert line == {"event": "batch applied", "events": 3, "group": "prod", "level": "info", "room": "pipeline"}


def test_contextvars_stand_on_the_line_and_lower_levels_do_not_appear() -> None:
    out = io.StringIO()
    configure_logging("warning", stream=out)
    structlog.contextvars.bind_contextvars(topic="t")
    get_logger("pipeline").info("quiet")
    get_logger("pipeline").warning("loud")
    (line,) = lines(out)
    assert (line["event"], line["topic"]) == ("loud", "t")


def test_a_fault_is_rendered_as_what_why_and_fix() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    fault = Stop("The topic was recreated.", "Its id changed.", "Run `embed-consumer offsets reset`.")
    get_logger("pipeline").error("stopping", exc_info=fault)
    (line,) = lines(out)
    assert (line["error"], line["why"], line["fix"]) == (fault.what, fault.why, fault.fix)
    assert line["error_type"] == "Stop"


def test_a_rejected_event_says_where_it_is() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    reject = Reject("no", stage="decode", error_type="bad_json", topic="t", partition=1, offset=7)
    get_logger("pipeline").warning("rejected", exc_info=reject)
    (line,) = lines(out)
    assert [line[k] for k in ("stage", "error_type", "topic", "partition", "offset")] == [
        "decode",
        "bad_json",
        "t",
        1,
        7,
    ]


@pytest.mark.parametrize("level", ["info", "debug"])
def test_an_exception_shows_type_and_first_line_but_no_values(level: str) -> None:
    out = io.StringIO()
    configure_logging("debug" if level == "debug" else "info", stream=out)

    def fail(row: str) -> None:
        raise ValueError(f"bad row\n{row}")

    try:
        fail(CANARY)
    except ValueError:
        get_logger("pipeline").error("failed", exc_info=True)
    (line,) = lines(out)
    assert (line["error_type"], line["error"]) == ("ValueError", "bad row")
    assert ("frames" in line) == (level == "debug")
    assert CANARY not in out.getvalue()
    assert "Traceback" not in out.getvalue()


def test_a_database_error_shows_its_sqlstate_and_never_its_row() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    error = psycopg.errors.UniqueViolation(f"duplicate key\nDETAIL: Key (title)=({CANARY}) exists")
    get_logger("store").error("not written", exc_info=error, error_again=error)
    (line,) = lines(out)
    assert (line["error"], line["error_type"], line["error_again"]) == (
        "SQLSTATE 23505",
        "UniqueViolation",
        "SQLSTATE 23505",
    )
    assert CANARY not in out.getvalue()


def test_a_long_message_is_cut_without_baring_a_secret() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    text = "x" * 470 + f" postgresql://user:{CANARY}-and-much-longer@host/db"
    get_logger("cli").error("failed", exc_info=OSError(text))
    logging.getLogger("transformers").warning(text)
    assert CANARY not in out.getvalue()
    assert all(len(str(line.get("error", line["event"]))) <= 500 for line in lines(out))


def test_the_cause_is_named() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    try:
        raise Stop("No start.") from ConnectionError(f"cannot reach postgresql://u:{CANARY}@h/db")
    except Stop:
        get_logger("cli").error("stopping", exc_info=True)
    assert lines(out)[0]["cause"] == "ConnectionError: cannot reach postgresql://u:***@h/db"


SECRETS = [
    f"postgresql://u:{CANARY}@localhost:5432/db",
    f"postgresql://u:p@{CANARY}/x?y@h/db",
    f"https://:{CANARY}@h",
    f"https://a:b@h1,https://me@x.org:{CANARY}@h2",
    f"host=h user=u password={CANARY} dbname=d",
    f"host=h password = 'it\\'s {CANARY} x' dbname=d",
    f"PGPASSWORD={CANARY}",
    f"postgresql://h/d?user=u&sslpassword={CANARY}&x=1",
    f'{{"sasl.password": "{CANARY}", "acks": 1}}',
    f"{{'api_key': '{CANARY}'}}",
    f"('sasl.password', '{CANARY}')",
    f'{{\\"client_secret\\": \\"{CANARY}\\"}}',
    f"ALTER ROLE writer PASSWORD '{CANARY}'",
    f"Authorization: Basic {CANARY}",
    f"Bearer {CANARY}",
    f"token: {CANARY}",
    f"basic.auth.user.info=u:{CANARY}",
    f"-----BEGIN RSA PRIVATE KEY-----\nMII\n{CANARY}\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_masked_in_text_and_in_every_place_of_a_line(text: str) -> None:
    assert CANARY not in mask_secrets(text)
    for style in ("json", "console"):
        out = io.StringIO()
        configure_logging(style="json" if style == "json" else "console", stream=out)
        log = get_logger("cli")
        log.info(text)
        log.info("x", value=text, nested={"a": [text, (text,)], text: 1}, error=RuntimeError(text))
        log.error("y", exc_info=Stop(text, text, text))
        logging.getLogger("transformers.models").warning("%s", text)
        assert CANARY not in out.getvalue()
        assert "***" in out.getvalue()


@pytest.mark.parametrize(
    "name", ["password", "sasl.password", "PGPASSWORD", "client_secret", "token", "ssl.key.pem", "api-key"]
)
def test_fields_named_like_a_secret_are_masked(name: str) -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    get_logger("cli").info("x", **{name: CANARY}, settings={name: CANARY})
    assert CANARY not in out.getvalue()
    assert is_secret_name(name)


def test_what_is_no_secret_stays_readable() -> None:
    for text in (
        "postgresql://embedder@localhost:5432/vectors",
        "http://localhost:8081/subjects",
        "token_budget=16384 max_tokens=256 tokens: 12",
        'password authentication failed for user "embedder"',
        "shop.public.products[3]@1234",
    ):
        assert mask_secrets(text) == text
    assert not any(is_secret_name(name) for name in ("token_budget", "tokens", "max_tokens", "topic", "key"))


@given(st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters=":"), min_size=1, max_size=20))
def test_any_password_in_a_url_is_masked(password: str) -> None:
    assert mask_secrets(f"dsn postgresql://u:{password}@h:1/d ok") == "dsn postgresql://u:***@h:1/d ok"


@given(st.text(st.characters(exclude_characters=":=\"'"), max_size=200))
def test_text_without_a_secret_is_left_as_it_is(text: str) -> None:
    assert mask_secrets(text) == text


def test_payload_bytes_are_never_shown() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    get_logger("source").info("x", value=CANARY.encode(), many=[bytearray(CANARY.encode())])
    assert CANARY not in out.getvalue()


def test_library_loggers_warn_through_the_same_chain_even_with_a_handler_of_their_own() -> None:
    out, theirs = io.StringIO(), io.StringIO()
    configure_logging(stream=out)
    library = logging.getLogger("transformers")
    library.addHandler(logging.StreamHandler(theirs))
    library.propagate = False
    adopt_library_loggers()
    logging.getLogger("transformers.tokenization").info("quiet")
    logging.getLogger("transformers.tokenization").warning("loud %s", "one")
    logging.getLogger("sentence_transformers").log(35, "between the levels")
    warnings.warn("old name", FutureWarning, stacklevel=1)
    first, second, third = lines(out)
    assert (first["event"], first["level"], first["logger"]) == ("loud one", "warning", "transformers.tokenization")
    assert (second["event"], second["logger"]) == ("between the levels", "sentence_transformers")
    assert "old name" in str(third["event"])
    assert theirs.getvalue() == ""


def test_a_terminal_gets_colour_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain = Terminal(), Terminal()
    configure_logging(stream=coloured)
    get_logger("cli").info("hello")
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logging(stream=plain)
    get_logger("cli").info("hello")
    assert "\x1b[" in coloured.getvalue()
    assert "\x1b[" not in plain.getvalue()
    assert "hello" in plain.getvalue()
    assert not plain.getvalue().startswith("{")


def test_a_stream_that_is_gone_does_not_end_the_process() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    log = get_logger("cli")
    out.close()
    log.error("nobody reads this")
