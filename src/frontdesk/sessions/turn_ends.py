"""How turns ended, for whoever waits for the end of one and reads no stream.

Beside the event log: a conversation enters each prompt that it accepts, and each end, also that of
a prompt whose turn never began. So what was accepted always has an end. The last ones are
remembered, for a request that comes again.
"""

from __future__ import annotations

import asyncio

import msgspec

from frontdesk.agents.events import TurnTokens
from frontdesk.sessions.event_log import EventLog
from frontdesk.sessions.stop_reason import StopReason

MAX_STORED = 32
"""Ends that a conversation remembers."""

MAX_STORED_CHARACTERS = 256 * 1024
"""Of their texts, in all; the newest is held whatever its size."""

BYTES_OF_A_CHARACTER = 4


class TurnEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn ended.

    `aborted` is why, where it ended before its agent was done, and `error` what explains that.
    `text` is its last message as far as it came, `tokens` are None where the agent did not say what
    it used, and `last_index` is the index of the event that told of the end. `last_position` is the
    number of the history's newest message then, 0 for a turn that never began.
    """

    request_id: str
    text: str
    tokens: TurnTokens | None
    last_index: int
    aborted: str | None = None
    error: str | None = None
    last_position: int = 0

    @classmethod
    def of(
        cls,
        request_id: str,
        stop: StopReason | None,
        *,
        tokens: TurnTokens | None,
        log: EventLog,
        text: str = "",
        last_position: int = 0,
    ) -> TurnEnd:
        """Return the end that the log has just told of; `stop` is None where it ended well."""
        return cls(
            request_id=request_id,
            text=text,
            tokens=tokens,
            last_index=log.last_index,
            aborted=None if stop is None else stop.reason,
            error=None if stop is None else stop.error,
            last_position=last_position,
        )


class TurnEnds:
    """The ends of one conversation's turns. On one event loop."""

    __slots__ = ("_characters", "_expected", "_stored")

    def __init__(self) -> None:
        self._expected: dict[str, list[asyncio.Future[TurnEnd]]] = {}
        self._stored: dict[str, TurnEnd] = {}
        self._characters = 0

    def expect(self, request_id: str) -> None:
        """Enter a prompt that was accepted: its end is still to come."""
        self._expected[request_id] = []

    def add(self, end: TurnEnd) -> None:
        """Enter an end, and tell it to all who wait for it."""
        self._stored[end.request_id] = end
        self._characters += len(end.text)
        while len(self._stored) > 1 and (
            len(self._stored) > MAX_STORED or self._characters > MAX_STORED_CHARACTERS
        ):
            self._characters -= len(self._stored.pop(next(iter(self._stored))).text)
        for waiting in self._expected.pop(end.request_id, ()):
            if not waiting.done():
                waiting.set_result(end)

    async def wait(self, request_id: str) -> TurnEnd | None:
        """Wait for the end of an accepted prompt's turn; None where it is forgotten already."""
        waiting = self._expected.get(request_id)
        if waiting is None:
            return self._stored.get(request_id)
        future: asyncio.Future[TurnEnd] = asyncio.get_running_loop().create_future()
        waiting.append(future)
        try:
            return await future
        finally:
            waiting.remove(future)

    @property
    def waited_for(self) -> bool:
        """Say whether somebody waits for an end."""
        return any(self._expected.values())

    @property
    def held_bytes(self) -> int:
        """Return the memory that the texts take at most."""
        return self._characters * BYTES_OF_A_CHARACTER
