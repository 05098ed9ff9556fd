"""What is stored of a conversation that goes on here, and what its next agent gets of it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from frontdesk.agents.records import Message
from frontdesk.persistence.stored import StoredConversation, StoredRequest, StoredTurn
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.counters import Counters
from frontdesk.sessions.event_log import LogEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierLife:
    """A conversation as it was read from the storage.

    `messages` are the newest that its history holds; `waiting` the turns that have not ended, and
    `latest` the newest of all. `requests` wait for an answer, or have one for a suspended turn.
    """

    stored: StoredConversation
    options: StoredOptions
    messages: tuple[Message, ...]
    totals: Counters
    waiting: tuple[StoredTurn, ...]
    latest: StoredTurn | None
    requests: tuple[StoredRequest, ...]

    @property
    def epochs(self) -> tuple[LogEpoch, ...]:
        """Return which fence its events carry from which index on."""
        return tuple(LogEpoch(each.fence, each.first_index) for each in self.stored.epochs)

    @property
    def ended(self) -> ExitReason | None:
        """Return how it ended; None where it may go on."""
        if self.stored.ended is None:
            return None
        return reason_in(self.stored.ended)


def reason_in(stored: bytes) -> ExitReason:
    """Return the reason of an end as it was stored."""
    try:
        return msgspec.json.decode(stored, type=ExitReason)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ExitReason.of(ExitKind.UNKNOWN)
