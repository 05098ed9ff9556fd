"""The public address, once for each worker: the kernel spreads connections over them.

The supervisor binds and keeps the sockets, and each worker is given its own. So what has connected
to a worker that was replaced is not refused: it waits for the next one of that number.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from frontdesk.gateway.server import bound_socket


@contextmanager
def bound_sockets(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """Bind an address several times; `OSError` where it cannot be had. Nothing listens yet."""
    with ExitStack() as stack:
        # The first one alone: another service that shares its address with itself has no part in
        # this one. Only then it is shared.
        first = stack.enter_context(bound_socket(host, port))
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken = first.getsockname()
        sockets = [first]
        for _ in range(1, count):
            another = stack.enter_context(socket.socket(first.family, first.type, first.proto))
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            another.bind(taken)
            sockets.append(another)
        yield sockets
