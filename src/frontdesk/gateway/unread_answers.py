"""Answers that were written and are not read yet: bounded for each key.

Beside the server's protocol (`http_protocol.py`), which enters a connection while its client is
behind. Each such connection holds what its client has not read; one alone may hold a whole answer,
many together no more than a bound, beyond which the one that is behind for longest is ended. Before
a key was shown, the client's address stands for it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol


class Unread(Protocol):
    """A connection whose client is behind."""

    @property
    def unread_bytes(self) -> int: ...

    def abort(self) -> None: ...


class UnreadAnswers:
    """Keep the connections whose clients are behind, by owner, longest first."""

    __slots__ = ("_by_owner", "_max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._by_owner: defaultdict[str, dict[Unread, None]] = defaultdict(dict)

    def enter(self, connection: Unread, owner: str) -> None:
        """Take one in; others of its owner are ended where all hold too much. `leave` it."""
        behind = self._by_owner[owner]
        behind[connection] = None
        held = sum(each.unread_bytes for each in behind)
        for each in list(behind):
            if held <= self._max_bytes or each is connection:
                return
            held -= each.unread_bytes
            self.leave(each, owner)
            each.abort()

    def leave(self, connection: Unread, owner: str) -> None:
        """Forget one whose client has caught up or is gone."""
        if owner in self._by_owner:
            self._by_owner[owner].pop(connection, None)
            if not self._by_owner[owner]:
                del self._by_owner[owner]

    def __len__(self) -> int:
        return sum(map(len, self._by_owner.values()))
