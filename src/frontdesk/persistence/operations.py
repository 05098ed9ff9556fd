"""What is written down about conversations: one frozen record for each thing that happened.

A conversation says these in the order in which they happened, and a store carries them out in that
order, all of a batch in one transaction. They name a conversation by its number, and hold bytes
where the content is not the store's to understand.
"""

from __future__ import annotations

from typing import Literal

import msgspec

TurnState = Literal["queued", "running", "suspended", "completed", "failed", "cancelled"]
"""Where a turn stands. The last three are ends: it was done, it was cut off, it never began."""

ConversationState = Literal["live", "dormant", "ended"]


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The root of all operations; `number` is the conversation's."""

    number: int

    @property
    def held_bytes(self) -> int:
        """Return about how much memory it takes until it is written."""
        return 256


class ConversationOpened(Operation, frozen=True, kw_only=True, tag=True):
    """A conversation begins, live, with its first epoch.

    `options` are what it was opened with, as JSON: they may hold a client's secrets, and are
    stored encrypted. `forked_from` names the session that it is a copy of.
    """

    tenant_id: str
    session_id: str
    blueprint: str
    model: str
    api_key: str | None
    label: str | None = None
    created_at_ms: int
    fence: int
    options: bytes
    forked_from: str | None = None


class EpochBegun(Operation, frozen=True, kw_only=True, tag=True):
    """An agent's entry begins: events from `first_index` on carry this fence. It is live."""

    fence: int
    first_index: int
    at_ms: int


class OptionsChanged(Operation, frozen=True, kw_only=True, tag=True):
    """Its model, or what else of its options, is another from here on; None leaves it."""

    model: str | None = None
    options: bytes | None = None
    label: str | None = None


class TurnQueued(Operation, frozen=True, kw_only=True, tag=True):
    """A prompt was accepted. `attachments` are those that came with it, encoded; b"" is none."""

    request_id: str
    text: str
    api_key: str | None
    attachments: bytes = b""
    at_ms: int

    @property
    def held_bytes(self) -> int:
        return 256 + len(self.text) + len(self.attachments)


class TurnBegun(Operation, frozen=True, kw_only=True, tag=True):
    """Its turn begins at this index; the agent gets it once this is committed."""

    request_id: str
    first_index: int
    at_ms: int


class FramesAppended(Operation, frozen=True, kw_only=True, tag=True):
    """Events from `first_index` on, in order and without gaps, as `frames.py` encodes each."""

    fence: int
    first_index: int
    frames: tuple[bytes, ...]

    @property
    def held_bytes(self) -> int:
        return 256 + sum(map(len, self.frames))


class MessageAdded(Operation, frozen=True, kw_only=True, tag=True):
    """A message of the history, under its position, encoded."""

    position: int
    message: bytes

    @property
    def held_bytes(self) -> int:
        return 256 + len(self.message)


class MemoryAdded(Operation, frozen=True, kw_only=True, tag=True):
    """What an agent wants its next one to have, of one turn; see `agents.records.Memory`.

    `position` is that of the last message it knows of. One that `replaces` takes the place of every
    earlier one of its kind; what there was of them at a checkpoint is held as long as that is.
    """

    position: int
    request_id: str
    kind: str
    version: int
    content: bytes
    replaces: bool

    @property
    def held_bytes(self) -> int:
        return 256 + len(self.content)


class TurnFinished(Operation, frozen=True, kw_only=True, tag=True):
    """A turn has its end, at this index. `end` is its `TurnEnd`, `usage` its counters, encoded.

    Its frames may be compressed from here on. `totals` are the conversation's own counters.
    """

    request_id: str
    state: TurnState
    last_index: int
    end: bytes
    usage: bytes
    totals: bytes
    at_ms: int


class TurnCounted(Operation, frozen=True, kw_only=True, tag=True):
    """What a turn under way has used so far, and its conversation with it: encoded counters."""

    request_id: str
    usage: bytes
    totals: bytes


class TurnSuspended(Operation, frozen=True, kw_only=True, tag=True):
    """The agent gave its turn up until somebody answers; `content` is what it goes on from."""

    request_id: str
    kind: str
    version: int
    content: bytes

    @property
    def held_bytes(self) -> int:
        return 256 + len(self.content)


class TurnResumed(Operation, frozen=True, kw_only=True, tag=True):
    """A suspended turn goes on: it is running again, and what it goes on from is gone."""

    request_id: str


class RequestAsked(Operation, frozen=True, kw_only=True, tag=True):
    """An approval or a question waits for its answer; `event` is what went out, encoded."""

    request_id: str
    reference: str
    kind: Literal["approval", "question"]
    event: bytes


class RequestAnswered(Operation, frozen=True, kw_only=True, tag=True):
    """It was answered, and `answer` is how, encoded; a suspended turn goes on with it.

    None where it waits no longer and has no answer: its turn has ended.
    """

    reference: str
    answer: bytes | None


class ConversationLeft(Operation, frozen=True, kw_only=True, tag=True):
    """Its agent has ended and none follows now: it is dormant."""

    at_ms: int


class ConversationEnded(Operation, frozen=True, kw_only=True, tag=True):
    """The session has ended, for this reason as JSON; its log is whole."""

    reason: bytes
    at_ms: int


class ConversationErased(Operation, frozen=True, kw_only=True, tag=True):
    """Everything of it goes, and can be found nowhere in the files a minute later."""


class TenantErased(Operation, frozen=True, kw_only=True, tag=True):
    """Everything of a tenant goes, with its key. `number` is 0."""

    tenant_id: str


class FramesDropped(Operation, frozen=True, kw_only=True, tag=True):
    """The events before this index are held no longer: it was full."""

    before_index: int


class CheckpointMade(Operation, frozen=True, kw_only=True, tag=True):
    """The end of a turn has a name: a fork from it takes messages and memory up to `position`."""

    name: str
    request_id: str
    position: int
    at_ms: int


class CheckpointRemoved(Operation, frozen=True, kw_only=True, tag=True):
    """A checkpoint goes, and what was held for it alone."""

    name: str


class AnswerStored(Operation, frozen=True, kw_only=True, tag=True):
    """A request's answer, for its repetition by the same idempotency key.

    It is committed together with what the request did. `slot` is whose key it is and of what;
    `number` is the conversation that it belongs to and is erased with.
    """

    slot: str
    digest: bytes
    answer: bytes
    until_ms: int


AnyOperation = (
    ConversationOpened
    | EpochBegun
    | OptionsChanged
    | TurnQueued
    | TurnBegun
    | FramesAppended
    | MessageAdded
    | MemoryAdded
    | TurnFinished
    | TurnCounted
    | TurnSuspended
    | TurnResumed
    | RequestAsked
    | RequestAnswered
    | ConversationLeft
    | ConversationEnded
    | ConversationErased
    | TenantErased
    | FramesDropped
    | CheckpointMade
    | CheckpointRemoved
    | AnswerStored
)
"""Every operation, as a union that msgspec tells apart on the wire."""
