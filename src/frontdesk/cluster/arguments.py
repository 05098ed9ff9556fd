"""What every engine refuses before it asks: `InvalidArgument`, and nothing was done."""

from __future__ import annotations

import re
from collections.abc import Sequence

from frontdesk.cluster.records import BURY_BATCH, EntryEnd, IndexEntry, NewEntry, Selection
from frontdesk.errors import InvalidArgument

__all__ = [
    "MAX_DURATION_S",
    "MAX_PAGE",
    "MAX_TAKEN",
    "MAX_TOTALS_BYTES",
    "check_duration",
    "check_ends",
    "check_entry",
    "check_page",
    "check_rate",
    "check_restored",
    "check_selection",
    "check_token",
    "check_totals",
]

MAX_PAGE = 1000
"""So many entries or changes a page has at most."""

MAX_DURATION_S = 7 * 86_400.0
"""So long a reservation, a claim or a window lasts at most."""

MAX_TAKEN = 1_000_000
"""The highest limit of a rate: a window holds as many times."""

MAX_TOTALS_BYTES = 512 * 1024
"""So large a node's totals are at most."""


def check_duration(name: str, duration_s: float) -> None:
    """Check how long something is to last."""
    if not 0 < duration_s <= MAX_DURATION_S:
        expected = f"above 0 and at most {MAX_DURATION_S:.0f} seconds"
        raise InvalidArgument(name, expected=expected, got=f"{duration_s:g}")


def check_page(limit: int) -> None:
    """Check how much a page is to have."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidArgument("limit", expected=f"1 to {MAX_PAGE}", got=str(limit))


def check_entry(entry: NewEntry) -> None:
    """Check what a session is entered with, as far as an engine reckons with it."""
    check_token("token", entry.token)


def check_token(name: str, token: str) -> None:
    """Check a token: all of a node's are exclusive-ored."""
    if re.fullmatch("[0-9a-f]{16}", token) is None:
        raise InvalidArgument(name, expected="16 hex digits", got=repr(token)[:80])


def check_selection(selection: Selection) -> None:
    """Check that entries are selected by one thing at most."""
    chosen = (selection.tenant_id, selection.api_key, selection.incarnation)
    if sum(one is not None for one in chosen) > 1:
        expected = "by a tenant, a key or a node, or by none of them"
        raise InvalidArgument("selection", expected=expected, got="several")


def check_restored(incarnation: str, entries: Sequence[IndexEntry]) -> None:
    """Check that these are a batch of a node's own entries, each of another id."""
    ids = {one.entry.session_id for one in entries}
    if len(entries) > BURY_BATCH or len(ids) < len(entries):
        expected = f"at most {BURY_BATCH}, each of another session"
        raise InvalidArgument("entries", expected=expected, got=f"{len(entries)} of {len(ids)}")
    for one in entries:
        check_entry(one.entry)
        if one.entry.incarnation != incarnation:
            expected = f"of node {incarnation}"
            raise InvalidArgument("entries", expected=expected, got=one.entry.incarnation)


def check_ends(ends: Sequence[EntryEnd]) -> None:
    """Check that these are a batch of ends, with tokens that a reservation can be held under."""
    if len(ends) > BURY_BATCH:
        raise InvalidArgument("ends", expected=f"at most {BURY_BATCH}", got=str(len(ends)))
    for end in ends:
        if end.next_token is not None:
            check_token("next_token", end.next_token)


def check_rate(limit: int, window_s: float) -> None:
    """Check what a rate is limited to."""
    if not 1 <= limit <= MAX_TAKEN:
        raise InvalidArgument("limit", expected=f"1 to {MAX_TAKEN}", got=str(limit))
    check_duration("window_s", window_s)


def check_totals(totals: bytes) -> None:
    """Check what a node publishes."""
    if len(totals) > MAX_TOTALS_BYTES:
        expected = f"at most {MAX_TOTALS_BYTES} bytes"
        raise InvalidArgument("totals", expected=expected, got=f"{len(totals)} bytes")
