"""The tables, for every store alike: each writes its own CREATE statements from these records.

What may be encrypted is bytes, and says itself whether it is (`sealing.py`). Numbers of
conversations grow with time, so that the newest lie together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

VERSION: int = 1
"""Of the tables below. A store refuses to open what a newer one wrote."""


class StoredColumn(NamedTuple):
    """A column. Integers are of 64 bits; `null` says that there may be nothing in it."""

    name: str
    kind: Literal["integer", "text", "bytes"]
    null: bool = False


class StoredIndex(NamedTuple):
    """An index, of those rows only for which `where` holds."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False
    where: str | None = None


class StoredTable(NamedTuple):
    """A table, with the columns of its primary key; one without has its rows in their order."""

    name: str
    columns: tuple[StoredColumn, ...]
    key: tuple[str, ...] = ()
    indexes: tuple[StoredIndex, ...] = ()


def _integers(*names: str, null: bool = False) -> tuple[StoredColumn, ...]:
    return tuple(StoredColumn(name, "integer", null) for name in names)


def _texts(*names: str, null: bool = False) -> tuple[StoredColumn, ...]:
    return tuple(StoredColumn(name, "text", null) for name in names)


def _bytes(*names: str, null: bool = False) -> tuple[StoredColumn, ...]:
    return tuple(StoredColumn(name, "bytes", null) for name in names)


WAITING: str = "state IN ('queued', 'running', 'suspended')"
"""Holds for turns that have not ended."""

CONVERSATION = StoredTable(
    "conversation",
    (
        *_integers("number"),
        *_texts("tenant_id", "session_id", "owner", "state", "blueprint", "model"),
        *_texts("api_key", "label", null=True),
        *_integers("created_at_ms", "last_activity_ms", "fence"),
        *_integers("oldest_index", "last_index", "last_position", "held_bytes"),
        *_texts("key_id"),
        *_bytes("options", "totals"),
        *_bytes("ended", null=True),
        *_texts("forked_from", null=True),
    ),
    key=("number",),
    indexes=(
        StoredIndex("conversation_by_id", ("tenant_id", "session_id", "number")),
        StoredIndex("conversation_by_state", ("tenant_id", "state", "number")),
        StoredIndex("conversation_live", ("number",), where="state = 'live'"),
        StoredIndex("conversation_unused", ("last_activity_ms",), where="state <> 'live'"),
    ),
)
TURN = StoredTable(
    "turn",
    (
        *_integers("number", "position"),
        *_texts("request_id", "state"),
        *_bytes("text"),
        *_texts("api_key", null=True),
        *_bytes("attachments"),
        *_integers("first_index", "last_index", "queued_at_ms"),
        *_integers("begun_at_ms", "ended_at_ms", null=True),
        *_bytes("turn_end", "turn_usage", null=True),
        # What it goes on from, while it is suspended.
        *_texts("kind", null=True),
        *_integers("version", null=True),
        *_bytes("content", null=True),
    ),
    key=("number", "position"),
    indexes=(
        StoredIndex("turn_by_request", ("number", "request_id"), unique=True),
        StoredIndex("turn_waiting", ("number",), where=WAITING),
    ),
)
JOURNAL = StoredTable(
    "journal",
    (*_integers("number", "fence", "first_index", "last_index", "held_bytes"), *_bytes("frames")),
    # Appended at its end and cleared from its beginning; an index would be written all over.
)
SEGMENT = StoredTable("segment", JOURNAL.columns, key=("number", "first_index"))

TABLES: Sequence[StoredTable] = (
    CONVERSATION,
    StoredTable(
        "epoch",
        _integers("number", "fence", "first_index"),
        key=("number", "fence"),
        indexes=(StoredIndex("epoch_by_fence", ("fence",)),),
    ),
    TURN,
    StoredTable(
        "message",
        (*_integers("number", "position"), *_bytes("content")),
        key=("number", "position"),
    ),
    StoredTable(
        "memory",
        (
            # As of the end at the message `position`, up to that at `until`, if it was replaced
            # there: then it is held for the checkpoints between the two.
            *_integers("number", "place", "position"),
            *_integers("until", null=True),
            *_texts("request_id", "kind"),
            *_integers("version", "replaces"),
            # In this order: looking for a digest reads no contents.
            *_bytes("digest", "content"),
        ),
        key=("number", "place"),
    ),
    StoredTable(
        "pending",
        (
            *_integers("number", "place"),
            *_texts("reference", "request_id", "kind"),
            *_bytes("event"),
            *_bytes("answer", null=True),
        ),
        key=("number", "reference"),
    ),
    StoredTable(
        "checkpoint",
        (*_integers("number", "position", "at_ms"), *_texts("name", "request_id")),
        key=("number", "name"),
    ),
    StoredTable(
        "idempotency",
        (*_texts("slot"), *_integers("number", "until_ms"), *_bytes("digest", "answer")),
        key=("slot",),
        indexes=(
            StoredIndex("idempotency_by_number", ("number",)),
            StoredIndex("idempotency_by_time", ("until_ms",)),
        ),
    ),
    JOURNAL,
    SEGMENT,
    StoredTable("tenant_key", _texts("tenant_id", "key_id"), key=("tenant_id",)),
    # What is to be done after the commit of an erasure: files of keys that are to be removed, and
    # an empty one where erased rows may have copies elsewhere in the store's files.
    StoredTable("doomed_key", _texts("key_id"), key=("key_id",)),
)

OF_A_CONVERSATION: Sequence[str] = tuple(
    table.name for table in reversed(TABLES) if any(each.name == "number" for each in table.columns)
)
"""The tables whose rows go with a conversation, its own row last."""
