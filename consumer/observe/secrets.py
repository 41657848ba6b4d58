"""Masking of passwords, tokens and keys in text, for everything that leaves the process."""

from __future__ import annotations

import re

MASK = "***"

# Patterns start at literal text, so that a long line costs linear time. Where a secret's end is unclear they take more
# than the secret: a DSN that did not parse, with "/" or "@" inside its password, is exactly what ends up in an error.
_URL_PASSWORD = re.compile(r"(://[^\s:/]*:)(?:(?!://)\S)*@")
_NAMES = (
    r"passw(?:or)?d\w{0,40}|passphrase|secret[\w.-]{0,40}|token|api[_-]?key|private[_-]?key|user\.info|credentials?"
)
_SECRET_VALUE = re.compile(
    rf"((?:{_NAMES})\b)"
    r"""(\\?["']?\s*[=:]\s*|["']\s*,\s*|\s+(?=["']))"""
    r"""(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|(?:\\.|\S)+)""",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(r"(authorization\\?[\"']?\s*[=:]\s*)[^\r\n]+", re.IGNORECASE)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)
_SECRET_KEY = re.compile(rf"(?:{_NAMES}|authorization|key\.pem)$", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """`text` with passwords in URLs, values of keys like password, secret or token, and private keys replaced by ***.

    Understands URLs, libpq's `key=value`, JSON, dict and tuple texts, SQL's `PASSWORD '…'` and Authorization headers.
    """
    text = _PRIVATE_KEY.sub(rf"-----BEGIN \1-----{MASK}", text)
    text = _AUTHORIZATION.sub(rf"\g<1>{MASK}", text)
    text = _BEARER.sub(rf"\g<1>{MASK}", text)
    text = _SECRET_VALUE.sub(rf"\g<1>\g<2>{MASK}", text)
    return _URL_PASSWORD.sub(rf"\g<1>{MASK}@", text)


def is_secret_name(name: str) -> bool:
    """Whether a key of this name (settings, librdkafka properties, log fields) holds a secret as its value."""
    return _SECRET_KEY.search(name) is not None
