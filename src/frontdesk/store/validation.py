"""What the store refuses before anything changes: wrong types and impossible values.

Pure functions; each returns the value in the form that is stored.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from types import EllipsisType

from frontdesk.errors import InvalidArgument, InvalidType
from frontdesk.monitors import MonitorFunction, Watcher
from frontdesk.records import ExitReason

MAX_LENGTH = 512
"""The longest session id, tenant id or key id, in characters."""

_EXPECTED = f"a non-empty string of at most {MAX_LENGTH} characters without control characters"


def identifier(name: str, value: object) -> str:
    """Check a session id, tenant id or key id."""
    # Nearly every id is printable, which is told at once; the rest is looked at closely.
    if type(value) is str and value.isprintable() and 0 < len(value) <= MAX_LENGTH:
        return value
    value = _exact(name, value)
    if 0 < len(value) <= MAX_LENGTH and not _has_controls(value):
        return value
    # A key's id is what belongs here; somebody may have passed the secret, so it is not repeated.
    got = f"{len(value)} characters" if name == "api_key" else _quoted(value)
    raise InvalidArgument(name, expected=_EXPECTED, got=got)


def optional_identifier(name: str, value: object) -> str | None:
    """Check a key id that may be absent."""
    return None if value is None else identifier(name, value)


def optional_text(name: str, value: object) -> str | None:
    """Check a blueprint or model: absent, or any string of bounded length."""
    if value is None or (type(value) is str and len(value) <= MAX_LENGTH):
        return value
    text = _exact(name, value)
    if len(text) > MAX_LENGTH:
        raise InvalidArgument(
            name, expected=f"at most {MAX_LENGTH} characters", got=f"{len(text)} characters"
        )
    return text


def changed_text(name: str, value: object) -> str | EllipsisType | None:
    """Check a blueprint or model that takes the place of another; an Ellipsis is for no change."""
    return value if isinstance(value, EllipsisType) else optional_text(name, value)


def name(parameter: str, value: object) -> None:
    """Check what is only looked for: what nothing can be called is simply not found."""
    if not isinstance(value, str):
        raise InvalidType(parameter, expected="a str", got=type(value).__name__)


def optional_name(parameter: str, value: object) -> None:
    """Check a key that is only looked for: no session is found by none."""
    if value is not None:
        name(parameter, value)


def limit(name: str, value: object) -> int | None:
    """Check a limit: absent, or a number of sessions."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(name, expected="an int or None", got=type(value).__name__)
    if value < 0:
        raise InvalidArgument(name, expected="0 or more", got=str(value))
    return _exact_int(value)


def capacity(name: str, value: object) -> int:
    """Check a bound of one of the store's buffers."""
    number = limit(name, value)
    if not number:
        raise InvalidArgument(name, expected="1 or more", got=repr(value))
    return number


def monitors(value: object) -> dict[type, MonitorFunction]:
    """Check the monitor functions of the user's own, by type."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidType(
            "monitors", expected="a mapping of types to functions", got=type(value).__name__
        )
    for kind, function in value.items():
        if not isinstance(kind, type) or not callable(function):
            got = f"{kind!r}: {type(function).__name__}"
            raise InvalidType("monitors", expected="a mapping of types to functions", got=got)
    return dict(value)


def watcher(value: object) -> Watcher:
    """Check a watcher to share: of a closed one nobody would ever be told anything."""
    if not isinstance(value, Watcher):
        raise InvalidType("watcher", expected="a Watcher", got=type(value).__name__)
    if value.closed:
        raise InvalidArgument("watcher", expected="an open Watcher", got="a closed one")
    return value


def reason(value: object) -> None:
    """Check how a session is said to have ended."""
    if not isinstance(value, ExitReason):
        raise InvalidType("reason", expected="an ExitReason", got=type(value).__name__)


def fence(value: object) -> int:
    """Check the fence of an incarnation."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType("fence", expected="a Session's fence", got=type(value).__name__)
    return _exact_int(value)


def _exact(name: str, value: object) -> str:
    """Turn a subclass of str into a plain one, whose hash and equality run no foreign code."""
    if not isinstance(value, str):
        raise InvalidType(name, expected="a str", got=type(value).__name__)
    return str.__str__(value)


def _exact_int(value: int) -> int:
    """Turn a subclass of int into a plain one, whose comparisons run no foreign code."""
    return value if type(value) is int else int.__int__(value)


def _has_controls(value: str) -> bool:
    # Lone surrogates (Cs) go with the control characters (Cc): no protocol can carry them.
    return any(unicodedata.category(character) in {"Cc", "Cs"} for character in value)


def _quoted(value: str) -> str:
    return repr(value) if len(value) <= 64 else f"{value[:64]!r}... ({len(value)} characters)"
