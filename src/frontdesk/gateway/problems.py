"""Which error becomes which answer: the one table.

Every error that reaches a client passes here, whichever way it leaves by: HTTP, the event stream
before it starts, or a WebSocket. Above it are the middleware and the routes; below, the errors of
each layer.
No answer shows a stack trace, a path or another tenant's facts: a message is the error's own
sentence, and an error that is not in the table says nothing but that it happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from frontdesk.agents.errors import AgentLost, CreateFailed, UnknownTool
from frontdesk.errors import (
    InvalidArgument,
    InvalidType,
    MonitorFailed,
    SessionAlreadyExists,
    SessionBusy,
    SessionLimitExceeded,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.gateway.errors import (
    AddressRefused,
    IdempotencyMismatch,
    MalformedRequest,
    RateLimited,
    TooLarge,
    Unauthorized,
)
from frontdesk.keeper.errors import KeeperLost
from frontdesk.sessions.errors import (
    Draining,
    GuardrailRefused,
    PromptQueueFull,
    SessionDead,
    SteeringQueueFull,
    ToolRefused,
    UnknownReference,
)
from frontdesk.sessions.reasons import public_reason

UNAVAILABLE_RETRY_S = 5
MAX_SHOWN_PATH = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer: status, code, sentence, and further facts by their names on the wire."""

    status: int
    code: str
    message: str
    facts: tuple[tuple[str, Any], ...] = ()

    @property
    def content(self) -> dict[str, Any]:
        return {"error": self.code, "message": self.message, **dict(self.facts)}

    @property
    def headers(self) -> dict[str, str]:
        retry_after = dict(self.facts).get("retryAfter")
        return {} if retry_after is None else {"Retry-After": str(retry_after)}


TABLE: dict[type[Exception], tuple[int, str]] = {
    InvalidArgument: (400, "bad_request"),
    InvalidType: (400, "bad_request"),
    MalformedRequest: (400, "bad_request"),
    UnknownReference: (400, "bad_request"),
    Unauthorized: (401, "unauthorized"),
    SessionNotFound: (404, "not_found"),
    SessionDead: (404, "session_dead"),
    UnknownTool: (404, "not_found"),
    SessionAlreadyExists: (409, "already_exists"),
    IdempotencyMismatch: (409, "idempotency_mismatch"),
    SteeringQueueFull: (409, "queue_full"),
    TooLarge: (413, "too_large"),
    CreateFailed: (422, "create_failed"),
    ToolRefused: (422, "registration_failed"),
    AddressRefused: (422, "registration_failed"),
    GuardrailRefused: (422, "guardrail"),
    RateLimited: (429, "rate_limited"),
    PromptQueueFull: (429, "prompt_queue_full"),
    SessionLimitExceeded: (429, "session_limit"),
    SessionBusy: (503, "unavailable"),
    Draining: (503, "unavailable"),
    AgentLost: (503, "unavailable"),
    KeeperLost: (503, "unavailable"),
    StoreClosed: (503, "unavailable"),
    MonitorFailed: (503, "unavailable"),
}
"""Exact or nearest base class to status and code."""

INTERNAL = Problem(500, "internal", "something went wrong here; it was logged")


def problem_of(error: BaseException) -> Problem:
    """Return the answer to an error; `INTERNAL` for one that is not meant for clients."""
    if isinstance(error, HTTPException):
        return _of_the_framework(error)
    if isinstance(error, RequestValidationError):
        return Problem(400, "bad_request", _first_mistake(error))
    row = next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), None)
    if row is None:
        return INTERNAL
    status, code = _where_it_is_full(error) or row
    return Problem(status, code, str(error), _facts(error, status))


def no_such_route(method: str, path: str) -> Problem:
    """Return the answer to a request for a route that there is not."""
    return Problem(404, "not_found", f"there is no route {method} {path[:MAX_SHOWN_PATH]}")


def wrong_method(method: str, path: str) -> Problem:
    """Return the answer to a wrong verb on a route that there is; `Allow` names the right ones."""
    sentence = f"{method} is not allowed on {path[:MAX_SHOWN_PATH]}"
    return Problem(405, "method_not_allowed", sentence)


def answer(problem: Problem) -> Response:
    """Return the problem as an HTTP response."""
    return Response(
        msgspec.json.encode(problem.content),
        status_code=problem.status,
        media_type="application/json",
        headers=problem.headers,
    )


def _where_it_is_full(error: BaseException) -> tuple[int, str] | None:
    # Full in total is nobody's quota: the client can only come again, or elsewhere.
    if isinstance(error, SessionLimitExceeded) and error.scope == "total":
        return 503, "unavailable"
    return None


def _facts(error: BaseException, status: int) -> tuple[tuple[str, Any], ...]:
    facts: dict[str, Any] = {}
    if isinstance(error, SessionLimitExceeded):
        facts = {"scope": error.scope, "limit": error.limit}
    if isinstance(error, SessionDead):
        facts = {"reason": public_reason(error.reason)}
    if isinstance(error, RateLimited):
        facts = {"retryAfter": error.retry_after_s}
    if status == 503:
        facts["retryAfter"] = UNAVAILABLE_RETRY_S
    return tuple(facts.items())


def _of_the_framework(error: HTTPException) -> Problem:
    if error.status_code == 400:
        return Problem(400, "bad_request", "the body is not valid JSON")
    if error.status_code == 413:
        return Problem(413, "too_large", error.detail)
    return INTERNAL


def _first_mistake(error: RequestValidationError) -> str:
    # One sentence that names the field. The input is not repeated: it may hold a secret.
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    if first["type"] == "json_invalid":
        return "the body is not valid JSON"
    if not place and isinstance(first.get("input"), bytes):
        return "the body must be JSON, sent with Content-Type: application/json"
    return f"{'.'.join(place) or 'the body'}: {first['msg'][:200]}"
