"""A transport that lets the head of an answer leave together with what follows it.

Below `http_protocol.py`, around the server's transport. uvicorn writes the head of an answer and
its body one after the other, and each would be a system call of ours and a wake-up of the client's.
It knows nothing of HTTP: it is told when a head comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class CoalescingTransport:
    """Write through to a transport, but hold a head until more is written.

    Nothing else is held, nothing changes its order, and a head that nothing follows leaves when the
    loop has its next turn. What is not about writing is the transport's own.
    """

    __slots__ = ("_held", "_loop", "is_closing", "transport", "write")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport, self._loop = transport, loop
        self._held = b""
        self.write: Callable[[bytes], None] = transport.write
        self.is_closing = transport.is_closing

    def expect_head(self) -> None:
        """Hold what is written next."""
        if not self._held:
            self.write = self._hold

    def _hold(self, head: bytes) -> None:
        self._held = head
        self.write = self._join
        self._loop.call_soon(self.flush)

    def _join(self, data: bytes) -> None:
        head, self._held = self._held, b""
        self.write = self.transport.write
        self.transport.write(head + data)

    def flush(self) -> None:
        """Write the head that is held, if one is."""
        if self._held and not self.transport.is_closing():
            self._join(b"")

    def close(self) -> None:
        """Close the transport, once what was written has left."""
        self.flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)
