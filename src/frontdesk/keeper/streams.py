"""The channel to a process: streams for us, descriptors for it."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass

from frontdesk.keeper.stderr import StderrLog

MAX_READ_BYTES = 256 * 1024
"""Bytes of unread input that are buffered for a process before it has to wait."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Our ends: a stream in each direction, and the log that its standard error goes to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stderr: StderrLog

    def close(self) -> None:
        """Close our ends; what had been read already can still be taken from the reader."""
        self.writer.close()
        self.stderr.close()


class _Protocol(asyncio.StreamReaderProtocol):
    """A process that closes its end has ended: so does our end, and its descriptor is freed."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def open_channel(label: str) -> tuple[Channel, tuple[int, int]]:
    """Return our ends and the process's descriptors: its channel, and its standard error.

    The descriptors are the caller's. `OSError` where none are free; nothing is left then.
    """
    ours, its = socket.socketpair()
    try:
        reading, writing = os.pipe2(os.O_CLOEXEC)
    except OSError:
        ours.close()
        its.close()
        raise
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_READ_BYTES, loop=loop)
    protocol = _Protocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    return Channel(reader, writer, StderrLog(reading, label=label)), (its.detach(), writing)
