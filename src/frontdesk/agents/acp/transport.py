"""The messages of an ACP agent: lines of JSON on its standard output and input, within bounds.

The transport of the SDK's connection, in place of its own, which neither bounds a line nor minds
what is no message. An agent that breaks a bound is ended: its process is killed, and `problem` says
why. What is merely too large is refused, and its agent lives on.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

import msgspec
from acp.exceptions import RequestError

from frontdesk.agents.acp.lines import Lines, LineTooLong, LongLine
from frontdesk.agents.acp.parsing import SMALL_BYTES, LeftOut, Message, left_out, parse_message
from frontdesk.keeper.process import ManagedProcess

MAX_STRAYS = 100
"""Lines in a row that are no messages. A stray one is forgiven: launchers print greetings."""

MAX_UNREAD_BYTES = 32 * 1024 * 1024
"""Bytes that may wait for an agent that does not read."""

MAX_UNDER_WAY_BYTES = 8 * 1024 * 1024
"""Bytes of an agent's requests that are being answered; those beyond are refused."""

MAX_UNSOLICITED = 10_000
"""Messages of an agent that nobody has asked anything."""

_MESSAGES_PER_YIELD = 32
_BYTES_PER_YIELD = 64 * 1024
_READ_BYTES = 256 * 1024

_log = logging.getLogger("frontdesk.agents.acp")


class AcpTransport:
    """Carry messages to and from one process. `ended` is set once no more will come.

    Implements the SDK's `Transport`. `turn_running` says whether a turn is under way: then an
    agent may send as much as it likes. `on_left_out` is called with a notification that was not
    read.
    """

    received: int
    turn_running: bool

    def __init__(self, process: ManagedProcess, *, label: str) -> None:
        self._process, self._label = process, label
        self._lines = Lines()
        self._strays = self._unsolicited = self._unyielded = self._unyielded_bytes = 0
        self._under_way: dict[int | str | None, int] = {}
        self.received = 0
        self.turn_running = False
        self.on_left_out: Callable[[LeftOut], object] = lambda _: None
        self.problem: str | None = None
        self.ended: asyncio.Event = asyncio.Event()

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
        if "method" not in message:
            self._under_way.pop(message.get("id"), None)
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
            self._process.kill(problem)

    # -- within --------------------------------------------------------------------------------

    async def _next(self) -> Message | None:
        while self.problem is None:
            line = self._lines.take()
            if line is None:
                piece = await self._process.reader.read(_READ_BYTES)
                if not piece:
                    return None
                self._lines.feed(piece)
                continue
            size = line.size if isinstance(line, LongLine) else len(line)
            message = left_out(line) if isinstance(line, LongLine) else parse_message(line)
            if message is None:
                self._stray(line if isinstance(line, bytes) else b"")
                continue
            await self._count(size)
            if isinstance(message, LeftOut):
                message = await self._refuse(message)
            if message is not None and await self._admit(message, size):
                return message
        return None

    async def _count(self, size: int) -> None:
        self._strays = 0
        self.received += 1
        if not self.turn_running:
            self._unsolicited += 1
            if self._unsolicited > MAX_UNSOLICITED:
                self.abort(f"it has sent {MAX_UNSOLICITED} messages that nobody asked for")
        self._unyielded += 1
        self._unyielded_bytes += size
        if self._unyielded >= _MESSAGES_PER_YIELD or self._unyielded_bytes >= _BYTES_PER_YIELD:
            # What came so far is worked on, and the loop's other tasks have their turn.
            self._unyielded = self._unyielded_bytes = 0
            await asyncio.sleep(0)

    async def _admit(self, message: Message, size: int) -> bool:
        """Say whether a message goes on; what asks for too much at once is refused here."""
        if "method" not in message or "id" not in message:
            return True
        number = message["id"]
        if size > SMALL_BYTES:
            # Of what shows a tool's call not all was kept.
            size = len(msgspec.json.encode(message))
        if number in self._under_way:
            problem = "an id is used again before its answer"
        elif sum(self._under_way.values()) + size > MAX_UNDER_WAY_BYTES:
            problem = "too much is asked at once"
        else:
            self._under_way[number] = size
            return True
        await self._send_refusal(number, problem)
        return False

    async def _refuse(self, message: LeftOut) -> Message | None:
        """Refuse a message that was not read; return what stands for it where it is an answer."""
        _log.warning(
            "session %s: a message of its agent is left out (%d bytes): %s",
            self._label,
            message.size,
            message.problem,
        )
        if message.has_id and message.method is not None:
            await self._send_refusal(message.id, message.problem)
        elif message.has_id:
            problem = RequestError.internal_error({"details": message.problem})
            return {"jsonrpc": "2.0", "id": message.id, "error": problem.to_error_obj()}
        elif message.method is not None:
            self.on_left_out(message)
        else:
            self.abort("it has sent a message that cannot be read, nor answered")
        return None

    async def _send_refusal(self, number: int | str | None, problem: str) -> None:
        error = RequestError.invalid_request({"details": problem}).to_error_obj()
        under_way = self._under_way.get(number)
        await self.send({"jsonrpc": "2.0", "id": number, "error": error})
        if under_way is not None:
            self._under_way[number] = under_way

    def _stray(self, line: bytes) -> None:
        self._strays += 1
        if self._strays == 1:
            first_problem = line[:200].decode(errors="replace").strip()
            _log.warning(
                "session %s: its agent sent what is no ACP: %r", self._label, first_problem
            )
        if self._strays > MAX_STRAYS:
            self.abort("what it says is not the Agent Client Protocol")
