"""What lists that follow say: sessions as rows, how they ended, the last hour.

None of it is text of anybody's: no prompt, no message, no argument of a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from frontdesk.agents.records import State
from frontdesk.schemas.answer_schemas import Answer
from frontdesk.schemas.operator_schemas import ListedNode

RowState = State | Literal["dormant", "stopping", "suspect"]


class SessionRow(Answer, frozen=True, kw_only=True, gc=False):
    """A session that lives or is dormant. Times are wall clock, in milliseconds.

    Nothing in it can point back at it: thousands of them are no work for the garbage collector.
    `state` is `dormant` where it is stored and has no agent, `stopping` while it ends, `suspect`
    where its node does not say how it is doing.
    """

    tenant_id: str
    session_id: str
    fence: Annotated[str, msgspec.Meta(description="tells two sessions of one id apart")]
    state: RowState
    created_at: int
    last_activity_at: int
    blueprint: str
    model: str
    turns: int
    tokens: int
    cost_usd: float
    approvals: Annotated[int, msgspec.Meta(description="tools that wait for an approval")]
    questions: Annotated[int, msgspec.Meta(description="questions that wait for an answer")]
    key_id: str | None
    node: str


class HostedSession(SessionRow, frozen=True, kw_only=True):
    """A session, and the process that its agent runs in, null for a task or where it has none."""

    pid: int | None


class HostedSessions(Answer, frozen=True, kw_only=True):
    """A page of live sessions, and of dormant ones that are in memory.

    `next` is what `after` continues with, null on the last page.

    `partial` where some node of several did not say which it has.
    """

    sessions: tuple[HostedSession, ...]
    next: str | None
    partial: bool


class HostedSessionDetail(HostedSession, frozen=True, kw_only=True):
    """A session as operators see it: what it waits for by its tools' names, without texts."""

    restarts: int
    queued: Annotated[int, msgspec.Meta(description="prompts that wait")]
    running_tools: tuple[str, ...]
    waiting_tools: Annotated[
        tuple[str, ...], msgspec.Meta(description="tools that wait for an approval")
    ]


class GoneRow(Answer, frozen=True, kw_only=True, gc=False):
    """A session that has ended."""

    tenant_id: str
    session_id: str
    fence: str
    reason: str
    at: int


class LeftRow(Answer, frozen=True, kw_only=True, gc=False):
    """A session that lives on and matches the filter no more."""

    tenant_id: str
    session_id: str
    fence: str


class EndedSession(GoneRow, frozen=True, kw_only=True):
    """How a session ended, and what it was. `logId` stands in the log's line of its end."""

    age_ms: int
    turns: int
    tokens: int
    cost_usd: float
    blueprint: str
    model: str
    key_id: str | None
    node: str
    log_id: str


class EndedSessions(Answer, frozen=True, kw_only=True):
    """The last 1,000 ends, the newest first. `partial` where some node of several did not say."""

    ends: tuple[EndedSession, ...]
    partial: bool


class Minute(Answer, frozen=True, kw_only=True):
    """What began and ended in a minute, the ends by the kind of their reason.

    Those that were `lost` with their node and are stored are dormant since.
    """

    at: Annotated[int, msgspec.Meta(description="when it began, in milliseconds")]
    starts: int
    ends: dict[str, int]


class SnapshotPage(Answer, frozen=True, kw_only=True):
    """A page of all rows: they replace what was known once the last page is there."""

    rows: tuple[SessionRow, ...]
    first: bool
    last: bool
    total: int


class RowChanges(Answer, frozen=True, kw_only=True):
    """Rows as they are now, those that have gone, and those that match no more."""

    changed: tuple[SessionRow, ...]
    gone: tuple[GoneRow, ...]
    left: tuple[LeftRow, ...]


class TooManyRows(Answer, frozen=True, kw_only=True):
    """More sessions match than are listed: how many there are of each kind."""

    total: int
    by_state: dict[str, int]
    by_tenant: dict[str, int]
    by_blueprint: dict[str, int]


class Hour(Answer, frozen=True, kw_only=True):
    """What began and ended, minute by minute: the whole last hour first, then what changed."""

    minutes: tuple[Minute, ...]


class NodesNow(Answer, frozen=True, kw_only=True):
    """The nodes of the cluster, to operators each by itself, and who of them does not answer.

    To tenants, how many there are, and whether all say how their sessions are doing.
    """

    nodes: tuple[ListedNode, ...]
    silent: Annotated[tuple[str, ...], msgspec.Meta(description="nodes that do not answer")]
    count: int
    partial: bool


class Now(Answer, frozen=True, kw_only=True):
    """The gateway's clock: a sign of life, and what ages are counted by."""

    at: int


FEED_EVENTS: Mapping[str, type[Answer]] = MappingProxyType(
    {
        "now": Now,
        "snapshot": SnapshotPage,
        "too_many": TooManyRows,
        "rows": RowChanges,
        "nodes": NodesNow,
        "hour": Hour,
    }
)
"""What a feed says, by the name of its events."""
