"""One WebSocket to another node's session: messages go through as they come, both ways.

Beside `passed_request.py`. The client's is accepted when the owner has accepted; a refusal of the
owner's is the client's. Messages of the client count here, where its key was shown. Who reads
slowly makes the other side wait.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection as SocketToNode
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.actions import parsed, socket_answer
from frontdesk.gateway.client_connection import connection_of
from frontdesk.gateway.forwarding.answer_copy import last_message, own_headers, reason_of_end
from frontdesk.gateway.forwarding.destination import Destination, raise_unless_gone
from frontdesk.gateway.forwarding.hop_connection import HopBroken
from frontdesk.gateway.forwarding.hops import HopRequest, Hops
from frontdesk.gateway.forwarding.signing import HEADER
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.open_streams import StreamKind
from frontdesk.gateway.problems import problem_of
from frontdesk.gateway.request_context import Message, RequestContext
from frontdesk.gateway.websocket import ENDED, FAILURE, MAX_REFUSED, REVOKED
from frontdesk.sessions.errors import SessionDead

RESTARTING = 1012
"""The service restarts (IANA's registry of close codes): the owner is gone, come again."""
WAITING_MESSAGES = 16
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class PassedSocket:
    """A client's WebSocket, and the one to the owner behind it."""

    __slots__ = ("_closing", "_context", "_destination", "_gateway", "_hops", "_refused", "_socket")

    _socket: SocketToNode

    def __init__(
        self, gateway: Gateway, hops: Hops, context: RequestContext, *, destination: Destination
    ) -> None:
        self._gateway, self._hops, self._context = gateway, hops, context
        self._destination = destination
        self._closing: tuple[int, str] | None = None
        self._refused = 0

    async def run(self, request: HopRequest) -> bool:
        """Pass messages both ways; False where the node says that the session is not there."""
        to, key = self._destination, self._context.tenant_key
        try:
            self._socket = await opened(self._hops, request, to)
        except InvalidStatus as refused:
            return await refuse(self._context, refused, to)
        except (HopBroken, InvalidHandshake, TimeoutError, OSError, EOFError) as error:
            if to.ended is not None:
                raise SessionDead(to.session_id, reason=to.ended.ended.reason) from None
            problem = str(error) if isinstance(error, HopBroken) else type(error).__name__
            raise OwnerUnreachable(to.session_id, problem=problem) from None
        try:
            self._gateway.streams.enter(key, self._on_key_revoked, kind=StreamKind.PASSED_ON)
            self._hops.streams.add(self._on_node_ends)
            with self._hops.connections(to.node).stream(ends=self._end_of_node), suppress(OSError):
                await self._context.receive_on()  # websocket.connect
                await self._context.send({"type": "websocket.accept"})
                await self._pass_both_ways()
        finally:
            self._hops.streams.discard(self._on_node_ends)
            self._gateway.streams.leave(key, self._on_key_revoked)
            self._socket.transport.abort()
        return True

    # -- both ways -------------------------------------------------------------------------------

    async def _pass_both_ways(self) -> None:
        to_client = asyncio.create_task(self._pass_to_client())
        try:
            while (message := await self._context.receive_on())["type"] == "websocket.receive":
                if not await self._pass_to_owner(message):
                    break
        except Exception:
            # Or the client has left, and nobody hears this.
            self._closing = FAILURE
            raise
        finally:
            # At once: the owner's side has nobody to send to.
            self._socket.transport.abort()
            with suppress(OSError):
                await to_client

    async def _pass_to_owner(self, message: Message) -> bool:
        """Pass one message on, if it is within the rate; False where no more are taken."""
        text = message.get("text")
        content = text if text is not None else message.get("bytes") or b""
        try:
            await self._gateway.count(self._context.tenant_key.key_id)
            self._refused = 0
        except FrontdeskError as error:
            self._refused += 1
            if self._refused > MAX_REFUSED:
                self._closing = (REVOKED, "too many requests")
                return False
            await self._send(socket_answer(named(content), problem_of(error).refusal).decode())
            return True
        try:
            await self._socket.send(content)
        except ConnectionClosed:
            return False
        return True

    async def _pass_to_client(self) -> None:
        try:
            async for content in self._socket:
                await self._send(content if isinstance(content, str) else content.decode())
        except ConnectionClosed:
            pass
        except Exception:
            self._closing = FAILURE
            raise
        finally:
            code, reason = await self._end()
            if code:
                close = {"type": "websocket.close", "code": code, "reason": reason}
                await self._context.send_on(close)

    async def _end(self) -> tuple[int, str]:
        """Return how the client's side closes: as the owner has closed, or as becomes its death."""
        if self._closing is not None:
            return self._closing
        if (received := self._socket.protocol.close_rcvd) is not None:
            return received.code, received.reason
        stored = await self._gateway.service.owner_of(
            self._context.tenant_sessions.tenant_id, self._destination.session_id
        )
        node, reason = self._gateway.node, None
        if node is not None and stored is None:
            reason = await reason_of_end(node, self._destination.key)
        if reason is None:
            return RESTARTING, "the session's node does not answer; connect again"
        await self._send(last_message(reason).decode())
        return ENDED, "the session has ended"

    async def _send(self, text: str) -> None:
        await self._context.send_on({"type": "websocket.send", "text": text})

    def _end_of_node(self, problem: str) -> None:
        del problem
        self._socket.transport.abort()

    def _on_node_ends(self) -> None:
        self._closing = (RESTARTING, "this node ends; connect again")
        self._socket.transport.abort()

    def _on_key_revoked(self) -> None:
        self._closing = (REVOKED, "the key opens nothing any more")
        self._socket.transport.abort()
        if (client := connection_of(self._context.scope)) is not None:
            client.abort_if_stalled()


async def opened(hops: Hops, request: HopRequest, to: Destination) -> SocketToNode:
    """Open a WebSocket to the owner; raises what `websockets` does, and `HopBroken`."""
    connections = hops.connections(to.node)
    connections.require_life()
    envelope = hops.envelope(request, to=to.node.node.incarnation, fence=to.fence)
    options: dict[str, Any] = {
        "additional_headers": [(HEADER.decode(), envelope.decode())],
        "compression": None,
        "max_queue": WAITING_MESSAGES,
        "max_size": MAX_MESSAGE_BYTES,
        "open_timeout": connections.patience_s,
        # The node is asked for a sign of life for all that goes through it.
        "ping_interval": None,
        "user_agent_header": None,
    }
    scheme, _, place = to.node.node.address.partition(":")
    if scheme == "unix":
        return await unix_connect(place, f"ws://node{request.target}", **options)
    tls = hops.tls if scheme == "https" else None
    secured = "wss" if tls else "ws"
    return await connect(f"{secured}:{place}{request.target}", ssl=tls, proxy=None, **options)


async def refuse(context: RequestContext, refused: InvalidStatus, to: Destination) -> bool:
    """Refuse a client's socket as the owner did; False where the session is not there."""
    answer, body = refused.response, bytes(refused.response.body or b"")
    pairs = answer.headers.raw_items()
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
    if any(name == HEADER for name, _ in headers):
        raise_unless_gone(answer.status_code, body, to)
        return False
    kind = "websocket.http.response"
    start = {"status": answer.status_code, "headers": own_headers(headers)}
    await context.send({"type": f"{kind}.start", **start})
    await context.send_on({"type": f"{kind}.body", "body": body})
    return True


def named(content: str | bytes) -> dict[str, Any] | None:
    """Return a message that is only answered, None where it is none."""
    try:
        return parsed(content)
    except FrontdeskError:
        return None
