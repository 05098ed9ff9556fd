"""Where a turn under way could go on in another agent, as long as it waits for what was asked.

An agent that can suspend leaves the turn's state (`TurnPort.suspend`), then asks. In the storage:

    1. The state, then each request, and the event that clients see, in one commit.
    2. The answer: its client hears of it after that, and so does the agent.
    3. The turn goes on, once the last request is answered: before its agent hears of that.

A process that goes down before 1 has asked nothing, and the turn is cut off. Between 1 and 3 the
turn waits, and goes on with the answers. After 3 it is cut off like any other: what was approved
may have been done, and must not be done twice.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from frontdesk.agents.errors import TurnOver
from frontdesk.agents.events import ApprovalRequired, AskUser
from frontdesk.agents.records import Memory
from frontdesk.sessions.earlier_life import EarlierRequest, EarlierTurn
from frontdesk.sessions.pending import NO_ANSWER
from frontdesk.sessions.turn_parts import TurnParts


class Suspension:
    """Write down what one turn waits for. `memory` is what its agent left last."""

    __slots__ = ("_open", "_parts", "_request_id", "_requests", "_stored", "is_left", "memory")

    def __init__(self, request_id: str, parts: TurnParts) -> None:
        self._request_id, self._parts = request_id, parts
        self.memory: Memory | None = None
        self._stored: Memory | None = None
        self._open: set[str] = set()
        self._requests: dict[str, EarlierRequest] = {}
        self.is_left: bool = False
        """Whether the turn waits on without this agent."""

    @property
    def is_stored(self) -> bool:
        """Say whether the turn waits, and could go on elsewhere."""
        return self._stored is not None and bool(self._open)

    def renew(self) -> None:
        """Take note that the agent left another state, while the turn waits."""
        record = self._parts.record
        if record is not None and self._open and self.memory not in (None, self._stored):
            assert self.memory is not None
            self._stored = self.memory
            record.suspend(self._request_id, self.memory)

    def on_asked(
        self, reference: str, event: ApprovalRequired | AskUser, *, outlives: bool
    ) -> None:
        """Take note that somebody is asked, by an event that has just been appended."""
        if (record := self._parts.record) is None:
            return
        outlives = outlives and self.memory is not None
        if outlives:
            self._open.add(reference)
            self._requests[reference] = EarlierRequest(reference, event, None)
            self.renew()
        record.ask(self._request_id, event, outlives=outlives)

    def on_answer(self, reference: str, answer: object) -> None:
        """Take note of an answer."""
        if self._parts.record is not None and not self.is_left:
            self._parts.record.answer(reference, answer)
            request = self._requests.pop(reference, None)
            if request is not None and answer is not NO_ANSWER:
                encoded = msgspec.json.encode(answer)
                self._requests[reference] = replace(request, answer=encoded)

    async def until_stored(self, reference: str) -> None:
        """Wait until an answer is stored, and, if it was the last one, that the turn goes on.

        `TurnOver` where it goes on in another agent by now.
        """
        await self._parts.committed()
        if self.is_left:
            raise TurnOver(self._request_id)
        self._open.discard(reference)
        if self._stored is not None and not self._open:
            self.end()
            await self._parts.committed()

    def end(self) -> None:
        """Say that the turn does not wait any more: it goes on here, or is ended."""
        if self._stored is not None and self._parts.record is not None:
            self._parts.record.resume(self._request_id)
        self.memory = self._stored = None
        self._requests.clear()

    def left(self) -> EarlierTurn | None:
        """Return what another agent goes on from, and write nothing more; None without that."""
        if not self.is_stored:
            return None
        self.is_left = True
        requests = tuple(self._requests.values())
        return EarlierTurn(request_id=self._request_id, memory=self._stored, requests=requests)
