"""Entries, nodes and changes as the scripts have them, and back to our records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec

from frontdesk.cluster.index.moment import seconds
from frontdesk.cluster.messages import LoggedRow, LoggedRows
from frontdesk.cluster.records import (
    IndexEntry,
    NewEntry,
    NodeRecord,
    NodeState,
    NodeStatus,
)
from frontdesk.records import ExitReason, Fence

__all__ = [
    "Fields",
    "changes_in",
    "fields_of",
    "index_entry",
    "json_of_reason",
    "node_statuses",
]

Fields = list[Any]
"""An entry in the order of FIELDS in `scripts/parts/entries.lua`; False where it has nothing."""

_PLAIN_END = 14
"""So long is the row of an end that is not its node's."""

_changes = msgspec.msgpack.Decoder(list[list[Any]]).decode
_reason = msgspec.json.Decoder(ExitReason).decode


def fields_of(entry: NewEntry, *, fence: Fence | None = None) -> Fields:
    """Return an entry as a script is given it. Numbers are decimal already: they are stored so."""
    return [
        entry.incarnation,
        entry.token,
        False if fence is None else str(fence),
        False,
        entry.tenant_id,
        _or_false(entry.api_key),
        str(entry.created_at),
        _or_false(entry.blueprint),
        _or_false(entry.model),
        str(entry.pid),
        "1" if entry.minted else "0",
        False,
    ]


def index_entry(session_id: str, fields: Fields) -> IndexEntry:
    """Return the entry that a script answered with."""
    (
        incarnation,
        token,
        fence,
        version,
        tenant_id,
        key,
        created,
        blueprint,
        model,
        pid,
        minted,
        _,
    ) = fields
    entry = NewEntry(
        session_id,
        incarnation,
        token,
        tenant_id,
        _or_none(key),
        int(created),
        _or_none(blueprint),
        _or_none(model),
        int(pid),
        minted == "1",
    )
    return IndexEntry(entry, int(fence), int(version))


def json_of_reason(reason: ExitReason) -> str:
    """Return an exit reason as the log has it.

    >>> json_of_reason(ExitReason.of("lost"))
    '{"kind":"lost","error":null,"text":null,"signal":null,"code":null}'
    """
    if reason.text is not None:
        # An exception's may hold half a surrogate pair, which is no character.
        reason = replace(reason, text=reason.text.encode("utf-8", "replace").decode())
    return msgspec.json.encode(reason).decode()


def changes_in(blobs: Iterable[bytes], *, after: int, limit: int) -> LoggedRows:
    """Return the changes in entries of the log that come after a revision, up to a number."""
    found = (_logged(row) for blob in blobs for row in _changes(blob))
    later = [one for one in found if one.revision > after]
    return LoggedRows(later[:limit])


def _logged(row: list[Any]) -> LoggedRow:
    kind, number, session_id, pid, key, tenant_id, created, blueprint, model, fence = row[:10]
    is_end = kind == "ended"
    return LoggedRow(
        kind,
        int(number),
        int(fence),
        session_id,
        row[10],
        row[11],
        tenant_id,
        _or_none(key),
        int(created),
        _or_none(blueprint),
        _or_none(model),
        int(pid),
        _reason(row[12]) if is_end else None,
        int(row[13]) if is_end else 0,
        len(row) > _PLAIN_END,
    )


def node_statuses(rows: Iterable[list[Any]]) -> list[NodeStatus]:
    """Return nodes by name, then by incarnation; a dead one of which something is left too."""
    found = [_status(one) for one in rows]
    return sorted(found, key=lambda one: (one.node.name, one.node.incarnation))


def _status(row: list[Any]) -> NodeStatus:
    incarnation, name, address, schema, version, digest, gone, left_us, stalled, draining, count = (
        row
    )
    node = NodeRecord(incarnation, name, address, int(schema), version, digest)
    if gone == "shutdown":
        state = NodeState.LEAVING
    elif gone or left_us <= 0:
        state = NodeState.SUSPECT
    else:
        state = NodeState.STALLED if stalled == "1" else NodeState.ALIVE
    return NodeStatus(node, state, seconds(left_us), int(count), draining == "1")


def _or_false(text: str | None) -> str | bool:
    return False if text is None else text


def _or_none(text: str | bool) -> str | None:
    return None if isinstance(text, bool) else text
