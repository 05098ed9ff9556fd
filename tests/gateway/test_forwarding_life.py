"""A node that is stopped: its kernel takes connections, and nothing ever comes of them."""

import asyncio
import socket

import pytest

from frontdesk.gateway.forwarding import node_connections
from frontdesk.gateway.forwarding.hop_connection import HopBroken
from frontdesk.gateway.forwarding.node_connections import NodeConnections


async def ping(connection):
    await connection.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"")


async def asked_of(node):
    connection = await node.connection()
    with node.exchange(connection):
        await ping(connection)


class StoppableNode:
    """A node that answers, unless it is stopped: then its kernel takes connections all the same."""

    def __init__(self):
        self.going_on = asyncio.Event()
        self.asked = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc_info):
        self.going_on.set()
        self._server.close()

    async def _answer(self, reader, writer):
        self.asked += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            await self.going_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("suspect", [False, True], ids=["alive", "suspect"])
def test_who_asks_a_silent_node_again_is_told_at_once_until_it_answers(monkeypatch, suspect):
    """The first one waits for as long as it may, less where the node's lease has run out."""
    shortened(monkeypatch, ANSWER_S=30.0 if suspect else 0.2, SUSPECT_S=0.1 if suspect else 30.0)
    asyncio.run(asked_until_it_answers(suspect))


async def asked_until_it_answers(suspect):
    async with StoppableNode() as stopped:
        node = NodeConnections(
            stopped.address,
            ping=ping,
            problem=lambda: None,
            suspect=lambda: suspect,
            stream_s=60,
            tls=None,
        )
        with pytest.raises(HopBroken, match="no sign of life"):
            await asked_of(node)
        for _ in range(100):  # none of these waits for anything
            with pytest.raises(HopBroken, match="no sign of life"):
                await asked_of(node)
        before = stopped.asked
        stopped.going_on.set()
        async with asyncio.timeout(30):
            while True:
                try:
                    await asked_of(node)
                except HopBroken:
                    await asyncio.sleep(0.01)
                else:
                    break
        assert stopped.asked > before
        node.close("the test is over")


def test_a_node_that_is_dead_is_not_asked_for_ever(monkeypatch):
    shortened(monkeypatch, ANSWER_S=0.2)
    asyncio.run(asked_until_it_is_dead())


async def asked_until_it_is_dead():
    problem = None
    async with StoppableNode() as stopped:
        node = NodeConnections(
            stopped.address, ping=ping, problem=lambda: problem, stream_s=60, tls=None
        )
        with pytest.raises(HopBroken, match="no sign of life"):
            await asked_of(node)
        problem = "it is dead"
        async with asyncio.timeout(30):
            await node._pinging
        node.close(problem)


def shortened(monkeypatch, **seconds):
    for name, value in {"PING_S": 0.02, "CONNECT_S": 0.05, **seconds}.items():
        monkeypatch.setattr(node_connections, name, value)


def test_streams_of_a_stopped_node_end_however_often_it_is_asked(monkeypatch):
    shortened(monkeypatch, ANSWER_S=0.1)
    asyncio.run(asked_while_it_streams())


async def asked_while_it_streams():
    ended, asked = asyncio.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as stopped:
        address = f"http://127.0.0.1:{stopped.getsockname()[1]}"
        node = NodeConnections(address, ping=ping, problem=lambda: None, stream_s=0.5, tls=None)

        with node.stream(ends=lambda problem: ended.set()):
            while not ended.is_set():
                with pytest.raises(HopBroken, match="no sign of life"):
                    await asked_of(node)
                asked.append(node)
                await asyncio.sleep(0)
        assert len(asked) > 2
        node.close("the test is over")
