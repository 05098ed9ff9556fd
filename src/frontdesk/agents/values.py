"""What may enter as text, as a number, as JSON: one rule for all that agents and clients send.

Routes, WebSockets, processes' frames, agents' events and model servers' answers come by here, so
that whatever one of them takes can be carried by all: in UTF-8, in JSON, in MessagePack.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

MAX_INTEGER = 2**64 - 1
MIN_INTEGER = -(2**63)

MAX_VALUES = 20_000
"""Values in one document that comes from outside, a list or an object and each of its members.

A megabyte has room for half a million, and each takes a thousand times as long as a byte of text:
the loop would be busy with one document for a second.
"""

_SEPARATORS = (b",", b"[", b"{")
_LONGEST_INTEGER = 21
"""Characters of an integer that may have 64 bits."""
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_TOO_LONG_NUMBER = re.compile(rb"[0-9]{100}")


def values_in(document: bytes | bytearray, *, enough: int = MAX_VALUES) -> int:
    """Return how many values a JSON document has, without reading it; the most that it can have.

    More than `enough` are not counted exactly. What is no JSON has some number as well.

    >>> values_in(b'{"a": [1, 2], "b": "x, y"}', enough=3)
    5
    """
    most = 1 + sum(map(document.count, _SEPARATORS))
    if most <= enough:
        return most
    # Text has commas and brackets too: what is between two quotes does not count.
    bare = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * enough:  # each value has two, and its name
        return enough + 1
    outside = b"".join(bare.split(b'"')[::2])
    return 1 + sum(map(outside.count, _SEPARATORS))


def read_json(document: bytes | bytearray, *, constants: bool = False) -> Any:
    """Return what a JSON document in UTF-8 says.

    An integer of more digits than 64 bits have becomes a float: reading digits takes the square of
    their number. With `constants`, `NaN` and `Infinity` are read too. Raises `TooManyValues`, and
    `ValueError` or `RecursionError` for what is no JSON.

    >>> read_json(b'{"a": [1, 999999999999999999999999]}', constants=True)
    {'a': [1, 1e+24]}
    """
    if values_in(document) > MAX_VALUES:
        if document.rstrip()[-1:] in b"[{,:" or b"[" * 2000 in document:
            raise ValueError("it breaks off, or is nested too deeply")
        raise TooManyValues
    if constants or _TOO_LONG_NUMBER.search(document):
        return json.loads(
            document.decode(),
            parse_int=lambda digits: (int if len(digits) < _LONGEST_INTEGER else float)(digits),
        )
    return msgspec.json.decode(document)


class TooManyValues(Exception):
    """A document has more than `MAX_VALUES` values."""


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

    Text is `encodable`, an integer beyond 64 bits becomes a float, what is not a number None, what
    JSON cannot say is shown by its type, and of more than `MAX_VALUES` values that they are many.

    >>> json_value({"a": (1, 2**70, {3}), "b": float("nan"), "c": object()})
    {'a': [1, 1.1805916207174113e+21, [3]], 'b': None, 'c': '<object>'}
    """
    try:
        encoded = ENCODER.encode(value)
    except UnicodeEncodeError:
        try:
            return json_value(
                _normal(msgspec.to_builtins(value, enc_hook=type_name, str_keys=True))
            )
        except (TypeError, ValueError, OverflowError, RecursionError):
            return type_name(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return type_name(value)
    if values_in(encoded) > MAX_VALUES:
        return f"<more than {MAX_VALUES} values>"
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
