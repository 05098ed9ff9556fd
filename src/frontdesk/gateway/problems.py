"""Which error becomes which answer: the one table.

Every error that reaches a client passes here, whichever door it leaves by: HTTP, the event stream
before it starts, or a WebSocket. Above it are the front and the routes; below, only `errors.py`.
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

from frontdesk import errors
from frontdesk.agents.reasons import public_reason

UNAVAILABLE_RETRY_S = 5
SHOWN_PATH = 200


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
    errors.InvalidArgument: (400, "bad_request"),
    errors.InvalidType: (400, "bad_request"),
    errors.MalformedRequest: (400, "bad_request"),
    errors.UnknownReference: (400, "bad_request"),
    errors.Unauthorized: (401, "unauthorized"),
    errors.SessionNotFound: (404, "not_found"),
    errors.SessionDead: (404, "session_dead"),
    errors.UnknownTool: (404, "not_found"),
    errors.SessionAlreadyExists: (409, "already_exists"),
    errors.IdempotencyMismatch: (409, "idempotency_mismatch"),
    errors.SteeringQueueFull: (409, "queue_full"),
    errors.TooLarge: (413, "too_large"),
    errors.CreateFailed: (422, "create_failed"),
    errors.ToolRefused: (422, "registration_failed"),
    errors.AddressRefused: (422, "registration_failed"),
    errors.GuardrailRefused: (422, "guardrail"),
    errors.RateLimited: (429, "rate_limited"),
    errors.PromptQueueFull: (429, "prompt_queue_full"),
    errors.SessionLimitExceeded: (429, "session_limit"),
    errors.SessionBusy: (503, "unavailable"),
    errors.Draining: (503, "unavailable"),
    errors.AgentLost: (503, "unavailable"),
    errors.KeeperLost: (503, "unavailable"),
    errors.StoreClosed: (503, "unavailable"),
    errors.MonitorFailed: (503, "unavailable"),
}
"""Exact or nearest base class to status and code. `frontdesk.errors` is the only source of rows."""

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
    return Problem(404, "not_found", f"there is no route {method} {path[:SHOWN_PATH]}")


def wrong_method(method: str, path: str) -> Problem:
    """Return the answer to a wrong verb on a route that there is; `Allow` names the right ones."""
    sentence = f"{method} is not allowed on {path[:SHOWN_PATH]}"
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
    if isinstance(error, errors.SessionLimitExceeded) and error.scope == "total":
        return 503, "unavailable"
    return None


def _facts(error: BaseException, status: int) -> tuple[tuple[str, Any], ...]:
    facts: dict[str, Any] = {}
    if isinstance(error, errors.SessionLimitExceeded):
        facts = {"scope": error.scope, "limit": error.limit}
    if isinstance(error, errors.SessionDead):
        facts = {"reason": public_reason(error.reason)}
    if isinstance(error, errors.RateLimited):
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
