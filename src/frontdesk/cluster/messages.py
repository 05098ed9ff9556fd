"""The records as bytes, in msgpack: strict both ways.

A record is the map of its fields, so that it says what it is. Changes, of which there are many, are
arrays. What does not decode is `msgspec.MsgspecError`; whoever reads bounds the bytes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from frontdesk.cluster.errors import (
    EngineUnavailable,
    LeaseLost,
    OwnerSuspect,
    Recovering,
    SchemaRefused,
)
from frontdesk.cluster.records import LoggedChange, LogPage
from frontdesk.errors import (
    FrontdeskError,
    InvalidArgument,
    SessionAlreadyExists,
    SessionLimitExceeded,
)
from frontdesk.records import Created, Ended, ExitKind, ExitReason, Metadata, Updated

__all__ = ["Raised", "LoggedRow", "PageRow", "encode"]

_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)


def encode(record: object) -> bytes:
    """Return a record, or anything made of records and plain values, as bytes.

    >>> msgspec.msgpack.decode(encode(ExitReason.signalled(9)))["signal"]
    9
    """
    return msgspec.msgpack.encode(record)


class LoggedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A `LoggedChange` as a row: the class of its change is `kind`, the last two are an end's."""

    kind: Literal["created", "updated", "ended"]
    revision: int
    session: Metadata
    incarnation: str
    token: str
    reason: ExitReason | None = None
    ended_at: int = 0

    @classmethod
    def of(cls, logged: LoggedChange) -> LoggedRow:
        """Return the row of a change."""
        change, incarnation, token = logged.change, logged.incarnation, logged.token
        row = (change.kind, change.revision, change.session, incarnation, token)
        if isinstance(change, Ended):
            return cls(*row, change.reason, change.ended_at)
        return cls(*row)

    @property
    def change(self) -> LoggedChange:
        """Return the change itself."""
        if self.kind == "ended":
            reason = self.reason or _UNKNOWN
            ended = Ended(self.revision, self.session, reason, self.ended_at)
            return LoggedChange(ended, self.incarnation, self.token)
        kind = Created if self.kind == "created" else Updated
        return LoggedChange(kind(self.revision, self.session), self.incarnation, self.token)


class PageRow(msgspec.Struct, frozen=True, array_like=True):
    """A `LogPage` with its changes as rows."""

    era: int
    head: int
    gap: bool
    rows: Sequence[LoggedRow]

    @classmethod
    def of(cls, page: LogPage) -> PageRow:
        """Return the rows of a page."""
        return cls(page.era, page.head, page.gap, [LoggedRow.of(one) for one in page.changes])

    @property
    def page(self) -> LogPage:
        """Return the page itself."""
        return LogPage(self.era, self.head, tuple(one.change for one in self.rows), self.gap)


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
