"""The socket between the supervisor and one worker: orders go one way, reports the other.

One line of JSON each. It is also how each side learns that the other has died: the kernel closes
what a dead process had open. Signals are not used for it: a service manager sends them to all
processes of a service at once, and nobody could tell the second SIGTERM from the first.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

MAX_LINE_BYTES = 64 * 1024
READ_BYTES = 4096


class Order(StrEnum):
    """What the supervisor tells a worker while it serves."""

    DRAIN = "drain"
    RELOAD = "reload"


class Report(StrEnum):
    """What a worker tells the supervisor."""

    WAITING = "waiting"
    """It has read everything, and waits for the one that it replaces to end."""
    SERVING = "serving"
    ALIVE = "alive"
    """Its loop and its listener move; as often as its assignment asks for."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told first: what it is, and with what it was called.

    Attributes:
        number (int): From 1 on; its state directory's name, and the last part of its own.
        supervisor (int): The parent's process id.
        listening (int): The descriptor of its socket of the public address.
        sockets (str): The directory of the private sockets.
        file (str | None): The configuration file.
        given (dict[str, Any]): The options of the command line.
        dev (bool): Whether it is a development run.
        first (bool): Whether no worker has served yet: it says what a development run says, and
            that the engine cannot be reached. A later one waits for the engine.
        alive_within_s (float | None): How long the supervisor bears to hear nothing of it while it
            serves; None where it does not mind.
    """

    number: int
    supervisor: int
    listening: int
    sockets: str
    file: str | None
    given: dict[str, Any]
    dev: bool
    first: bool
    alive_within_s: float | None = None


class WorkerChannel:
    """One end of it. It never blocks but in `receive_assignment`."""

    def __init__(self, end: socket.socket) -> None:
        self._end, self._unread = end, b""
        self.closed: bool = False
        """Whether the other side has gone."""

    @classmethod
    def pair(cls) -> tuple[WorkerChannel, socket.socket]:
        """Return the supervisor's end, and the socket that a worker is given."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        return cls(ours), theirs

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self.closed = True
        self._end.close()

    def send(self, message: Order | Report | Assignment) -> None:
        """Send a message; to somebody who has gone, nothing."""
        try:
            self._end.sendall(msgspec.json.encode(message, enc_hook=str) + b"\n")
        except OSError:
            # It has gone, or has read nothing for hundreds of messages: its end says so as well.
            return

    def receive_assignment(self) -> Assignment:
        """Wait for the first message to a worker."""
        while (line := self._next_line()) is None:
            if not self._read():
                raise EOFError
        self._end.setblocking(False)
        return msgspec.json.decode(line, type=Assignment)

    def orders(self) -> Iterator[Order]:
        """Yield what has come from the supervisor, by now."""
        yield from (msgspec.json.decode(line, type=Order) for line in self._lines())

    def reports(self) -> Iterator[Report]:
        """Yield what has come from the worker, by now."""
        yield from (msgspec.json.decode(line, type=Report) for line in self._lines())

    def _lines(self) -> Iterator[bytes]:
        while True:
            while (line := self._next_line()) is not None:
                yield line
            try:
                if not self._read():
                    self.closed = True
                    return
            except BlockingIOError:
                return

    def _next_line(self) -> bytes | None:
        line, end, rest = self._unread.partition(b"\n")
        if not end:
            return None
        self._unread = rest
        return line

    def _read(self) -> bool:
        try:
            more = self._end.recv(READ_BYTES)
        except ConnectionError:
            return False
        self._unread += more
        return bool(more) and len(self._unread) <= MAX_LINE_BYTES
