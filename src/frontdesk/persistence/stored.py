"""What is read back of conversations: frozen records, alike from every store."""

from __future__ import annotations

import msgspec

from frontdesk.persistence.operations import ConversationState, TurnState


class StoredEpoch(msgspec.Struct, frozen=True):
    """From `first_index` on, events carry this fence."""

    fence: int
    first_index: int


class StoredConversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it is stored, without its events, messages and turns.

    `fence` is that of its first epoch, which names it; `epochs` are all, oldest first.
    `oldest_index` is that of the oldest event that is held, `last_index` of the newest. `ended` is
    the reason of its end, as it was given. `unreadable` says why its options cannot be decrypted.
    """

    number: int
    tenant_id: str
    session_id: str
    owner: str
    state: ConversationState
    blueprint: str
    model: str
    api_key: str | None
    label: str | None
    created_at_ms: int
    last_activity_ms: int
    fence: int
    epochs: tuple[StoredEpoch, ...]
    oldest_index: int
    last_index: int
    last_position: int
    """Of its newest message."""
    options: bytes
    totals: bytes
    ended: bytes | None
    forked_from: str | None
    waiting: int
    """Turns that are queued, running or suspended."""
    held_bytes: int
    unreadable: str | None = None


class StoredTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn as it is stored. `first_index` and `last_index` are 0 while it has none.

    `memory` is what a suspended one goes on from.
    """

    number: int
    position: int
    """Its place among the conversation's turns, from 1."""
    request_id: str
    state: TurnState
    text: str
    api_key: str | None
    attachments: bytes
    first_index: int
    last_index: int
    queued_at_ms: int
    begun_at_ms: int | None
    ended_at_ms: int | None
    end: bytes | None
    usage: bytes | None
    suspended: StoredMemory | None


class StoredMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent left for the next one; `position` is that of the last message it knows of."""

    request_id: str
    kind: str
    version: int
    content: bytes
    replaces: bool = False
    position: int = 0


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An approval or a question that waits, or was answered while its turn is suspended."""

    request_id: str
    reference: str
    kind: str
    event: bytes
    answer: bytes | None


class WaitingConversation(msgspec.Struct, frozen=True):
    """One that has turns to end, by its number and its name."""

    number: int
    tenant_id: str
    session_id: str


class StoredFrame(msgspec.Struct, frozen=True):
    """One event of a log: its fence and index, and the frame as it was appended."""

    fence: int
    index: int
    frame: bytes


class StoredCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A named end of a turn."""

    name: str
    request_id: str
    position: int
    at_ms: int


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an idempotency key."""

    digest: bytes
    answer: bytes


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of a tenant's conversations asks for; None asks for all.

    `after` is the number of the last one of the page before, in ascending order.
    """

    tenant_id: str
    after: int = 0
    limit: int = 100
    states: tuple[ConversationState, ...] = ("live", "dormant")
    blueprint: str | None = None
    label: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
