"""The front: what every request passes before any route sees it, and what it leaves behind.

Directly under the server, above the FastAPI application and the streams. In this order: the
client's address, cross-origin rules, the key, the rate limit, the size of the body; then the
request goes on, and every error on the way out becomes an answer of `problems.py`. At the end one
line in the log. One ASGI layer does it all, with a file for each concern: a stack of middlewares
would cost every request, and every open stream for as long as it is open, a frame for each.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable
from typing import Any

from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.cors import (
    EVERYBODY,
    EXPOSED,
    PREFLIGHT,
    is_preflight,
    refuse_foreign_cookies,
)
from frontdesk.gateway.errors import RateLimited
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.problems import INTERNAL, no_such_route, problem_of
from frontdesk.gateway.rate_limit import Allowance
from frontdesk.gateway.request_context import SCOPE_KEY, RequestContext
from frontdesk.gateway.sse import EventStream
from frontdesk.gateway.websocket import SessionSocket
from frontdesk.sessions.errors import Draining

TENANTS = re.compile(r"/v1(/|$)")
ALWAYS = frozenset({"/healthz", "/readyz"})
OPERATORS = re.compile(r"/(ops|metrics)(/|$)")
EVENTS = re.compile(r"/v1/sessions/(?P<session_id>[^/]+)/events")
SOCKET = re.compile(r"/v1/sessions/(?P<session_id>[^/]+)/ws")

logger = logging.getLogger("frontdesk.gateway")


class GatewayMiddleware:
    """The ASGI application that the server runs."""

    def __init__(self, app: Any, *, gateway: Gateway, log: AccessLog) -> None:
        self._app, self._gateway, self._log = app, gateway, log

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        passage = RequestContext(
            scope, receive, send, body_limit=self._gateway.config.limits.body_bytes
        )
        try:
            await self._way_on(passage)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            await self._refuse(passage, error)
        finally:
            self._log.line(passage)

    def _way_on(self, passage: RequestContext) -> Awaitable[None]:
        """Let a request in, or raise; return what answers it."""
        if not self._gateway.open and passage.path not in ALWAYS:
            raise Draining
        passage.client = self._gateway.proxies.client_of(passage.scope)
        if TENANTS.match(passage.path):
            passage.extra += (EVERYBODY, EXPOSED)
            if is_preflight(passage):
                return passage.answer(204, b"", headers=PREFLIGHT)
            self._admit_tenant(passage)
        elif OPERATORS.match(passage.path):
            passage.key = self._gateway.door.admit(passage, operator=True)
        passage.refuse_announced_body()
        passage.scope[SCOPE_KEY] = passage
        return self._answering(passage)

    def _admit_tenant(self, passage: RequestContext) -> None:
        refuse_foreign_cookies(passage)
        key = passage.key = self._gateway.door.admit(passage, operator=False)
        try:
            left = self._gateway.rate.spend(key.key_id)
        except RateLimited:
            passage.extra += _headers_of(self._gateway.rate.allowance(key.key_id))
            raise
        passage.extra += _headers_of(left)
        passage.desk = self._gateway.desk_of(key)

    def _answering(self, passage: RequestContext) -> Awaitable[None]:
        if passage.websocket:
            if socket := SOCKET.fullmatch(passage.path):
                return SessionSocket(self._gateway, passage, session_id=socket["session_id"]).run()
            return passage.refuse(no_such_route("GET", passage.path))
        if passage.method == "GET" and (stream := EVENTS.fullmatch(passage.path)):
            # Not through the application: its frames would stay as long as the stream is open.
            return EventStream(self._gateway, passage, session_id=stream["session_id"]).run()
        answer: Awaitable[None] = self._app(passage.scope, passage.receive, passage.send)
        return answer

    async def _refuse(self, passage: RequestContext, error: Exception) -> None:
        problem = problem_of(error)
        if problem is INTERNAL:
            logger.error("a request failed", exc_info=error)
        if passage.started:
            raise error
        await passage.refuse(problem)


def _headers_of(left: Allowance) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-ratelimit-limit", b"%d" % left.limit),
        (b"x-ratelimit-remaining", b"%d" % left.remaining),
        (b"x-ratelimit-reset", b"%d" % left.reset_s),
    )
