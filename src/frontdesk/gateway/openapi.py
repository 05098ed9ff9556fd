"""The API description: errors and events with examples, and what each route needs.

Beside the routes, below the application. It changes nothing about how requests are answered.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI

from frontdesk.agents.events import EVENTS
from frontdesk.gateway.paths import Access, match_path
from frontdesk.gateway.schemas import Refusal

Responses = dict[int | str, dict[str, Any]]

EXAMPLES: dict[tuple[int, str], dict[str, Any]] = {
    (400, "bad_request"): {"message": "text: Field required"},
    (401, "unauthorized"): {
        "message": "send a valid key in X-API-Key or as Authorization: Bearer <key>"
    },
    (404, "not_found"): {"message": "no session 'support-42'"},
    (404, "session_dead"): {
        "message": "session 'support-42' has ended: signalled",
        "reason": "signalled: 9 (SIGKILL)",
    },
    (405, "method_not_allowed"): {"message": "PUT is not allowed on /v1/sessions"},
    (409, "already_exists"): {"message": "session 'support-42' already exists"},
    (409, "queue_full"): {"message": "3 steering texts wait already in session 'support-42'"},
    (409, "idempotency_mismatch"): {
        "message": "this Idempotency-Key was used with another body within 10 minutes"
    },
    (413, "too_large"): {"message": "the body is over the limit of 1048576 bytes"},
    (422, "create_failed"): {"message": "model 'nope:1': no provider is known by that name"},
    (422, "registration_failed"): {
        "message": "callbackUrl leads to an address that may not be called"
    },
    (422, "guardrail"): {"message": "the text was refused: it is longer than 4000 characters"},
    (429, "rate_limited"): {
        "message": "the limit of 600 requests a minute is reached; retry in 12 s",
        "retryAfter": 12,
    },
    (429, "prompt_queue_full"): {"message": "16 prompts wait already in session 'support-42'"},
    (429, "session_limit"): {
        "message": "the limit of 1000 live sessions (per_tenant) is reached",
        "scope": "per_tenant",
        "limit": 1000,
    },
    (431, "too_large"): {"message": "the head of the request is over the limit"},
    (503, "unavailable"): {
        "message": "draining: no new sessions or prompts are taken",
        "retryAfter": 5,
    },
}
"""Every error of the contract with an example of its body."""

HEADERS_OF = {
    429: {"Retry-After": {"description": "whole seconds", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "whole seconds", "schema": {"type": "integer"}}},
}


def problems(*codes: str) -> Responses:
    """Describe the errors of a route, the ones of every `/v1` route included."""
    wanted = {*codes, "bad_request", "unauthorized", "too_large", "rate_limited", "unavailable"}
    responses: Responses = {}
    for (status, code), facts in EXAMPLES.items():
        if code in wanted:
            examples = _response(responses, status)["content"]["application/json"]["examples"]
            examples[code] = {"value": {"error": code, **facts}}
    return responses


def _response(responses: Responses, status: int) -> dict[str, Any]:
    new = {
        "model": Refusal,
        "description": "see the table of errors",
        "headers": HEADERS_OF.get(status, {}),
        "content": {"application/json": {"examples": {}}},
    }
    return responses.setdefault(status, new)


def answers(status: int, model: type[Any], example: Any, *codes: str) -> Responses:
    """Describe a route: its answer with an example, and its errors."""
    good = {"model": model, "content": {"application/json": {"example": example}}}
    return {status: good, **problems(*codes)}


# -- the description as a whole ------------------------------------------------------------------

SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
SCHEMES = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def describe(app: FastAPI) -> None:
    """Let the application describe itself as it is: its keys, its errors, its events."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    components["securitySchemes"] = SCHEMES
    components["schemas"].pop("HTTPValidationError", None)
    components["schemas"].pop("ValidationError", None)
    components["schemas"].update(_events())
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, needs_key=match_path(path).rule.access is not Access.OPEN)
    return document


def _complete(operation: dict[str, Any], *, needs_key: bool) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        # The framework's own; ours answer what is wrong with a request with 400.
        del responses["422"]
    if needs_key:
        operation["security"] = SECURITY


def _events() -> dict[str, Any]:
    """Return the schema of every event's data, with an example."""
    _, schemas = msgspec.json.schema_components(EVENTS, ref_template="#/components/schemas/{name}")
    for event in EVENTS:
        schemas[event.__name__]["title"] = event.name
        schemas[event.__name__]["examples"] = [EVENT_EXAMPLES[event.name]]
    return schemas


EVENT_EXAMPLES: dict[str, dict[str, Any]] = {
    "prompt_received": {"requestId": "5f0c2a9e1b7d4c36", "text": "Hello"},
    "agent_start": {"requestId": "5f0c2a9e1b7d4c36"},
    "message_start": {"requestId": "5f0c2a9e1b7d4c36"},
    "message_delta": {"requestId": "5f0c2a9e1b7d4c36", "delta": "Hi "},
    "thinking_start": {"requestId": "5f0c2a9e1b7d4c36"},
    "thinking_delta": {"requestId": "5f0c2a9e1b7d4c36", "delta": "They greet me. "},
    "tool_calls": {"requestId": "5f0c2a9e1b7d4c36", "count": 1},
    "tool_execution_start": {
        "requestId": "5f0c2a9e1b7d4c36",
        "callId": "c1",
        "toolName": "lookup_order",
        "args": {"order": "17"},
    },
    "tool_execution_end": {
        "requestId": "5f0c2a9e1b7d4c36",
        "callId": "c1",
        "toolName": "lookup_order",
        "status": "ok",
        "result": {"state": "shipped"},
        "durationMs": 42,
    },
    "approval_required": {
        "requestId": "5f0c2a9e1b7d4c36",
        "approvalId": "9f3c2a1b0d4e5f67",
        "toolName": "refund",
        "args": {"order": "17"},
        "hint": None,
        "requestedAt": 1795339800000,
    },
    "approval_resolved": {"approvalId": "9f3c2a1b0d4e5f67", "status": "approved"},
    "ask_user": {"ref": "9f3c2a1b0d4e5f67", "question": "Which one?"},
    "error": {"requestId": "5f0c2a9e1b7d4c36", "reason": "RuntimeError"},
    "agent_abort": {"requestId": "5f0c2a9e1b7d4c36", "reason": "aborted"},
    "agent_end": {
        "requestId": "5f0c2a9e1b7d4c36",
        "lastMessage": {"role": "assistant", "content": "Hi "},
        "tokenUsage": {"promptTokens": 51, "completionTokens": 1, "totalTokens": 52},
    },
    "model_switched": {"from": "test", "to": "openai:gpt-5"},
    "steering": {"text": "in one sentence, please"},
    "tool_attached": {"name": "lookup_order"},
    "tool_detached": {"name": "lookup_order"},
    "agent_restarted": {"reason": "signalled: 9 (SIGKILL)", "count": 1},
    "session_end": {"reason": "deleted"},
}
