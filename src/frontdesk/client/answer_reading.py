"""Answers of the gateway: from status, headers and body to a record, or to the error that it is.

Fields that this client does not know are left out. What is no answer of a gateway's (another
program listens there, or a proxy answers for it) is told as that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from frontdesk.client.errors import (
    CLASS_OF_CODE,
    ClientError,
    MalformedAnswerError,
    RefusedError,
    UnavailableError,
)
from frontdesk.schemas.refusal import Refusal

A = TypeVar("A")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Where an answer is none any more: a page of a thousand long messages has less."""
MAX_MESSAGE_CHARACTERS = 2000
END_LINE = b'{"line":"end",'
PROXY_STATUSES = frozenset({502, 503, 504})
"""What a proxy answers whose gateway is away."""


def record_of(body: bytes, kind: type[A]) -> A:
    """Return what an answer says; `MalformedAnswerError` where it is something else.

    `bytes` are lines as they are, of which the last is the end.
    """
    if issubclass(kind, bytes):
        if not body.rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(END_LINE):
            raise MalformedAnswerError("the answer was cut off: its last line is not the end")
        return kind(body)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedAnswerError(f"the answer is no {kind.__name__}: {error}") from None


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
    """Return the error that an answer is."""
    try:
        refusal = msgspec.json.decode(body, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _error_of_another(status, headers)
    names = {each.name: each.encode_name for each in msgspec.structs.fields(Refusal)}
    facts = {
        names[name]: value
        for name, value in msgspec.structs.asdict(refusal).items()
        if value is not None and name not in ("error", "message")
    }
    kind = CLASS_OF_CODE.get(refusal.error, RefusedError)
    message = refusal.message[:MAX_MESSAGE_CHARACTERS]
    return kind(refusal.error, message, status=status, facts=_with_header(facts, headers))


def _error_of_another(status: int, headers: Mapping[str, str]) -> ClientError:
    """Return the error of an answer that no gateway has written."""
    if status in PROXY_STATUSES:
        message = f"what answers for the gateway says {status}: the gateway is away"
        facts = _with_header({}, headers)
        return UnavailableError("unavailable", message, status=status, facts=facts)
    if 300 <= status < 400:
        message = f"the answer is {status}, to another address: use that one as the url"
    else:
        message = f"the answer {status} is not a gateway's: what listens there?"
    error = MalformedAnswerError(message)
    error.status = status
    return error


def _with_header(facts: dict[str, object], headers: Mapping[str, str]) -> dict[str, object]:
    """Return the facts, with when to come again by the header where the body does not say it."""
    after = headers.get("retry-after", "")
    if after.isascii() and after.isdigit() and len(after) < 10:
        return {"retryAfter": int(after), **facts}
    return facts
