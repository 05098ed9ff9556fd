"""One request on its way through the middleware, and what became of it.

Below the middleware, which makes one for each request; the routes see it as `scope["frontdesk"]`.
It stands between the server and the application in both directions: it counts the body as it comes
in, adds the headers that every answer has, and remembers the status for the log. It decides
nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from frontdesk.gateway.error_answers import INTERNAL
from frontdesk.gateway.errors import TooLarge, Unauthorized
from frontdesk.gateway.paths import Access, PathRule, match_path, path_of
from frontdesk.gateway.problems import Problem, problem_of
from frontdesk.gateway.scopes import KeyScope
from frontdesk.persistence.errors import StorageUnavailable

if TYPE_CHECKING:
    from frontdesk.gateway.callers import Caller
    from frontdesk.sessions.tenant_sessions import TenantSessions

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Header = tuple[bytes, bytes]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SCOPE_KEY = "frontdesk"
CACHE_CONTROL = b"cache-control"
READING: frozenset[str] = frozenset({"GET", "HEAD"})
"""The verbs that change nothing."""
NO_STORE = (CACHE_CONTROL, b"no-store")

logger: logging.Logger = logging.getLogger("frontdesk.gateway")


class RequestContext:
    """A request: who asks, from where, for what; then how it was answered."""

    __slots__ = (
        "_body_left",
        "_is_replaced",
        "_receive",
        "_send",
        "body_limit",
        "body_room",
        "client",
        "extra",
        "granted",
        "granted_scope",
        "key",
        "path",
        "refused",
        "request_id",
        "rule",
        "scope",
        "session_id",
        "sessions",
        "started",
        "started_at",
        "status",
        "trace_id",
    )
    rule: PathRule
    scope: Scope
    session_id: str | None
    started: bool
    status: int

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, body_limit: int) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.path: str = path_of(scope)
        matched = match_path(self.path)
        self.rule, self.session_id = matched.rule, matched.session_id
        if self.rule.unnamed and self.method in self.rule.unnamed:
            self.session_id, body_limit = None, max(body_limit, self.rule.body_bytes)
        self.body_limit: int = body_limit
        self._body_left = body_limit
        self._is_replaced = False  # the route's answer, by one that says that nothing is stored
        self.body_room: int = 0
        """What its body has room for among those of its key (`request_bodies.py`)."""
        self.client: str = "-"
        self.key: Caller | None = None
        self.sessions: TenantSessions | None = None
        self.granted: Access | None = None
        self.granted_scope: KeyScope | None = None
        # Whatever a key was asked for is for that key alone, and so is what refuses it.
        self.extra: list[Header] = [] if self.rule.access is Access.OPEN else [NO_STORE]
        self.refused: str | None = None
        """The code of the error that it was refused with."""
        self.started = False
        self.status = 0
        self.request_id: str | None = None
        """The turn that it began; for the log."""
        self.trace_id: str | None = None
        """The trace that it is part of, where there are traces; for the log."""
        self.started_at: float = time.perf_counter()

    @property
    def method(self) -> str:
        return str(self.scope.get("method", "GET"))

    @property
    def query(self) -> bytes:
        return bytes(self.scope.get("query_string", b""))

    @property
    def websocket(self) -> bool:
        return bool(self.scope["type"] == "websocket")

    @property
    def tenant_key(self) -> Caller:
        """Who was let in to `/v1`; `Unauthorized` where nobody was."""
        if self.key is None:
            raise Unauthorized
        return self.key

    @property
    def tenant_sessions(self) -> TenantSessions:
        """The sessions that this key opens: all that a route can reach."""
        if self.sessions is None:
            raise Unauthorized
        return self.sessions

    @property
    def duration_ms(self) -> float:
        return round((time.perf_counter() - self.started_at) * 1000, 3)

    def header(self, name: bytes) -> str | None:
        """Return the first header of this (lower-case) name."""
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value.decode("latin-1"))
        return None

    # -- towards the application -----------------------------------------------------------------

    def announced_body(self) -> int:
        """Return how large a body may come; `TooLarge` where it says that it is over the limit."""
        announced = self.header(b"content-length")
        if announced and announced.isascii() and announced.isdigit():
            if int(announced) > self.body_limit:
                raise TooLarge("body", limit=self.body_limit)
            return int(announced)
        return self.body_limit if self.header(b"transfer-encoding") is not None else 0

    async def receive(self) -> Message:
        """Receive, and refuse with 413 as soon as the body is over the limit."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._body_left -= len(message.get("body", b""))
            if self._body_left < 0:
                # In the framework's terms: it makes a 400 of any other error in a body.
                raise HTTPException(413, str(TooLarge("body", limit=self.body_limit)))
        return message

    # -- towards the client ----------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """Send; the first message of an answer gets the headers that every answer has."""
        kind = message["type"]
        if self._is_replaced:
            return
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            try:
                await self._commit(message["status"])
            except StorageUnavailable as error:
                # Answered here: raised, the framework takes its own answer for one that has begun.
                await self.fail(error)
                self._is_replaced = True
                return
            self.started, self.status = True, message["status"]
            headers = message.get("headers", ())
            own = any(name == CACHE_CONTROL for name, _ in headers)
            extra = [each for each in self.extra if each is not NO_STORE] if own else self.extra
            message["headers"] = [*headers, *extra]
        elif kind == "websocket.accept":
            self.started, self.status = True, 101
        await self._send(message)

    async def _commit(self, status: int) -> None:
        """Wait until what a request did is stored: then it may be told that it was done."""
        changed = 200 <= status < 300 and self.method not in READING
        if changed and self.sessions is not None and self.sessions.found is not None:
            await self.sessions.found.committed()

    @property
    def send_on(self) -> Send:
        """What sends the rest of an answer that has begun, without a detour."""
        return self._send

    @property
    def receive_on(self) -> Receive:
        """What receives where no body is expected."""
        return self._receive

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem. Nothing can be answered once an answer has begun."""
        self.refused = problem.refusal.error
        headers = [(name.lower(), value) for name, value in problem.headers.items()]
        await self.answer(problem.status, problem.body, headers=headers)

    async def fail(self, error: Exception) -> None:
        """Answer with what an error becomes; raise it where an answer has begun."""
        problem = problem_of(error)
        if problem.status == INTERNAL.status:
            logger.error("a request failed", exc_info=error)
        if self.started:
            raise error
        await self.refuse(problem)

    async def answer(
        self, status: int, body: bytes, *, headers: list[tuple[str, str]] | None = None
    ) -> None:
        """Answer in one piece; on a WebSocket that means before the upgrade."""
        prefix = "websocket.http.response" if self.websocket else "http.response"
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers or ()]
        if body:
            sent.append((b"content-type", b"application/json"))
        if status != 204:
            sent.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": f"{prefix}.start", "status": status, "headers": sent})
        await self.send({"type": f"{prefix}.body", "body": body})


def require(scope: Scope, rule: PathRule, method: str | None) -> None:
    """Raise `Unauthorized` unless the middleware has granted this request just this right.

    `method` is the verb that a route is about to answer, None where it will refuse the verb.
    """
    context = context_of(scope)
    if context.granted is not rule.access:
        raise Unauthorized
    if rule.access is Access.CREDENTIAL and method is not None:
        needed = rule.scope_of(method)
        if needed is None or context.granted_scope is not needed:
            raise Unauthorized


def context_of(scope: Scope) -> RequestContext:
    """Return the context of a request that came through the middleware."""
    context = scope.get(SCOPE_KEY)
    if not isinstance(context, RequestContext):
        # Whatever did not come through the middleware has shown no key.
        raise Unauthorized
    return context
