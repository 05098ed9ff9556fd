"""The records as bytes, in msgpack: strict both ways.

A record is the map of its fields, so that it says what it is. Changes, of which there are many, are
arrays. What does not decode is `msgspec.MsgspecError`; whoever reads bounds the bytes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import msgspec

from frontdesk.cluster.errors import (
    EngineUnavailable,
    LeaseLost,
    OwnerSuspect,
    Recovering,
    SchemaRefused,
)
from frontdesk.cluster.records import IndexEntry, LoggedChange, LogPage
from frontdesk.errors import (
    FrontdeskError,
    InvalidArgument,
    SessionAlreadyExists,
    SessionLimitExceeded,
)
from frontdesk.records import (
    Change,
    Created,
    Ended,
    ExitKind,
    ExitReason,
    Fence,
    Metadata,
    Updated,
)

__all__ = ["LoggedRow", "LoggedRows", "PageRow", "Raised", "encode", "rows_of"]


def encode(record: object) -> bytes:
    """Return a record, or anything made of records and plain values, as bytes.

    >>> msgspec.msgpack.decode(encode(ExitReason.signalled(9)))["signal"]
    9
    """
    return msgspec.msgpack.encode(record)


_PLAIN = {kind: ExitReason.of(kind) for kind in ExitKind} | {
    None: ExitReason.of(ExitKind.UNKNOWN),
}
"""What a kind alone stands for."""

_NO_MORE = (None, None, None)
"""Of a reason that is its kind and no more: neither an error, nor a signal, nor a code."""


def _shortest(reason: ExitReason | None) -> ExitKind | ExitReason | None:
    """Return a reason as its kind, where that says all."""
    if reason is not None and (reason.error, reason.signal, reason.code) == _NO_MORE:
        return reason.kind
    return reason


class LoggedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A `LoggedChange` as one flat row: made, sent and read in a fraction of what records cost.

    `kind` is the class of its change, the last three are an end's. A reason that is its kind and
    no more is written as that.
    """

    kind: Literal["created", "updated", "ended"]
    revision: int
    fence: Fence
    session_id: str
    incarnation: str
    token: str
    tenant_id: str
    api_key: str | None
    created_at: int
    blueprint: str | None
    model: str | None
    pid: int
    reason: ExitKind | ExitReason | None = None
    ended_at: int = 0
    node_gone: bool = False

    @classmethod
    def of(
        cls,
        kind: Literal["created", "updated", "ended"],
        revision: int,
        changed: IndexEntry,
        reason: ExitReason | None = None,
        ended_at: int = 0,
        *,
        node_gone: bool = False,
    ) -> LoggedRow:
        """Return the row of what happened to an entry, as it was after it."""
        return cls._of(kind, revision, changed, _shortest(reason), ended_at, node_gone)

    @classmethod
    def of_ends(
        cls, after: int, ended: Sequence[IndexEntry], reason: ExitReason, ended_at: int
    ) -> list[LoggedRow]:
        """Return the rows of entries that ended with their node, in turn after a revision."""
        shortest = _shortest(reason)
        return [
            cls._of("ended", revision, one, shortest, ended_at, True)
            for revision, one in enumerate(ended, start=after + 1)
        ]

    @classmethod
    def _of(
        cls,
        kind: Literal["created", "updated", "ended"],
        revision: int,
        changed: IndexEntry,
        shortest: ExitKind | ExitReason | None,
        ended_at: int,
        node_gone: bool,
    ) -> LoggedRow:
        entry = changed.entry
        return cls(
            kind,
            revision,
            changed.fence,
            entry.session_id,
            entry.incarnation,
            entry.token,
            entry.tenant_id,
            entry.api_key,
            entry.created_at,
            entry.blueprint,
            entry.model,
            entry.pid,
            shortest,
            ended_at,
            node_gone,
        )

    @classmethod
    def of_change(cls, logged: LoggedChange) -> LoggedRow:
        """Return the row of a change that did not come as one."""
        change, session = logged.change, logged.change.session
        ended = change if isinstance(change, Ended) else None
        return cls(
            "ended" if ended else "created" if isinstance(change, Created) else "updated",
            change.revision,
            session.fence,
            session.session_id,
            logged.incarnation,
            logged.token,
            session.tenant_id,
            session.api_key,
            session.created_at,
            session.blueprint,
            session.model,
            session.pid,
            None if ended is None else ended.reason,
            0 if ended is None else ended.ended_at,
            logged.node_gone,
        )

    @property
    def change(self) -> Change:
        """Return what happened, as a watch tells it."""
        session = Metadata(
            self.session_id,
            self.pid,
            self.api_key,
            self.tenant_id,
            self.created_at,
            self.blueprint,
            self.model,
            self.fence,
        )
        if self.kind == "created":
            return Created(self.revision, session)
        if self.kind == "updated":
            return Updated(self.revision, session)
        reason = self.reason
        reason = reason if isinstance(reason, ExitReason) else _PLAIN[reason]
        return Ended(self.revision, session, reason, self.ended_at)

    @property
    def logged(self) -> LoggedChange:
        """Return the change, and whose session it was about."""
        return LoggedChange(self.change, self.incarnation, self.token, self.node_gone)


class LoggedRows(Sequence[LoggedChange]):
    """Changes that came as rows, each made when somebody asks for it.

    Of ten thousand ends of a dead node a reader looks at the ids, and at one or two of the rest.

    Attributes:
        rows (Sequence[LoggedRow]): As they came.
    """

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[LoggedRow]) -> None:
        self.rows: Sequence[LoggedRow] = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> LoggedChange: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[LoggedChange]: ...
    def __getitem__(self, place: int | slice) -> LoggedChange | Sequence[LoggedChange]:
        if isinstance(place, slice):
            return LoggedRows(self.rows[place])
        return self.rows[place].logged

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def rows_of(changes: Sequence[LoggedChange]) -> Sequence[LoggedRow]:
    """Return changes as rows, at no cost where they came so."""
    if isinstance(changes, LoggedRows):
        return changes.rows
    return [LoggedRow.of_change(one) for one in changes]


class PageRow(msgspec.Struct, frozen=True, array_like=True):
    """A `LogPage` with its changes as rows."""

    era: int
    head: int
    rows: Sequence[LoggedRow] = ()
    gap: bool = False

    @property
    def page(self) -> LogPage:
        """Return the page itself."""
        return LogPage(self.era, self.head, LoggedRows(self.rows), self.gap)


_RAISED: dict[str, type[FrontdeskError]] = {
    kind.__name__: kind
    for kind in (
        EngineUnavailable,
        InvalidArgument,
        LeaseLost,
        OwnerSuspect,
        Recovering,
        SchemaRefused,
        SessionAlreadyExists,
        SessionLimitExceeded,
    )
}
"""What a verb may raise. The facts of each are called as its parameters are."""


class Raised(msgspec.Struct, frozen=True, array_like=True):
    """An error that a verb raised, with its facts."""

    kind: str
    attributes: dict[str, str | int | float | tuple[int, ...] | Metadata | None]

    @classmethod
    def of(cls, error: FrontdeskError) -> Raised:
        """Return the facts of an error."""
        return cls(type(error).__name__, dict(error.__dict__))

    @property
    def error(self) -> FrontdeskError:
        """Return the error itself."""
        raised: Any = _RAISED.get(self.kind)
        if raised is None:
            return EngineUnavailable(f"it answered with {self.kind[:80]!r}")
        error: FrontdeskError = raised(**self.attributes)
        return error
