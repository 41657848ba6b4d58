"""Numbers as canonical values: decimals as plain text, floats as the shortest number that means them."""

from __future__ import annotations

import struct
from base64 import b64decode
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal
from math import isfinite
from typing import Any

# PostgreSQL's numeric has at most 131,072 digits before the point and 16,383 behind it. A scale far beyond would only
# blow a few bytes up to a huge text.
_MOST_OCTETS, _MOST_SCALE = 65_536, 131_072
_EXACT = Context(prec=2 * _MOST_SCALE)
_PLAIN_BITS = 12_000  # of an int whose `str` is within Python's limit on digits
# What the connector writes where `decimal.handling.mode` is string.
SPECIAL_DECIMALS = {"NaN": "NAN", "Infinity": "POSITIVE_INFINITY", "-Infinity": "NEGATIVE_INFINITY"}
_FLOAT = struct.Struct("<f")
_ROUNDED = {digits: (Context(digits, ROUND_HALF_EVEN), Context(digits, ROUND_UP)) for digits in range(2, 9)}
_SMALLEST_NORMAL = 1.1754943508222875e-38


def octets(value: Any) -> bytes:
    """The bytes of a wire value: base64 text in JSON, themselves in Avro."""
    return value if isinstance(value, bytes) else b64decode(value, validate=True)


def decimal_text(value: Any, scale: int) -> str:
    """A NUMERIC(p, s) as Connect's Decimal: the unscaled number's bytes, or a JSON number (decimal.format)."""
    if isinstance(value, (int, float)):
        return float_decimal_text(value, scale)
    data = octets(value)
    if len(data) > _MOST_OCTETS or not -_MOST_SCALE <= scale <= _MOST_SCALE:
        raise ValueError("no numeric is that large")
    return _scaled(int.from_bytes(data, "big", signed=True), scale)


def variable_decimal_text(value: Any) -> str:
    """A numeric without scale: `{scale, value}`, where the connector has dropped trailing zeros already."""
    return decimal_text(value["value"], value["scale"])


def float_decimal_text(value: float, scale: int | None = None) -> str:
    """A numeric that came as a floating-point number: the shortest decimal that means it, padded to `scale`."""
    if not isfinite(value):
        return SPECIAL_DECIMALS[float_value(value)]
    exact = Decimal(repr(value))
    return format(exact if scale is None else exact.quantize(Decimal((0, (1,), -scale)), context=_EXACT), "f")


def float_value(value: float) -> Any:
    """A float8: itself; what JSON has no number for is the text that Connect's JSON has."""
    if isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def float4_value(value: float) -> Any:
    """A float4 that was widened to 64 bits: the shortest decimal that means it in 32 bits, as Java writes it."""
    if not isfinite(value):
        return float_value(value)
    packed = _FLOAT.pack(value)
    for digits in range(6 if abs(value) >= _SMALLEST_NORMAL else 2, 9):
        # Above a power of two lie the wider gaps: there a number rounded up may mean it where the nearest does not.
        for context in _ROUNDED[digits]:
            short = float(context.create_decimal_from_float(value))
            try:
                if _FLOAT.pack(short) == packed:
                    return short
            except OverflowError:  # rounded up beyond the largest of 32 bits
                continue
    return float(f"{value:.9g}")


def _scaled(number: int, scale: int) -> str:
    if scale <= 0:
        return _plain(number) + "0" * (-scale if number else 0)
    sign, digits = ("-", _plain(-number)) if number < 0 else ("", _plain(number))
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def _plain(number: int) -> str:
    return str(number) if number.bit_length() < _PLAIN_BITS else str(Decimal(number))
