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
from frontdesk.gateway.request_context import SCOPE_KEY, Message, RequestContext, Scope
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

MAX_TARGET = 200
"""So much of what a path names is logged."""

Answer = Callable[[RequestContext], Awaitable[None]]


def tenant_request_of(context: RequestContext) -> TenantRequest | None:
    """Return what an operator's request means; None for a verb that no route answers."""
    verb = "GET" if context.method == "HEAD" else context.method
    return REQUESTS.get((verb, context.path.rpartition("/")[2]))


class OperatorRequest:
    """An operator's request on its way as a tenant's own; `answer` is what answers those."""

    __slots__ = (
        "_acting",
        "_answer",
        "_asked",
        "_context",
        "_gateway",
        "_logged",
        "_session_id",
        "_tenant_id",
    )

    def __init__(
        self, gateway: Gateway, context: RequestContext, asked: TenantRequest, answer: Answer
    ) -> None:
        self._gateway, self._context = gateway, context
        self._asked, self._answer = asked, answer
        self._tenant_id, self._session_id = context.path.split("/")[3:5]
        self._logged = False

    async def run(self) -> None:
        """Write what came of it, and answer."""
        context = self._context
        if self._asked.text and not self._gateway.config.server.operators_read_text:
            self._log("forbidden")
            raise TextNotForOperators
        acting = self._acting = RequestContext(
            self._scope(), context.receive, self._send, body_limit=context.body_limit
        )
        acting.client = context.client
        try:
            acting.key = self._caller()
            acting.sessions = self._gateway.sessions_of(acting.key)
            acting.granted_scope, acting.granted = self._asked.scope, acting.rule.access
            acting.scope[SCOPE_KEY] = acting
            await self._answer(acting)
        except Exception as error:  # noqa: BLE001 - each becomes an answer, or is raised by `fail`
            await acting.fail(error)
        finally:
            context.started, context.status = acting.started, acting.status
            context.refused = acting.refused
            self._log(acting.refused or "failed")

    def _scope(self) -> Scope:
        """Return the scope of the tenant's own request."""
        scope, asked = self._context.scope, self._asked
        path = f"{scope.get('root_path', '')}/v1/sessions/{self._session_id}{asked.below}"
        return {
            **scope,
            "method": "HEAD" if self._context.method == "HEAD" else asked.method,
            "path": path,
            "raw_path": quote(path).encode("ascii"),
        }

    def _caller(self) -> Caller:
        """Return the operator as one who may do just this, to sessions of that tenant."""
        operator = self._context.tenant_key
        return Caller(
            operator.key_id,
            self._tenant_id,
            frozenset({self._asked.scope}),
            operator.expires_at,
            digest=operator.digest,
            operator=True,
        )

    async def _send(self, message: Message) -> None:
        # Before the answer: who has that finds the line, and a stream may be open for hours.
        if message["type"] == "http.response.start":
            status = message["status"]
            self._log("ok" if status < 400 else self._acting.refused or str(status))
        await self._context.send_on(message)

    def _log(self, result: str) -> None:
        if not self._logged:
            self._logged = True
            log_operator_action(
                key_id=self._context.tenant_key.key_id,
                action=self._asked.action,
                target=f"{self._tenant_id}/{self._session_id}"[:MAX_TARGET],
                result=result,
            )
