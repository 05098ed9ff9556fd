"""What may enter as text, as a number, as JSON: one rule for all that agents and clients send.

Routes, WebSockets, processes' frames, agents' events and model servers' answers come by here, so
that whatever one of them takes can be carried by all: in UTF-8, in JSON, in MessagePack.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

MAX_INTEGER = 2**64 - 1
MIN_INTEGER = -(2**63)

_LONG_NUMBER = re.compile(rb"[0-9]{19}")


def encodable(text: str) -> str:
    """Return text that UTF-8 can carry.

    Two halves of a surrogate pair that stand together become their character, half a pair becomes a
    replacement character.

    >>> encodable("\\ud83d\\ude00"), encodable("half \\ud83d")
    ('😀', 'half �')
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def json_value(value: Any) -> Any:
    """Return a copy of the value made of what JSON has: dicts, lists, text, numbers, None.

    Text is `encodable`, an integer beyond 64 bits becomes a float, what is not a number None, and
    what JSON cannot say is shown by its type.

    >>> json_value({"a": (1, 2**70, {3}), "b": float("nan"), "c": object()})
    {'a': [1, 1.1805916207174113e+21, [3]], 'b': None, 'c': '<object>'}
    """
    try:
        encoded = ENCODER.encode(value)
    except UnicodeEncodeError:
        try:
            return _normal(msgspec.to_builtins(value, enc_hook=type_name, str_keys=True))
        except (TypeError, ValueError, OverflowError, RecursionError):
            return type_name(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return type_name(value)
    decoded = msgspec.json.decode(encoded)
    return _normal(decoded) if _LONG_NUMBER.search(encoded) else decoded


def type_name(value: object) -> str:
    """Return what stands for a value that JSON cannot say."""
    return f"<{type(value).__name__}>"


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        try:
            return float(value)
        except OverflowError:
            return type_name(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_normal(key): _normal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(each) for each in value]
    return value


class HalfJoiner:
    """Join halves of a surrogate pair that come at the end of one piece of text and in the next."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """Return what can go out of the text so far; the first half of a pair waits for more."""
        if not self._half and piece.isascii():
            return piece
        text, self._half = self._half + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return encodable(text)

    def flush(self) -> str:
        """Return what waited: a replacement character for a half that stays alone, or nothing."""
        half, self._half = self._half, ""
        return encodable(half)


ENCODER = msgspec.json.Encoder(enc_hook=type_name)
