"""What other nodes' requests meet: the ASGI application of the private listener.

In place of the middleware, beside it. Only what is signed by a node of the cluster gets in, and
what the application then sees is what was signed: path, query, a few headers, and the caller that
the other node let in. Nothing is counted, limited or logged here that was at that node. A session
that does not live here, under that fence, is answered with what only nodes understand (`GONE`).
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from frontdesk.agents.ids import registry_key
from frontdesk.cluster.node import Node
from frontdesk.gateway.callers import NO_SECRET, Caller
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.errors import Unauthorized
from frontdesk.gateway.forwarding.claims import CallerClaims, HopClaims
from frontdesk.gateway.forwarding.hops import GONE_STATUS, PING, REFUSED_STATUS
from frontdesk.gateway.forwarding.signing import HEADER, HopRefused, HopSigner, digest_of_body
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.middleware import granted_scope
from frontdesk.gateway.paths import Access
from frontdesk.gateway.request_context import (
    SCOPE_KEY,
    Message,
    Receive,
    RequestContext,
    Scope,
    Send,
)
from frontdesk.sessions.errors import Draining

GONE, REFUSED = b"gone", b"refused"

NodeCall = Callable[[bytes], Awaitable[bytes]]
"""A node's own question: a body in, a body out."""

logger: logging.Logger = logging.getLogger("frontdesk.gateway")


class OwnerApplication:
    """Answer what other nodes pass on, and what they ask for themselves.

    `calls` are their own questions, by path.
    """

    def __init__(self, gateway: Gateway, signer: HopSigner) -> None:
        self.node: Node | None = None
        self.calls: Mapping[str, NodeCall] = {}
        self._gateway, self._signer = gateway, signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = RequestContext(scope, receive, send, body_limit=0)
        try:
            claims = self._signer.verify(
                (context.header(HEADER) or "").encode("latin-1"),
                method=context.method,
                target=target_in(scope),
            )
            if claims.target == PING and not claims.to:
                # This node itself, which has not joined yet.
                await context.answer(200, b"{}")
                return
            body = b"" if context.websocket else await signed_body(context, claims)
        except HopRefused as refused:
            logger.warning("a request to the private listener was refused: %s", refused.problem)
            await _answer_for_nodes(context, REFUSED_STATUS, REFUSED, str(refused).encode())
            return
        if self.node is None or claims.to != self.node.incarnation:
            await _answer_for_nodes(context, GONE_STATUS, GONE, b"another incarnation")
        elif claims.caller is not None:
            await self._answer_request(context, claims, claims.caller, body)
        elif claims.target == PING:
            await context.answer(200, b"{}")
        elif self._gateway.open and claims.target in self.calls:
            await context.answer(200, await self.calls[claims.target](body))
        else:
            await _answer_for_nodes(context, REFUSED_STATUS, REFUSED, b"no such question")

    # -- who asks --------------------------------------------------------------------------------

    def _caller_of(self, claims: CallerClaims) -> Caller:
        """Return the caller with the hash of its secret, where this node knows it.

        It is needed to make session tokens that end with that secret.
        """
        key = self._gateway.ring.named(claims.key_id)
        digests = () if key is None else key.digests(self._gateway.clock.wall_ms())
        matching = (each for each in digests if self._signer.is_tag_of(claims.secret_tag, each))
        return claims.caller(digest=next(matching, NO_SECRET))

    # -- answers ---------------------------------------------------------------------------------

    async def _answer_request(
        self, hop: RequestContext, claims: HopClaims, caller: CallerClaims, body: bytes
    ) -> None:
        gateway = self._gateway
        context = RequestContext(
            scope_of(hop.scope, claims),
            hop.receive_on if hop.websocket else replayed(body, hop.receive_on),
            hop.send_on,
            body_limit=max(len(body), gateway.config.limits.body_bytes),
        )
        span = None
        try:
            context.client = claims.client
            if gateway.tracing is not None:
                span = gateway.tracing.requests.begin(context)
            respond = self._admit(context, caller)
            if self._lives_here(context, claims):
                if (connection := connection_of(hop.scope)) is not None:
                    connection.admitted(caller.key_id)
                await respond(context)
            else:
                await _answer_for_nodes(hop, GONE_STATUS, GONE, b"not here")
        except Exception as error:  # noqa: BLE001 - each becomes an answer, or is raised by `fail`
            await context.fail(error)
        finally:
            if span is not None:
                span.end()
            # The request was counted where it came in; that it was refused is known here.
            if context.refused is not None:
                gateway.metrics.requests.on_refused(context.refused)

    def _admit(
        self, context: RequestContext, caller: CallerClaims
    ) -> Callable[[RequestContext], Awaitable[None]]:
        """Let in whom the other node has let in; return what answers, or raise."""
        gateway = self._gateway
        if not gateway.open or gateway.respond is None:
            raise Draining
        key = context.key = self._caller_of(caller)
        context.sessions = gateway.sessions_of(key)
        context.granted_scope = granted_scope(context, key)
        if context.rule.access is not Access.CREDENTIAL or context.granted_scope is None:
            raise Unauthorized
        context.granted = context.rule.access
        context.scope[SCOPE_KEY] = context
        return gateway.respond

    def _lives_here(self, context: RequestContext, claims: HopClaims) -> bool:
        """Say whether this node can speak for the session that a request names.

        A request without a fence asks for whatever is known here: of one that may have ended, or
        that is between two agents.
        """
        if context.session_id is None or claims.fence is None:
            return True
        assert self.node is not None
        key = registry_key(context.tenant_sessions.tenant_id, context.session_id)
        return self._gateway.service.lives(key) and self.node.fence(key) == claims.fence


def target_in(scope: Scope) -> str:
    """Return path and query as they are written."""
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


async def signed_body(context: RequestContext, claims: HopClaims) -> bytes:
    """Return the whole body, which the other node has bounded and hashed; `HopRefused`."""
    pieces = []
    more = True
    while more:
        message = await context.receive_on()
        if message["type"] != "http.request":
            raise HopRefused("it ended before its body")
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"".join(pieces)
    if not hmac.compare_digest(digest_of_body(body), claims.body_digest):
        raise HopRefused("its body is another one than was signed")
    return body


def scope_of(hop: Scope, claims: HopClaims) -> Scope:
    """Return the scope of the request that was passed on: what was signed, and nothing else."""
    path, _, query = claims.target.partition("?")
    return {
        **hop,
        "method": claims.method,
        "path": claims.prefix + unquote(path),
        "raw_path": (claims.prefix + path).encode("latin-1"),
        "root_path": claims.prefix,
        "query_string": query.encode("latin-1"),
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in claims.headers
        ],
        "client": (claims.client, 0),
    }


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read, and then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Any:
        return first.pop() if first else await receive()

    return receive_again


async def _answer_for_nodes(
    context: RequestContext, status: int, kind: bytes, problem: bytes
) -> None:
    await context.answer(status, problem, headers=[(HEADER.decode(), kind.decode())])
