"""Times as commands take and show them: durations, ages, moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from frontdesk.errors import InvalidArgument

UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
SHOWN_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
MAY_BE_ZERO = ("--overlap", "--older-than")


def milliseconds(text: str, option: str) -> int:
    """Return a duration like `90d` in milliseconds."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None or (int(match[1]) == 0 and option not in MAY_BE_ZERO):
        raise InvalidArgument(option, expected="a number and s, m, h, d or w", got=repr(text))
    return int(match[1]) * UNITS_MS[match[2]]


def moment(at_ms: int) -> str:
    """Return when something was, for programs: ISO 8601, UTC."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def clock_time(at_ms: int) -> str:
    """Return when something was, for somebody who is there: the hour, here."""
    return f"{datetime.fromtimestamp(at_ms / 1000).astimezone():%H:%M:%S}"


def age(span_ms: float) -> str:
    """Return how long something has been, in its two greatest units.

    >>> age(3_725_000), age(59_000), age(-1)
    ('1h2m', '59s', '0s')
    """
    left = max(0, int(span_ms // 1000))
    for number, (unit, seconds) in enumerate(SHOWN_UNITS):
        if left >= seconds or unit == "s":
            smaller = SHOWN_UNITS[number + 1 :][:1]
            rest = "".join(
                f"{left % seconds // each}{name}"
                for name, each in smaller
                if left % seconds >= each
            )
            return f"{left // seconds}{unit}{rest}"
    raise AssertionError("seconds are the last unit")
