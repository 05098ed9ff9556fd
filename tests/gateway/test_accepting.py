"""Connections that wait in the kernel's queue: several are accepted in a turn of the loop."""

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvloop

from frontdesk.gateway.server import ACCEPTED_IN_A_TURN, bound_socket, with_doubles
from gateway.running import RunningGateway

WAITING = 160


class Counting(asyncio.Protocol):
    """Counts the connections of each turn."""

    turns = None

    def connection_made(self, transport):
        self.turns[-1] += 1
        transport.close()


async def turns_until_all_are_accepted(sockets, address):
    """Queue connections while the loop is busy; return how many each later turn accepted."""
    loop, turns = asyncio.get_running_loop(), [0]

    class Here(Counting):
        pass

    Here.turns = turns
    servers = [await loop.create_server(Here, sock=each, backlog=2048) for each in sockets]
    with ExitStack() as stack:
        for _ in range(WAITING):
            stack.enter_context(socket.create_connection(address.getsockname()))
        while sum(turns) < WAITING:
            turns.append(0)
            await asyncio.sleep(0)
        for server in servers:
            server.close()
            await server.wait_closed()
    return [each for each in turns if each]


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_queue_of_connections_is_accepted_several_a_turn(factory):
    with bound_socket("127.0.0.1", 0) as address, ExitStack() as stack:
        sockets = with_doubles([address])
        for each in sockets[1:]:
            stack.enter_context(each)
        with asyncio.Runner(loop_factory=factory) as runner:
            turns = runner.run(turns_until_all_are_accepted(sockets, address))
    assert len(turns) <= WAITING / ACCEPTED_IN_A_TURN + 2


def test_the_server_closes_all_that_it_listens_on(tmp_path):
    with RunningGateway(tmp_path) as gateway, gateway.client() as client:
        assert client.get("/healthz").status_code == 200
        port = gateway.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
