"""Rows that have changed together, and what has rows that change: this process, and other nodes.

Readers follow every source with a cursor of their own, and know nothing else of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from frontdesk.feed import Ring
from frontdesk.schemas.row_schemas import GoneRow, Minute, SessionRow

PERIOD_S = 0.25
"""A row is sent at most four times a second."""
CAPACITY = 4096
"""So many changes of a source are held while somebody reads."""


class ChangedRows:
    """Rows as they are now, and rows that have gone, by whose they are.

    Where both name one session, what has gone was before: another session has that id by now.
    """

    __slots__ = ("_by_tenant",)

    def __init__(self, changed: Iterable[SessionRow], gone: Iterable[GoneRow]) -> None:
        self._by_tenant: dict[str, tuple[list[GoneRow], list[SessionRow]]] = {}
        for each in gone:
            self._by_tenant.setdefault(each.tenant_id, ([], []))[0].append(each)
        for row in changed:
            self._by_tenant.setdefault(row.tenant_id, ([], []))[1].append(row)

    def of(self, tenant_id: str | None) -> Iterator[tuple[list[GoneRow], list[SessionRow]]]:
        """Give what has gone and what has changed of a tenant; None is all tenants."""
        if tenant_id is None:
            yield from self._by_tenant.values()
        elif tenant_id in self._by_tenant:
            yield self._by_tenant[tenant_id]


RowKey = tuple[str, str]


class NewestRows:
    """Several changes one after the other, as one: each row as it is at last, and all ends."""

    __slots__ = ("gone", "rows")

    def __init__(self) -> None:
        self.rows: dict[RowKey, SessionRow] = {}
        self.gone: list[GoneRow] = []

    def add(self, changed: ChangedRows, tenant_id: str | None) -> None:
        """Add what has changed of a tenant, or of all, after what was added before."""
        for gone, rows in changed.of(tenant_id):
            for end in gone:
                known = self.rows.get((end.tenant_id, end.session_id))
                if known is not None and known.fence == end.fence:
                    del self.rows[end.tenant_id, end.session_id]
            self.gone += gone
            self.rows.update((key_of(row), row) for row in rows)

    def join(self, other: NewestRows) -> None:
        """Add what another source says. Of an id on both, the session that was opened last counts.

        The other one has gone, which its source is yet to say. Of one session on both, that which
        is dormant was there before.
        """
        self.gone += other.gone
        for key, row in other.rows.items():
            known = self.rows.get(key)
            if known is None or _order(row) >= _order(known):
                self.rows[key] = row


def _order(row: SessionRow) -> tuple[int, bool]:
    return row.created_at, row.state != "dormant"


def key_of(row: SessionRow) -> RowKey:
    """Return what names a row."""
    return row.tenant_id, row.session_id


class RowSource(Protocol):
    """What has rows: this process, or another node, as this one last heard of it."""

    @property
    def run(self) -> str:
        """Name one life of the process: positions are of it."""
        ...

    @property
    def ring(self) -> Ring[ChangedRows]:
        """What has changed, numbered; by which a reader says how far it has come."""
        ...

    @property
    def suspect(self) -> bool:
        """Whether it does not say how it is doing: its rows are the last that it had."""
        ...

    @property
    def over(self) -> bool:
        """Whether it is dead: what it had has gone, and nothing more comes."""
        ...

    def rows(self, tenant_id: str | None) -> Iterator[SessionRow]:
        """Give the rows of a tenant, or of all, each as it is when its turn comes."""
        ...

    def count(self, tenant_id: str | None) -> int:
        """Return about how many rows a tenant has, or all have together."""
        ...

    def minutes(self, tenant_id: str | None, *, since_ms: int) -> Sequence[Minute]:
        """Return what began and ended in each minute that was not over at a moment."""
        ...
