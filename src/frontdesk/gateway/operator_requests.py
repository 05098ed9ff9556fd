"""What an operator does to a tenant's session: as that tenant would, with one scope, and logged.

Between the middleware and what answers tenants. An operator's path under `/ops/sessions` becomes
the tenant's own path, which then goes its usual way: to the session's node, by the same rules, with
the same errors. What it is counted and logged under is the operator's key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

from frontdesk.gateway.callers import Caller
from frontdesk.gateway.errors import TextNotForOperators
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.log_events import log_operator_action
from frontdesk.gateway.request_context import SCOPE_KEY, Message, RequestContext
from frontdesk.gateway.scopes import KeyScope


@dataclass(frozen=True, slots=True)
class TenantRequest:
    """What a tenant would ask for, and what the log calls it when an operator does."""

    method: str
    below: str
    scope: KeyScope
    action: str
    text: bool = False
    """Its answer has what is said in the session."""


REQUESTS: Mapping[tuple[str, str], TenantRequest] = MappingProxyType(
    {
        ("POST", "stop"): TenantRequest("DELETE", "", KeyScope.DELETE, "stop"),
        ("POST", "abort"): TenantRequest("POST", "/abort", KeyScope.PROMPT, "abort"),
        ("GET", "messages"): TenantRequest(
            "GET", "/messages", KeyScope.READ, "read_messages", text=True
        ),
        ("GET", "events"): TenantRequest("GET", "/events", KeyScope.READ, "read_events", text=True),
    }
)
"""By the verb and the last part of the path."""

Answer = Callable[[RequestContext], Awaitable[None]]


def tenant_request_of(context: RequestContext) -> TenantRequest | None:
    """Return what an operator's request means; None for a verb that no route answers."""
    verb = "GET" if context.method == "HEAD" else context.method
    return REQUESTS.get((verb, context.path.rpartition("/")[2]))


async def answer_operator(
    gateway: Gateway, context: RequestContext, asked: TenantRequest, answer: Answer
) -> None:
    """Answer an operator's request as the tenant's own; `answer` is what answers those."""
    operator = context.tenant_key
    tenant_id, session_id = context.path.split("/")[3:5]
    logged = False

    def log(result: str) -> None:
        nonlocal logged
        if not logged:
            logged = True
            log_operator_action(
                key_id=operator.key_id,
                action=asked.action,
                target=f"{tenant_id}/{session_id}"[:200],
                result=result,
            )

    if asked.text and not gateway.config.server.operators_read_text:
        log("forbidden")
        raise TextNotForOperators

    async def send(message: Message) -> None:
        # Before the rest: a stream may be open for hours.
        if message["type"] == "http.response.start" and message["status"] < 400:
            log("ok")
        await context.send_on(message)

    path = f"/v1/sessions/{session_id}{asked.below}"
    root_path = context.scope.get("root_path", "")
    scope = {
        **context.scope,
        "method": "HEAD" if context.method == "HEAD" else asked.method,
        "path": root_path + path,
        "raw_path": quote(root_path + path).encode("ascii"),
    }
    acting = RequestContext(scope, context.receive, send, body_limit=context.body_limit)
    acting.client = context.client
    try:
        acting.key = Caller(
            operator.key_id,
            tenant_id,
            frozenset({asked.scope}),
            operator.expires_at,
            digest=operator.digest,
            operator=True,
        )
        acting.sessions = gateway.sessions_of(acting.key)
        acting.granted_scope, acting.granted = asked.scope, acting.rule.access
        acting.scope[SCOPE_KEY] = acting
        await answer(acting)
    except Exception as error:  # noqa: BLE001 - each becomes an answer, or is raised by `fail`
        await acting.fail(error)
    finally:
        context.started, context.status = acting.started, acting.status
        context.refused = acting.refused
        log(acting.refused or str(acting.status or "failed"))
