"""The API description: errors and events with examples, and what each route needs.

Beside the routes, below the application. It changes nothing about how requests are answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from frontdesk.agents.events import EVENTS, Gap
from frontdesk.gateway.error_answers import ANSWERS
from frontdesk.gateway.paths import IN_QUERY, Access, Endpoint, PathRule, match_path
from frontdesk.gateway.problems import example_of
from frontdesk.gateway.scopes import KeyScope
from frontdesk.schemas.answer_schemas import Answer
from frontdesk.schemas.refusal import Refusal

Responses = dict[int | str, dict[str, Any]]
EVERYWHERE = (
    "bad_request",
    "unauthorized",
    "forbidden",
    "too_large",
    "rate_limited",
    "unavailable",
)
REFERENCE = "#/components/schemas/{name}"

HEADERS_OF: dict[int, dict[str, Any]] = {
    201: {"Location": {"description": "where it is", "schema": {"type": "string"}}},
    401: {"WWW-Authenticate": {"description": "how to come in", "schema": {"type": "string"}}},
    403: {"WWW-Authenticate": {"description": "what lacks", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "whole seconds", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "whole seconds", "schema": {"type": "integer"}}},
}


def problems(*codes: str) -> Responses:
    """Describe the errors of a route, the ones of every `/v1` route included."""
    wanted = {*codes, *EVERYWHERE}
    responses: Responses = {}
    for each in ANSWERS:
        if each.code in wanted:
            media = answer(example_of(each).refusal)["content"]["application/json"]
            examples = {each.code: {"value": media["example"]}}
            empty = {
                "description": "see the table of errors",
                "headers": HEADERS_OF.get(each.status, {}),
                "content": {"application/json": {"schema": media["schema"], "examples": {}}},
            }
            response = responses.setdefault(each.status, empty)
            response["content"]["application/json"]["examples"].update(examples)
    return responses


def answer(example: msgspec.Struct) -> dict[str, Any]:
    """Describe an answer by an example of it: its record is the schema."""
    schema = {"$ref": REFERENCE.format(name=type(example).__name__)}
    example_json = msgspec.json.decode(msgspec.json.encode(example))
    return {"content": {"application/json": {"schema": schema, "example": example_json}}}


def answers(example: msgspec.Struct, *codes: str, status: int = 200) -> Responses:
    """Describe a route: its answer by an example, and its errors."""
    good = answer(example)
    if status in HEADERS_OF:
        good["headers"] = HEADERS_OF[status]
    return {status: good, **problems(*codes)}


# -- the description as a whole ------------------------------------------------------------------

SCHEMES = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKeyInQuery": {"type": "apiKey", "in": "query", "name": "api_key"},
}
IN_HEADERS = ("apiKey", "bearer")
REQUEST_ID = {"type": "string", "description": "the turn that the event belongs to"}
NULL = {"type": "null"}


def describe(app: FastAPI) -> None:
    """Let the application describe itself as it is: its keys, its errors, its records."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            components = document.setdefault("components", {})
            components["securitySchemes"] = SCHEMES
            components["schemas"].pop("HTTPValidationError", None)
            components["schemas"].pop("ValidationError", None)
            components["schemas"].update(_records())
            restore_examples(document["paths"], app.routes)
            for path, operations in document["paths"].items():
                rule = match_path(path).rule
                for method, operation in operations.items():
                    correct_operation(operation, rule, needed=rule.scope_of(method.upper()))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def restore_examples(paths: dict[str, Any], routes: Iterable[BaseRoute]) -> None:
    """Put the examples of answers back as they are: the framework drops every null in them."""
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                described = paths[route.path_format][method.lower()]["responses"]
                for status, response in route.responses.items():
                    for kind, media in response.get("content", {}).items():
                        if "example" in media:
                            described[str(status)]["content"][kind]["example"] = media["example"]


def correct_operation(
    operation: dict[str, Any], rule: PathRule, *, needed: KeyScope | None
) -> None:
    """Say of an operation what holds, where the framework says something else or nothing."""
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        # The framework's own; ours answer what is wrong with a request with 400.
        del responses["422"]
    if rule.access is not Access.OPEN:
        schemes = SCHEMES if rule.endpoint in IN_QUERY else IN_HEADERS
        # Beside a scheme stands what its credential has to be good for.
        scopes = [] if needed is None else [needed.value]
        operation["security"] = [{scheme: scopes} for scheme in schemes]
    if needed is None and rule.endpoint is not Endpoint.FOR_TENANT and "403" in responses:
        # No scope lacks; another reason may stay.
        examples = responses["403"]["content"]["application/json"]["examples"]
        if not (examples := {code: one for code, one in examples.items() if code != "forbidden"}):
            del responses["403"]
        else:
            responses["403"]["content"]["application/json"]["examples"] = examples
    if "parameters" not in operation:
        return
    # A key in the query is no parameter but one of the ways to show a key.
    named = [each for each in operation["parameters"] if each["name"] != "api_key"]
    operation["parameters"] = named
    for parameter in named:
        schema = parameter["schema"]
        # What is optional is left out: in a header or query nothing can be null.
        for kind in schema.pop("anyOf", ()):
            schema.update({} if kind == NULL else kind)
        if schema["type"] == "array":
            parameter |= {"style": "form", "explode": False}


def _records() -> dict[str, Any]:
    """Return the schema of every record that goes out; of events as they are on the wire."""
    records = (*EVENTS, Gap, Refusal, *_subclasses(Answer))
    _, schemas = msgspec.json.schema_components(records, ref_template=REFERENCE)
    for event in EVENTS:
        schema = schemas[event.__name__]
        schema["title"] = event.name
        schema["examples"] = [EVENT_EXAMPLES[event.name]]
        if event.in_turn != "never":
            schema["properties"] = {"requestId": REQUEST_ID, **schema["properties"]}
        if event.in_turn == "always":
            schema["required"] = ["requestId", *schema.get("required", ())]
    return schemas


def _subclasses(root: type[Answer]) -> Iterator[type[Answer]]:
    for each in root.__subclasses__():
        yield each
        yield from _subclasses(each)


EVENT_EXAMPLES: dict[str, dict[str, Any]] = {
    "prompt_received": {"requestId": "5f0c2a9e1b7d4c36", "text": "Hello", "attachments": []},
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
        "details": None,
    },
    "approval_resolved": {
        "requestId": "5f0c2a9e1b7d4c36",
        "approvalId": "9f3c2a1b0d4e5f67",
        "status": "approved",
        "optionId": None,
    },
    "ask_user": {
        "requestId": "5f0c2a9e1b7d4c36",
        "ref": "9f3c2a1b0d4e5f67",
        "question": "Which one?",
    },
    "error": {"requestId": "5f0c2a9e1b7d4c36", "reason": "RuntimeError"},
    "agent_abort": {"requestId": "5f0c2a9e1b7d4c36", "reason": "aborted"},
    "agent_end": {
        "requestId": "5f0c2a9e1b7d4c36",
        "lastMessage": {"role": "assistant", "content": "Hi "},
        "tokenUsage": {"promptTokens": 51, "completionTokens": 1, "totalTokens": 52},
    },
    "model_switched": {"requestId": "5f0c2a9e1b7d4c36", "from": "test", "to": "openai:gpt-5"},
    "option_changed": {"requestId": "5f0c2a9e1b7d4c36", "optionId": "mode", "value": "build"},
    "steering": {"requestId": "5f0c2a9e1b7d4c36", "text": "in one sentence, please"},
    "tool_attached": {"requestId": "5f0c2a9e1b7d4c36", "name": "lookup_order"},
    "tool_detached": {"requestId": "5f0c2a9e1b7d4c36", "name": "lookup_order"},
    "agent_restarted": {"reason": "signalled: 9 (SIGKILL)", "count": 1, "memory": "kept"},
    "out_of_turn": {"kind": "message", "text": "The build has finished. "},
    "session_end": {"reason": "deleted"},
}
