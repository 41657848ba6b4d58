"""Logging: structured lines on stderr, without secrets, tracebacks or document text.

Every line, of this product and of the libraries it uses, goes through one chain: fields of the process, of the context
(structlog's contextvars), time, level, errors in words, secrets masked, then JSON or a console line.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from types import TracebackType
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from consumer.errors import Fault, Reject
from consumer.observe.secrets import MASK, is_secret_name, mask_secrets

Level = Literal["debug", "info", "warning", "error"]
Style = Literal["auto", "json", "console"]

_LIBRARIES = ("transformers", "sentence_transformers", "huggingface_hub", "torch", "confluent_kafka", "psycopg")
_MAX_MESSAGE = 500
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logging(
    level: Level = "info",
    style: Style = "auto",
    *,
    stream: TextIO | None = None,
    fields: Mapping[str, str] | None = None,
) -> None:
    """Set logging up for the process; calling it again replaces the earlier set-up.

    `style` auto is a console line when the stream is a terminal, else JSON; NO_COLOR is honoured. `stream` is stderr by
    default. `fields` (the group) stand on every line of every thread, where contextvars reach only their own.
    """
    out = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Processor] = [
        _AddFields(dict(fields or {})),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _ErrorInWords(with_frames=level == "debug"),
        redact,
        _renderer(style, out),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)
    adopt_library_loggers()


def adopt_library_loggers() -> None:
    """Send the libraries' loggers through ours; again after importing one that installs a handler (transformers)."""
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def get_logger(room: str) -> FilteringBoundLogger:
    """A logger whose lines say which room spoke. `log.error("…", exc_info=error)` renders a Fault's why and fix."""
    return cast("FilteringBoundLogger", structlog.get_logger(room=room))


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask secrets in every field, by the field's name and inside its text. The processor before the renderer."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(name: object, value: object) -> object:
    if is_secret_name(str(name)):
        return MASK
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {mask_secrets(str(key)): _redacted(key, part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", part) for part in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"  # bytes are payload here: never shown
    return mask_secrets(error_text(value) if isinstance(value, BaseException) else str(value))


def error_text(error: BaseException) -> str:
    """What a log line or an error message may say of an exception: one line, secrets masked, no row values.

    Of a database error that carries a SQLSTATE only that: its message, DETAIL and CONTEXT quote the row.
    """
    if state := getattr(error, "sqlstate", None):
        return f"SQLSTATE {state}"
    return _first_line(str(error)) or type(error).__name__


def _first_line(text: str) -> str:
    """The first line, masked and then cut: a cut through a URL would hide from the mask what it looks for."""
    lines = mask_secrets(text.strip()).splitlines()
    return lines[0][:_MAX_MESSAGE] if lines else ""


class _AddFields:
    """Puts the process's fields on every line."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {**self._fields, **event}


class _ErrorInWords:
    """Turns `exc_info` into fields: type and message, a Fault's parts, and never the values of local variables.

    With `with_frames` (level debug) the places of the traceback are added, still without values.
    """

    def __init__(self, with_frames: bool) -> None:
        self._with_frames = with_frames

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        error = _exception(event.pop("exc_info", None))
        event.pop("stack_info", None)
        if error is None:
            return event
        event.update(_fault_fields(error) if isinstance(error, Fault) else {"error": error_text(error)})
        event.setdefault("error_type", type(error).__name__)
        if error.__cause__ is not None:
            event["cause"] = f"{type(error.__cause__).__name__}: {error_text(error.__cause__)}"
        if self._with_frames:
            event["frames"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
        return event


def _exception(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return cast("_ExcInfo", exc_info)[1]
    return sys.exc_info()[1] if exc_info else None


def _fault_fields(fault: Fault) -> dict[str, object]:
    """What, why and fix where they are given, and a Reject's stage and coordinates."""
    parts: dict[str, object] = {"error": fault.what, "why": fault.why, "fix": fault.fix}
    if isinstance(fault, Reject):
        parts |= {"stage": fault.stage, "error_type": fault.error_type}
        if fault.topic:
            parts |= {"topic": fault.topic, "partition": fault.partition, "offset": fault.offset}
    return {name: value for name, value in parts.items() if value != ""}


def _renderer(style: Style, stream: TextIO) -> Processor:
    terminal = stream.isatty()
    if style == "json" or (style == "auto" and not terminal):
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=terminal and not os.environ.get("NO_COLOR"))


class _Lines:
    """Writes whole lines to the stream. A stream that is gone must not end the process that logs."""

    _lock = Lock()

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    log = debug = info = warn = warning = error = critical = exception = fatal = failure = err = msg


class _Bridge(logging.Handler):
    """Sends the standard library's log records through the same chain."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # a record whose arguments do not fit its format
            text = str(record.msg)
        level = max(known for known in (0, 10, 20, 30, 40, 50) if known <= max(record.levelno, 0))
        structlog.get_logger().log(level, _first_line(text), logger=record.name, exc_info=record.exc_info)
