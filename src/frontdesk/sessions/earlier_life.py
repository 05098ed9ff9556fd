"""What is stored of a conversation that goes on here, and what its next agent gets of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from frontdesk.agents.events import ApprovalRequired, AskUser
from frontdesk.agents.records import Memory, Message
from frontdesk.persistence.stored import StoredConversation, StoredRequest, StoredTurn
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.conversation_record import StoredEvent, StoredOptions
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.event_log import LogEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierTurn:
    """A turn that is suspended: `messages` is what it came to, `text` the last that it said.

    `requests` are those of its questions that can be answered without it, or were. It goes on from
    `memory`, None where that cannot be read any more. One that began in this process has its
    messages in the history already, and is not `stored` but here.
    """

    request_id: str
    memory: Memory | None
    requests: tuple[EarlierRequest, ...]
    messages: tuple[Message, ...] = ()
    text: str = ""
    stored: StoredTurn | None = None


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """A request of a suspended turn: the event that went out, and the answer, if there is one."""

    reference: str
    event: ApprovalRequired | AskUser
    answer: bytes | None

    @classmethod
    def all_of(cls, requests: Iterable[StoredRequest]) -> tuple[EarlierRequest, ...]:
        """Return those that can be answered without their agent."""
        found = []
        for each in requests:
            stored = msgspec.json.decode(each.event, type=StoredEvent)
            event: ApprovalRequired | AskUser
            if each.kind == "approval":
                event = msgspec.json.decode(stored.event, type=ApprovalRequired)
            else:
                event = msgspec.json.decode(stored.event, type=AskUser)
            if stored.outlives:
                found.append(cls(reference=each.reference, event=event, answer=each.answer))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierLife:
    """A conversation as it was read from the storage.

    `messages` are the newest that its history holds; `waiting` the turns that have not begun,
    `suspended` the one that waits for somebody's answers, and `latest` the newest of all.
    """

    stored: StoredConversation
    options: StoredOptions
    messages: tuple[Message, ...]
    totals: Counters
    waiting: tuple[StoredTurn, ...]
    suspended: EarlierTurn | None
    latest: StoredTurn | None
    reopened: bool = False
    """It had ended, and goes on nonetheless."""

    @property
    def epochs(self) -> tuple[LogEpoch, ...]:
        """Return which fence its events carry from which index on."""
        return tuple(LogEpoch(each.fence, each.first_index) for each in self.stored.epochs)

    @property
    def ended_before(self) -> str | None:
        """Return how it had ended that goes on nonetheless."""
        if self.stored.ended is None or not self.reopened:
            return None
        return reason_in(self.stored.ended).public_text

    @property
    def ended(self) -> ExitReason | None:
        """Return how it ended; None where it may go on."""
        if self.stored.ended is None or self.reopened:
            return None
        return reason_in(self.stored.ended)


def reason_in(stored: bytes) -> ExitReason:
    """Return the reason of an end as it was stored."""
    try:
        return msgspec.json.decode(stored, type=ExitReason)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ExitReason.of(ExitKind.UNKNOWN)
