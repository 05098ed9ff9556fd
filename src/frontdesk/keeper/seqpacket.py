"""Packets: whole messages with descriptors over a UNIX socket of type SEQPACKET.

For the gateway, the keeper and the fork servers. The kernel keeps the bounds of a message and
carries its descriptors; the end of the peer is the end of the stream.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections import deque
from collections.abc import Iterable, Sequence

MAX_DESCRIPTORS = 4

Packet = tuple[bytes, tuple[int, ...]]

_Ancillary = list[tuple[int, int, bytes]]
_Received = tuple[bytes, _Ancillary, int, object]

_INT_SIZE = array("i").itemsize
_ROOM = socket.CMSG_LEN(MAX_DESCRIPTORS * _INT_SIZE)


class SeqPacketChannel:
    """Send and receive packets without blocking, over a connected socket that this object owns.

    What the kernel does not take at once waits here; whoever runs the loop calls `flush` when the
    socket is writable and `pending` is true. The number that waits is bounded by what the callers
    have under way: a packet or two for each child.
    """

    __slots__ = ("_outgoing", "socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket: socket.socket = sock
        self._outgoing: deque[Packet] = deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def pending(self) -> bool:
        """Say whether packets wait for the socket to become writable."""
        return bool(self._outgoing)

    def send(self, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send, or keep for `flush`. The descriptors become ours and are closed once sent."""
        self._outgoing.append((payload, tuple(descriptors)))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it; `ConnectionError` if the peer is gone."""
        while self._outgoing:
            payload, descriptors = self._outgoing[0]
            try:
                socket.send_fds(self.socket, [payload], list(descriptors))
            except (BlockingIOError, InterruptedError):
                return
            self._outgoing.popleft()
            close_all(descriptors)

    def receive(self, *, largest: int) -> Packet | None:
        """Return one packet, `None` at the end; `BlockingIOError` if there is none yet.

        The descriptors are the caller's. A packet whose descriptors did not all arrive (the limit
        of open files is reached here) comes with none of them.
        """
        try:
            payload, ancillary, flags, _ = self._receive(largest)
        except ConnectionResetError:
            # The peer ended with packets of ours unread. The kernel says so once, and before it
            # hands out what the peer had sent until then.
            payload, ancillary, flags, _ = self._receive(largest)
        numbers = array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(content[: len(content) - len(content) % _INT_SIZE])
        descriptors = tuple(numbers)
        if flags & socket.MSG_CTRUNC:
            close_all(descriptors)
            descriptors = ()
        return (payload, descriptors) if payload else None

    def _receive(self, largest: int) -> _Received:
        # Not socket.recv_fds: it drops the flags, and so leaves what it receives inheritable.
        return self.socket.recvmsg(largest, _ROOM, socket.MSG_CMSG_CLOEXEC)

    def close(self) -> None:
        """Close the socket and every descriptor that still waits to be sent."""
        self.socket.close()
        while self._outgoing:
            close_all(self._outgoing.popleft()[1])


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a fresh connection for packets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that this process owns."""
    for descriptor in descriptors:
        os.close(descriptor)
