"""The public address, once for each worker: the kernel spreads connections over those that listen.

The supervisor binds the sockets and keeps them, and each worker is given its own. So what has
connected to a worker that is replaced in turn is not refused: it waits for its successor. One that
has died gets another socket, on which nobody listens before its successor does: meanwhile all that
connects goes to the others.
"""

from __future__ import annotations

import socket

from frontdesk.gateway.server import bound_socket


class PublicAddress:
    """An address that is bound several times; a context manager that closes them all.

    `OSError` where it cannot be had.
    """

    def __init__(self, host: str, port: int, *, count: int) -> None:
        # The first one alone: another service that shares its address with itself has no part in
        # this one. Only then it is shared.
        self.first: socket.socket = bound_socket(host, port)
        self.first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._sockets: dict[int, socket.socket] = {}
        for number in range(1, count + 1):
            self.renew(number)

    def __enter__(self) -> PublicAddress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (self.first, *self._sockets.values()):
            each.close()

    def of(self, number: int) -> socket.socket:
        """Return a worker's socket."""
        return self._sockets[number]

    def renew(self, number: int) -> None:
        """Give a worker another socket; who waits in the one that it had is refused."""
        taken = socket.socket(self.first.family, self.first.type, self.first.proto)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(self.first.getsockname())
        if number in self._sockets:
            self._sockets[number].close()
        self._sockets[number] = taken
