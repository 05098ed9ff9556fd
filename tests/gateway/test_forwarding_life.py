"""A node that is stopped: its kernel takes connections, and nothing ever comes of them."""

import asyncio
import socket

import pytest

from frontdesk.gateway.forwarding import node_connections
from frontdesk.gateway.forwarding.hop_connection import HopBroken
from frontdesk.gateway.forwarding.node_connections import NodeConnections


async def ping(connection):
    await connection.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"")


def test_streams_of_a_stopped_node_end_however_often_it_is_asked(monkeypatch):
    for name, seconds in (("PING_S", 0.02), ("CONNECT_S", 0.05), ("ANSWER_S", 0.1)):
        monkeypatch.setattr(node_connections, name, seconds)
    asyncio.run(asked_while_it_streams())


async def asked_while_it_streams():
    ended, asked = asyncio.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        address = f"http://127.0.0.1:{stopped.getsockname()[1]}"
        node = NodeConnections(address, ping=ping, problem=lambda: None, stream_s=0.5, tls=None)

        async def ask():
            connection = await node.connection()
            with node.exchange(connection), pytest.raises(HopBroken, match="no sign of life"):
                await ping(connection)
            asked.append(connection)

        with node.stream(ends=lambda problem: ended.set()):
            while not ended.is_set():
                await ask()
        assert len(asked) > 2
        node.close("the test is over")
