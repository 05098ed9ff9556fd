"""The messages of an ACP agent: lines of JSON on its standard output and input, within bounds.

The transport of the SDK's connection, in place of its own, which neither bounds a line nor minds
what is no message. An agent that breaks a bound is ended: its process is killed, and `problem` says
why.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from frontdesk.agents.values import json_value
from frontdesk.keeper.process import ManagedProcess

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Bytes of one message of an agent."""

MAX_STRAY_BYTES = 64 * 1024
"""Bytes of one line that is no message, as its first character shows."""

MAX_STRAYS = 100
"""Lines in a row that are no messages. A stray one is forgiven: launchers print greetings."""

MAX_UNREAD_BYTES = 32 * 1024 * 1024
"""Bytes that may wait for an agent that does not read."""

MAX_UNSOLICITED = 10_000
"""Messages of an agent that nobody has asked anything."""

_MESSAGES_PER_YIELD = 32
_READ_BYTES = 256 * 1024

_log = logging.getLogger("frontdesk.agents.acp")

Message = dict[str, Any]


class AcpTransport:
    """Carry messages to and from one process. `ended` is set once no more will come.

    Implements the SDK's `Transport`. `turn_running` says whether a turn is under way: then an
    agent may send as much as it likes.
    """

    def __init__(self, process: ManagedProcess, *, label: str) -> None:
        self._process, self._label = process, label
        self._lines = Lines()
        self._strays = self._unsolicited = self._received = 0
        self.turn_running = False
        self.problem: str | None = None
        self.ended = asyncio.Event()

    async def receive(self) -> Message | None:
        """Return the next message; None when there will be none."""
        try:
            message = await self._next()
        except LineTooLong as error:
            self.abort(str(error))
            message = None
        except ConnectionError:
            message = None
        if message is None:
            self.ended.set()
        return message

    async def send(self, message: Message) -> None:
        """Send a message; forget it where the process is gone. Never waits."""
        writer = self._process.writer
        if writer.is_closing() or self.problem is not None:
            return
        writer.write(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode())
        writer.write(b"\n")
        if writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.abort(f"it has left {MAX_UNREAD_BYTES} bytes unread")

    async def close(self) -> None:
        """Do nothing: the streams belong to the process."""

    def set_turn_running(self, turn_running: bool) -> None:
        """Note that a turn begins, or that it has ended."""
        self.turn_running, self._unsolicited = turn_running, 0

    def abort(self, problem: str) -> None:
        """Kill the process; the first problem counts."""
        if self.problem is None:
            self.problem = problem
            _log.error("session %s: its agent is ended: %s", self._label, problem)
            self._process.kill()

    # -- within --------------------------------------------------------------------------------

    async def _next(self) -> Message | None:
        while self.problem is None:
            line = self._lines.take()
            if line is None:
                piece = await self._process.reader.read(_READ_BYTES)
                if not piece:
                    return None
                self._lines.feed(piece)
            elif (message := parse_message(line)) is not None:
                await self._count()
                return message
            else:
                self._stray(line)
        return None

    async def _count(self) -> None:
        self._strays = 0
        self._received += 1
        if not self.turn_running:
            self._unsolicited += 1
            if self._unsolicited > MAX_UNSOLICITED:
                self.abort(f"it has sent {MAX_UNSOLICITED} messages that nobody asked for")
        if self._received % _MESSAGES_PER_YIELD == 0:
            # What came so far is worked on, and the loop's other tasks have their turn.
            await asyncio.sleep(0)

    def _stray(self, line: bytes) -> None:
        self._strays += 1
        if self._strays == 1:
            first_problem = line[:200].decode(errors="replace").strip()
            _log.warning(
                "session %s: its agent sent what is no ACP: %r", self._label, first_problem
            )
        if self._strays > MAX_STRAYS:
            self.abort("what it says is not the Agent Client Protocol")


class LineTooLong(Exception):
    """A line is longer than a message may be."""


class Lines:
    """Cut a stream of bytes into lines."""

    __slots__ = ("_begin", "_bytes", "_searched")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._begin = self._searched = 0

    def feed(self, piece: bytes) -> None:
        """Add what was read, once every whole line was taken out."""
        del self._bytes[: self._begin]
        self._searched -= self._begin
        self._begin = 0
        self._bytes += piece

    def take(self) -> bytes | None:
        """Return the next whole line; None until more was fed. Raises `LineTooLong`."""
        end = self._bytes.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._bytes)
            self._check(self._searched)
            return None
        self._check(end)
        line = bytes(self._bytes[self._begin : end])
        self._begin = self._searched = end + 1
        return line

    def _check(self, end: int) -> None:
        size = end - self._begin
        if size <= MAX_STRAY_BYTES:
            return
        if not self._bytes[self._begin : self._begin + 64].lstrip().startswith(b"{"):
            raise LineTooLong("what it says is not the Agent Client Protocol")
        if size > MAX_MESSAGE_BYTES:
            raise LineTooLong(f"it has sent a message of over {MAX_MESSAGE_BYTES} bytes")


def parse_message(line: bytes) -> Message | None:
    """Return the JSON-RPC message in a line; None where it is none.

    >>> parse_message(b'{"jsonrpc":"2.0","method":"session/update","params":{}}')["method"]
    'session/update'
    >>> parse_message(b"Server listening"), parse_message(b"[]")
    (None, None)
    """
    try:
        message = json.loads(line)
        if b"\\ud" in line or b"\\uD" in line:
            message = json_value(message)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and _is_rpc(message) else None


def _is_rpc(message: Message) -> bool:
    """Say whether the SDK's connection can take it: it trusts the types of these."""
    if not isinstance(message.get("id"), int | str | None):
        return False
    if "method" in message:
        return isinstance(message["method"], str)
    if not isinstance(message.get("error"), dict | None):
        return False
    return "id" in message and ("result" in message or "error" in message)
