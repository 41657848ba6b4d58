"""Instants, days and times of day as the connector writes them with `time.precision.mode=isostring`.

A date is `2024-02-29Z`, a time `10:15:30.12Z`, a timestamp `2024-02-29T10:15:30.12Z`: years of the proleptic Gregorian
calendar with at least four digits (44 BC is -0043, beyond 9999 a plus sign), fractions without trailing zeros. What
each mode writes for PostgreSQL's infinities was seen on the connector (3.6.3): snapshot and stream differ for dates.
"""

from __future__ import annotations

from datetime import date

INFINITY, MINUS_INFINITY = "infinity", "-infinity"
# No row can hold these days: PostgreSQL's dates begin in 4713 BC and end in 5874897 AD.
_INFINITE_DAYS = {
    -622191234: INFINITY,
    -2147472692: INFINITY,
    -625821272: MINUS_INFINITY,
    -2147472691: MINUS_INFINITY,
}
INFINITE_TEXTS = {
    "+292278994-08-16Z": INFINITY,
    "-5877611-06-21Z": INFINITY,
    "+292269055-12-02Z": MINUS_INFINITY,
    "-5877611-06-22Z": MINUS_INFINITY,
    "+294247-01-10T04:00:25.2Z": INFINITY,
    "-290308-12-21T19:59:27.6Z": MINUS_INFINITY,
    "+292269055-12-02T23:00:00.000000Z": MINUS_INFINITY,  # inside arrays of timestamptz
}
_INFINITE_MICROS = {9223372036825200000: INFINITY, -9223372036832400000: MINUS_INFINITY}
_INFINITE_NANOS = {2**63 - 1: INFINITY, -(2**63): MINUS_INFINITY}
_EPOCH = date(1970, 1, 1).toordinal()
_LAST = date.max.toordinal()
_ERA_DAYS, _ERA_YEARS = 146_097, 400  # the calendar repeats itself
_DAY_NANOS = 86_400 * 10**9


def known_infinity(value: str) -> str:
    """`infinity` or `-infinity` where the text is how the connector writes one, else the text."""
    return INFINITE_TEXTS.get(value, value)


def day_text(days: int) -> str:
    """A date from its days since 1970."""
    return _INFINITE_DAYS.get(days) or _day(days) + "Z"


def time_text(count: int, per_second: int) -> str:
    """A time of day from its units since midnight. 24:00:00 is 00:00:00, as the connector's own text has it."""
    return _time(count * (10**9 // per_second) % _DAY_NANOS) + "Z"


def millis_text(count: int) -> str:
    """A timestamp from milliseconds since 1970."""
    return micros_text(count * 1000)


def micros_text(count: int) -> str:
    """A timestamp from microseconds since 1970."""
    return _INFINITE_MICROS.get(count) or _instant(count * 1000)


def nanos_text(count: int) -> str:
    """A timestamp from nanoseconds since 1970."""
    return _INFINITE_NANOS.get(count) or _instant(count)


def _instant(nanos: int) -> str:
    days, of_day = divmod(nanos, _DAY_NANOS)
    return f"{_day(days)}T{_time(of_day)}Z"


def _day(days: int) -> str:
    ordinal = days + _EPOCH
    if 1 <= ordinal <= _LAST:
        return date.fromordinal(ordinal).isoformat()
    eras, within = divmod(ordinal - 1, _ERA_DAYS)  # years that Python's dates do not reach, by the year alike
    alike = date.fromordinal(within + 1)
    year = alike.year + eras * _ERA_YEARS
    sign = "-" if year < 0 else "+" if year > 9999 else ""
    return f"{sign}{abs(year):04}-{alike.month:02}-{alike.day:02}"


def _time(nanos: int) -> str:
    seconds, fraction = divmod(nanos, 10**9)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour:02}:{minute:02}:{second:02}"
    return f"{text}.{fraction:09}".rstrip("0") if fraction else text
