"""The channel to a process: streams for us, descriptors for it.

A program that is executed gets what programs expect, a pipe for its standard input and one for its
standard output. (An asyncio program that writes to a pipe takes anything to be read from it for the
other end having hung up: where both are one socket, its first input ends it.) A fork gets a socket.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO

from frontdesk.keeper.stderr import StderrBudget, StderrLog

MAX_READ_BYTES = 256 * 1024
"""Bytes of unread input that are buffered for a process before it has to wait."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Our ends: a stream in each direction, and the log that its standard error goes to.

    `output` is what the reader reads from: a pipe, or the socket that the writer writes to as well.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    output: asyncio.BaseTransport
    stderr: StderrLog

    def close(self) -> None:
        """Close our ends; what had been read already can still be taken from the reader."""
        self.writer.close()
        self.output.close()
        self.stderr.close()

    def on_gone(self) -> None:
        """Close what nothing can come of once the process, with all its descendants, is gone.

        What it wrote last may still be unread: that stream is left to end by itself.
        """
        if self.output is not self.writer.transport:
            self.writer.close()
        self.stderr.close()


class _Protocol(asyncio.StreamReaderProtocol):
    """A process that closes its end has ended: so does our end, and its descriptor is freed."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def open_socket_channel(
    label: str, *, budget: StderrBudget | None = None
) -> tuple[Channel, tuple[int, ...]]:
    """Return our ends and a fork's descriptors: its channel, and its standard error.

    The descriptors are the caller's. `OSError` where none are free; nothing is left then.
    """
    with ExitStack() as failing:
        ours, its = socket.socketpair()
        failing.callback(ours.close)
        failing.callback(its.close)
        from_stderr, stderr = _pipe(failing)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_READ_BYTES, loop=loop)
        protocol = _Protocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        failing.pop_all()
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    channel = Channel(reader, writer, transport, StderrLog(from_stderr, label=label, budget=budget))
    return channel, (its.detach(), stderr)


async def open_pipe_channel(
    label: str, *, budget: StderrBudget | None = None
) -> tuple[Channel, tuple[int, ...]]:
    """Return our ends and a program's descriptors: its standard input, output and error.

    The descriptors are the caller's. `OSError` where none are free; nothing is left then.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_READ_BYTES, loop=loop)
    # The reader of the other direction is there for the flow control that comes with it.
    writing = asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), loop=loop)
    with ExitStack() as failing:
        to_stdin, stdin = _stream_pipe(failing, "wb")
        from_stdout, stdout = _stream_pipe(failing, "rb")
        from_stderr, stderr = _pipe(failing)
        output, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), from_stdout
        )
        failing.callback(output.close)
        transport, _ = await loop.connect_write_pipe(lambda: writing, to_stdin)
        failing.pop_all()
    writer = asyncio.StreamWriter(transport, writing, None, loop)
    channel = Channel(reader, writer, output, StderrLog(from_stderr, label=label, budget=budget))
    return channel, (stdin, stdout, stderr)


def _stream_pipe(failing: ExitStack, mode: str) -> tuple[FileIO, int]:
    """Return our end of a pipe, a file since a transport closes it as well, and the other's number.

    `mode` is what we do with it.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    ours, its = (reading, writing) if mode == "rb" else (writing, reading)
    failing.callback(os.close, its)
    return failing.enter_context(FileIO(ours, mode)), its


def _pipe(failing: ExitStack) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    for end in ends:
        failing.callback(os.close, end)
    return ends
