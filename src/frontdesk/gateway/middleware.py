"""What every request passes before any route sees it, and what it leaves behind.

Directly under the server, above the FastAPI application and the streams. In this order: the
client's address, cross-origin rules, the key, the rate limit, the size of the body; then the
request goes on, and every error on the way out becomes an answer of `problems.py`. At the end one
line in the log. What holds for which path is said in `paths.py`. One ASGI layer does it all, with a
file for each concern: a stack of middlewares would cost every request, and every open stream for as
long as it is open, a frame for each.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.cors import (
    PREFLIGHT,
    is_preflight,
    origin_headers,
    refuse_strange_pages,
)
from frontdesk.gateway.errors import OutsideSession, RateLimited
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.operator_requests import OperatorRequest, tenant_request_of
from frontdesk.gateway.paths import Access, Endpoint
from frontdesk.gateway.problems import no_such_route
from frontdesk.gateway.rate_limit import Allowance
from frontdesk.gateway.request_context import (
    SCOPE_KEY,
    Header,
    Receive,
    RequestContext,
    Scope,
    Send,
)
from frontdesk.gateway.rows.row_stream import RowStream
from frontdesk.gateway.scopes import KeyScope
from frontdesk.gateway.sse import EventStream
from frontdesk.gateway.websocket import SessionSocket
from frontdesk.sessions.errors import Draining


class GatewayMiddleware:
    """The ASGI application that the server runs."""

    def __init__(self, app: Any, *, gateway: Gateway, log: AccessLog) -> None:
        self._app, self._gateway, self._log = app, gateway, log
        gateway.respond = self._respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        context = RequestContext(
            scope, receive, send, body_limit=self._gateway.config.limits.body_bytes
        )
        span = None
        try:
            context.client = self._gateway.proxies.client_of(context.scope)
            if self._gateway.tracing is not None:
                span = self._gateway.tracing.requests.begin(context)
            if self._gateway.open and context.rule.access is Access.CREDENTIAL:
                # Done before the answer begins: an open stream keeps nothing of it.
                fetched = self._gateway.authenticator.fetch_for(context)
                if fetched is not None:
                    await fetched
            counting = self._admit(context)
            if counting is not None:
                await counting
            await self._dispatch(context)
        except Exception as error:  # noqa: BLE001 - each becomes an answer, or is raised by `fail`
            await context.fail(error)
        finally:
            if context.body_room and context.key is not None:
                self._gateway.bodies.leave(context.key.key_id, context.body_room)
            self._gateway.metrics.requests.on_request(context)
            self._log.line(context)
            if span is not None:
                span.end()

    def _admit(self, context: RequestContext) -> Awaitable[None] | None:
        """Say who asks, or raise; return what counts the request where other nodes count too."""
        gateway, access = self._gateway, context.rule.access
        if not gateway.open and not context.rule.always_answered:
            raise Draining
        if access is Access.OPERATOR:
            context.key = gateway.authenticator.admit(context, operator=True)
        if access is not Access.CREDENTIAL:
            return None
        origins = gateway.config.server.allowed_origins
        context.extra += origin_headers(context, origins)
        if is_preflight(context):
            return None
        refuse_strange_pages(context, gateway.base_url, origins)
        key = context.key = gateway.authenticator.admit(context, operator=False)
        if gateway.cluster_rate is not None:
            return self._count_with_others(context, gateway.cluster_rate.hit(key.key_id))
        try:
            context.extra += _headers_of(gateway.rate.hit(key.key_id))
        except RateLimited as error:
            context.extra += _headers_of(Allowance(error.limit, 0, error.retry_after_s))
            raise
        return None

    async def _count_with_others(
        self, context: RequestContext, counted: Awaitable[Allowance]
    ) -> None:
        try:
            context.extra += _headers_of(await counted)
        except RateLimited as error:
            context.extra += _headers_of(Allowance(error.limit, 0, error.retry_after_s))
            raise

    def _dispatch(self, context: RequestContext) -> Awaitable[None]:
        """Let a request in, or raise; return what answers it."""
        access, key = context.rule.access, context.key
        if access is Access.CREDENTIAL:
            if key is None:
                return context.answer(204, b"", headers=PREFLIGHT)
            context.granted_scope = granted_scope(context, key)
            context.sessions = self._gateway.sessions_of(key)
        elif access is Access.NONE:
            return context.refuse(no_such_route(context.method, context.path))
        context.granted = access
        connection = connection_of(context.scope)
        if connection is not None and context.key is not None:
            connection.admitted(context.key.key_id)
        if (room := context.announced_body()) and context.key is not None:
            self._gateway.bodies.enter(context.key.key_id, room)
            context.body_room = room
        context.scope[SCOPE_KEY] = context
        return self._answer(context)

    def _answer(self, context: RequestContext) -> Awaitable[None]:
        """Return what answers a request that was let in, here or on another node."""
        if self._gateway.forwarding is not None:
            elsewhere = self._gateway.forwarding.route(context)
            if elsewhere is not None:
                return elsewhere
        return self._respond(context)

    def _respond(self, context: RequestContext) -> Awaitable[None]:
        if context.session_id is not None and context.sessions is not None:
            loading = context.sessions.loading(context.session_id)
            if loading is not None:
                return self._respond_after(loading, context)
        return self._respond_now(context)

    async def _respond_after(self, loading: Awaitable[None], context: RequestContext) -> None:
        """Answer once a session that is stored has been read."""
        await loading
        await self._respond_now(context)

    def _respond_now(self, context: RequestContext) -> Awaitable[None]:
        endpoint, session_id = context.rule.endpoint, context.session_id or ""
        if context.websocket:
            if endpoint is Endpoint.WEBSOCKET:
                return SessionSocket(self._gateway, context, session_id=session_id).run()
            return context.refuse(no_such_route("GET", context.path))
        if endpoint is Endpoint.FOR_TENANT:
            asked = tenant_request_of(context)
            if asked is not None:
                return OperatorRequest(self._gateway, context, asked, self._answer).run()
        if endpoint is Endpoint.ROW_STREAM and context.method in ("GET", "HEAD"):
            feed = RowStream(self._gateway, context)
            return feed.run() if context.method == "GET" else feed.head()
        if endpoint is Endpoint.EVENT_STREAM and context.method in ("GET", "HEAD"):
            # Not through the application: its frames would stay as long as the stream is open.
            stream = EventStream(self._gateway, context, session_id=session_id)
            return stream.run() if context.method == "GET" else stream.head()
        # What GET answers, HEAD answers without its body, which the server leaves out.
        scope = {**context.scope, "method": "GET"} if context.method == "HEAD" else context.scope
        answer: Awaitable[None] = self._app(scope, context.receive, context.send)
        return answer


def granted_scope(context: RequestContext, caller: Caller) -> KeyScope | None:
    """Return the scope that a request needs, where its caller has it; else it is refused.

    None where no route may answer: who asks for what is not there is told so.
    """
    needed = context.rule.scope_of(context.method)
    if needed is not None:
        caller.require(needed)
        if caller.only is not None and context.session_id is None:
            raise OutsideSession
    return needed


def _headers_of(left: Allowance) -> tuple[Header, ...]:
    """Return what is left of the rate limit, as clients have long read it and as the IETF has it.

    `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-10.
    """
    return (
        (b"ratelimit-policy", b'"requests";q=%d;w=60' % left.limit),
        (b"ratelimit", b'"requests";r=%d;t=%d' % (left.remaining, left.reset_s)),
        (b"x-ratelimit-limit", b"%d" % left.limit),
        (b"x-ratelimit-remaining", b"%d" % left.remaining),
        (b"x-ratelimit-reset", b"%d" % left.reset_s),
    )
