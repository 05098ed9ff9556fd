"""What people write by hand: a dict with a timeout. And the limit: a bare dict.

`subjects` drives them beside the store. They know nothing of Frontdesk.
"""

from __future__ import annotations

import time
from typing import Any

BareDict = dict[str, Any]
"""The session's id and its agent, and nothing else: no lookup can cost less."""


class DictWithTimeout:
    """Keep sessions in a dict and drop those that nobody asked for in `timeout_s` seconds.

    It is what most programs start with: no lock, no index, and an agent that ended stays findable
    until its time is up. Here at its best: one thread, nothing ever expires.
    """

    def __init__(self, *, timeout_s: float = 3600.0) -> None:
        self._timeout_s = timeout_s
        self._entries: dict[str, dict[str, Any]] = {}

    def create(
        self, session_id: str, agent: object, *, api_key: str, tenant_id: str, model: str
    ) -> dict[str, Any]:
        """Put an entry in, unless the id is taken."""
        if session_id in self._entries:
            raise ValueError(session_id)
        entry = self._entries[session_id] = {
            "agent": agent,
            "api_key": api_key,
            "tenant_id": tenant_id,
            "created_at": time.time(),
            "last_seen": time.monotonic(),
            "blueprint": None,
            "model": model,
        }
        return entry

    def get(self, session_id: str) -> dict[str, Any]:
        """Return the entry and start its time anew."""
        entry = self._entries[session_id]
        now = time.monotonic()
        if now - entry["last_seen"] > self._timeout_s:
            del self._entries[session_id]
            raise KeyError(session_id)
        entry["last_seen"] = now
        return entry

    def delete(self, session_id: str) -> None:
        """Drop an entry."""
        self._entries.pop(session_id, None)

    def list_by_tenant(self, tenant_id: str) -> list[dict[str, Any]]:
        """Return the entries of a tenant: a walk over all of them."""
        return [entry for entry in self._entries.values() if entry["tenant_id"] == tenant_id]

    def sweep(self) -> int:
        """Drop what has expired and return how many: a walk over all of them."""
        oldest = time.monotonic() - self._timeout_s
        gone = [name for name, entry in self._entries.items() if entry["last_seen"] < oldest]
        for name in gone:
            del self._entries[name]
        return len(gone)
