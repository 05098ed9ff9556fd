"""From an error to the answer that a client gets.

Every error that reaches a client passes here, whichever way it leaves by: HTTP, the event stream
before it starts, or a WebSocket. Which error becomes which answer is said in `error_table.py`.
No answer shows a stack trace, a path or another tenant's facts: a message is the error's own
sentence, and an error that is not meant for clients says nothing but that it happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from frontdesk.errors import FrontdeskError, SessionLimitExceeded
from frontdesk.gateway.error_answers import (
    BAD_REQUEST,
    FORBIDDEN,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    ErrorAnswer,
)
from frontdesk.gateway.error_table import row_of
from frontdesk.schemas.refusal import Refusal

UNAVAILABLE_RETRY_S = 5
MAX_SHOWN_PATH = 200
CHALLENGE = 'Bearer realm="frontdesk"'
MAX_MISTAKES, MAX_NAME = 20, 64


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer: its status, and its body."""

    status: int
    refusal: Refusal

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(self.refusal)

    @property
    def headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.status == UNAUTHORIZED.status:
            headers["WWW-Authenticate"] = CHALLENGE
        elif self.status == FORBIDDEN.status and self.refusal.scope is not None:
            # RFC 6750, 3.1: a client may fetch a credential that has it.
            lacking = f'error="insufficient_scope", scope="{self.refusal.scope}"'
            headers["WWW-Authenticate"] = f"{CHALLENGE}, {lacking}"
        if self.refusal.retry_after is not None:
            headers["Retry-After"] = str(self.refusal.retry_after)
        return headers

    @property
    def response(self) -> Response:
        return Response(
            self.body,
            status_code=self.status,
            media_type="application/json",
            headers=self.headers,
        )


def problem_of(error: BaseException) -> Problem:
    """Return the answer to an error; that of `INTERNAL` for one that is not meant for clients."""
    if isinstance(error, FrontdeskError):
        row = row_of(error)
        answer = row.answer
        # Full in total is nobody's quota: the client can only come again, or elsewhere.
        if isinstance(error, SessionLimitExceeded) and error.scope == "total":
            answer = UNAVAILABLE
        if answer is not INTERNAL:
            facts = row.fields(error)
            if answer is UNAVAILABLE:
                facts.setdefault("retry_after", UNAVAILABLE_RETRY_S)
            refusal = Refusal(error=answer.code, message=row.sentence or str(error), **facts)
            return Problem(answer.status, refusal)
    elif isinstance(error, RequestValidationError):
        places = [{**each, "loc": each["loc"][1:]} for each in error.errors()]
        return _problem(BAD_REQUEST, mistakes_of(places, whole="the body"))
    elif isinstance(error, HTTPException) and error.status_code == 400:
        return _problem(BAD_REQUEST, "the body is not valid JSON")
    elif isinstance(error, HTTPException) and error.status_code == 413:
        return _problem(TOO_LARGE, error.detail)
    return example_of(INTERNAL)


def no_such_route(method: str, path: str) -> Problem:
    """Return the answer to a request for a route that there is not."""
    return _problem(NOT_FOUND, f"there is no route {method} {path[:MAX_SHOWN_PATH]}")


def wrong_method(method: str, path: str) -> Problem:
    """Return the answer to a wrong verb on a route that there is; `Allow` names the right ones."""
    return _problem(METHOD_NOT_ALLOWED, f"{method} is not allowed on {path[:MAX_SHOWN_PATH]}")


def example_of(answer: ErrorAnswer) -> Problem:
    """Return the example of an answer, as a client would get it."""
    example = answer.example
    return _problem(answer, example) if isinstance(example, str) else problem_of(example)


def _problem(answer: ErrorAnswer, message: str) -> Problem:
    return Problem(answer.status, Refusal(error=answer.code, message=message))


def mistakes_of(errors: Sequence[Any], *, whole: str) -> str:
    """Return one sentence that names every mistake of a body or query with its field.

    The input is not repeated: it may hold a secret.
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"{whole} is not valid JSON"
    if not first["loc"] and isinstance(first.get("input"), bytes):
        return f"{whole} must be JSON, sent with Content-Type: application/json"
    sentences = [
        f"{'.'.join(str(part)[:MAX_NAME] for part in each['loc'] if part != '') or whole}: "
        f"{'unknown' if each['type'] == 'extra_forbidden' else each['msg'][:200]}"
        for each in errors[:MAX_MISTAKES]
    ]
    more = len(errors) - len(sentences)
    return "; ".join(sentences) + (f"; and {more} more" if more else "")
