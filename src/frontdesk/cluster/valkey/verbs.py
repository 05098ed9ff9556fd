"""Each verb of an engine as a call: arguments are checked, and our records become a script's."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

from frontdesk.cluster import arguments
from frontdesk.cluster.index.moment import micros, seconds
from frontdesk.cluster.records import (
    Buried,
    Claim,
    EntryEnd,
    EntryPage,
    IndexEntry,
    IndexLimits,
    Joined,
    LogPage,
    NewEntry,
    NodeRecord,
    NodeStatus,
    Renewal,
    Renewed,
    Selection,
    Taken,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.cluster.valkey.calls import ScriptAnswer, ScriptCall, call_of
from frontdesk.cluster.valkey.entries import (
    changes_in,
    fields_of,
    index_entry,
    json_of_reason,
    node_statuses,
)
from frontdesk.records import Fence

__all__ = [
    "bury",
    "claim",
    "count",
    "create",
    "end",
    "follow",
    "join",
    "leave",
    "list_entries",
    "nodes",
    "publish",
    "read",
    "release",
    "renew",
    "reserve",
    "restore",
    "take",
    "totals",
    "update",
]


def _nothing(_: ScriptAnswer) -> None:
    return None


# -- nodes -----------------------------------------------------------------------------------------


def join(node: NodeRecord, *, terms: LeaseTerms, era: int | None) -> ScriptCall[Joined]:
    """Take in a node. Not asked again: the second time it would be there already."""
    told = (node.incarnation, node.name, node.address, node.schema, node.version)
    times = (micros(terms.lease_s), micros(terms.hold_s))
    return call_of(
        "join",
        (*told, node.config_digest, *times, era),
        lambda answer: Joined(int(answer.values[0]), answer.revision, seconds(answer.values[1])),
        incarnation=node.incarnation,
        schema=node.schema,
        again=False,
    )


def renew(renewal: Renewal) -> ScriptCall[Renewed]:
    """Renew a lease."""
    age_us = micros(max(renewal.loop_age_s, renewal.listener_age_s))
    draining = "1" if renewal.draining else "0"
    told = (renewal.incarnation, renewal.count, f"{renewal.tokens:016x}", age_us, draining)
    return call_of(
        "renew",
        told,
        lambda answer: Renewed(int(answer.values[0]), answer.revision, answer.values[1]),
        incarnation=renewal.incarnation,
    )


def bury(incarnation: str, *, proven: bool) -> ScriptCall[Buried]:
    """End a hundred of a dead node's entries."""
    return call_of("bury", (incarnation, proven), _burial)


def leave(incarnation: str) -> ScriptCall[Buried]:
    """Let a node go, a hundred of its entries at a time."""
    return call_of("leave", (incarnation,), _burial)


def _burial(answer: ScriptAnswer) -> Buried:
    ended, done = answer.values
    return Buried(ended, done)


def nodes() -> ScriptCall[Sequence[NodeStatus]]:
    """Ask for all nodes."""
    return call_of("nodes", (), lambda answer: node_statuses(answer.values[0]))


# -- sessions --------------------------------------------------------------------------------------


def reserve(entry: NewEntry, *, limits: IndexLimits, ttl_s: float) -> ScriptCall[None]:
    """Hold an id and a place under the limits."""
    arguments.check_entry(entry)
    arguments.check_duration("ttl_s", ttl_s)
    told = (*_asked_for(entry, limits), micros(ttl_s))
    whom = {"session_id": entry.session_id, "incarnation": entry.incarnation}
    return call_of("reserve", told, _nothing, joint=True, **whom)


def release(incarnation: str, session_id: str, *, token: str) -> ScriptCall[None]:
    """Give a reservation back."""
    return call_of("release", (incarnation, session_id, token), _nothing)


def create(entry: NewEntry, *, limits: IndexLimits) -> ScriptCall[Fence]:
    """Enter a session."""
    arguments.check_entry(entry)
    whom = {"session_id": entry.session_id, "incarnation": entry.incarnation}
    return call_of(
        "create",
        _asked_for(entry, limits),
        lambda answer: int(answer.values[0]),
        joint=True,
        **whom,
    )


def _asked_for(entry: NewEntry, limits: IndexLimits) -> tuple[object, ...]:
    bounds = (limits.per_tenant, limits.per_api_key, limits.per_blueprint)
    limited = (False if bound is None else bound for bound in bounds)
    return (entry.session_id, fields_of(entry), *limited)


def restore(
    incarnation: str, entries: Sequence[IndexEntry], *, complete: bool
) -> ScriptCall[Sequence[Fence]]:
    """Tell again of entries that the engine may have lost."""
    arguments.check_restored(incarnation, entries)
    highest = max((max(one.fence, one.version) for one in entries), default=0)
    told: list[object] = []
    for one in entries:
        told += (one.entry.session_id, fields_of(one.entry, fence=one.fence))
    return call_of(
        "restore",
        (incarnation, highest, complete, *told),
        lambda answer: [int(fence) for fence in answer.values[0]],
        incarnation=incarnation,
    )


def update(
    incarnation: str,
    session_id: str,
    *,
    fence: Fence,
    blueprint: str | EllipsisType | None,
    model: str | EllipsisType | None,
) -> ScriptCall[int | None]:
    """Change an entry; an Ellipsis leaves what is there."""
    told = (incarnation, session_id, str(fence), _changed(blueprint), _changed(model))
    return call_of("update", told, lambda answer: int(answer.values[0]) or None)


def _changed(text: str | EllipsisType | None) -> str | bool | None:
    if isinstance(text, EllipsisType):
        return None
    return False if text is None else text


def end(incarnation: str, ends: Sequence[EntryEnd]) -> ScriptCall[None]:
    """End entries of a node."""
    arguments.check_ends(ends)
    told: list[object] = [incarnation]
    for one in ends:
        reason = json_of_reason(one.reason)
        told += (one.session_id, str(one.fence), reason, str(one.ended_at), one.next_token or False)
    return call_of("end", told, _nothing)


def read(session_id: str) -> ScriptCall[IndexEntry | None]:
    """Ask for the entry of an id."""

    def entry(answer: ScriptAnswer) -> IndexEntry | None:
        (fields,) = answer.values
        return index_entry(session_id, fields) if fields else None

    return call_of("read", (session_id,), entry)


def list_entries(selection: Selection, *, after: Fence, limit: int) -> ScriptCall[EntryPage]:
    """Ask for a page of entries."""
    arguments.check_selection(selection)
    arguments.check_page(limit)
    return call_of("list", (_set_of(selection), after, limit), _page)


def _page(answer: ScriptAnswer) -> EntryPage:
    era, more, partial, told = answer.values
    pairs = zip(told[::2], told[1::2], strict=True)
    entries = tuple(index_entry(session_id, fields) for session_id, fields in pairs)
    return EntryPage(answer.revision, int(era), entries, more=more, partial=partial)


def count(selection: Selection) -> ScriptCall[int]:
    """Ask how many entries there are."""
    arguments.check_selection(selection)
    return call_of("count", (_set_of(selection),), lambda answer: int(answer.values[0]))


def _set_of(selection: Selection) -> str | bool:
    if selection.tenant_id is not None:
        return f"tenant:{selection.tenant_id}"
    if selection.api_key is not None:
        return f"key:{selection.api_key}"
    return False if selection.incarnation is None else f"node:{selection.incarnation}"


def follow(after: int, *, era: int, limit: int) -> ScriptCall[LogPage]:
    """Ask for changes, at once: whoever sends this waits for them elsewhere."""
    arguments.check_page(limit)

    def page(answer: ScriptAnswer) -> LogPage:
        present, gap = answer.values
        changes = changes_in(answer.blobs, after=after, limit=limit)
        return LogPage(int(present), answer.revision, changes, gap=gap)

    return call_of("follow", (after, era, limit), page)


# -- shared besides sessions -----------------------------------------------------------------------


def take(counted: str, *, limit: int, window_s: float) -> ScriptCall[Taken]:
    """Count one. Not asked again: it would count twice."""
    arguments.check_rate(limit, window_s)

    def taken(answer: ScriptAnswer) -> Taken:
        allowed, remaining, reset_us = answer.values
        return Taken(allowed, remaining, seconds(reset_us))

    return call_of("take", (counted, limit, micros(window_s)), taken, again=False)


def claim(incarnation: str, slot: str, *, digest: str, ttl_s: float) -> ScriptCall[Claim]:
    """Claim the answer to a request."""
    arguments.check_duration("ttl_s", ttl_s)
    told = (incarnation, slot, digest, micros(ttl_s))
    return call_of("claim", told, lambda answer: Claim(*answer.values), incarnation=incarnation)


def publish(topic: str, name: str, published: bytes) -> ScriptCall[None]:
    """Put a node's totals of a topic in place of its last ones."""
    arguments.check_totals(published)
    return call_of("publish", (topic, name), _nothing, blob=published)


def totals(topic: str) -> ScriptCall[dict[str, bytes]]:
    """Ask for what was published last of a topic."""

    def by_name(answer: ScriptAnswer) -> dict[str, bytes]:
        told: list[Any] = answer.blobs
        names = (name.decode() for name in told[::2])
        return dict(zip(names, told[1::2], strict=True))

    return call_of("totals", (topic,), by_name)
