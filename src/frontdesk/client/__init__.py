"""The client: sessions, turns and operations of a gateway, from Python.

    Client, AsyncClient       one gateway, by one key; alike but for `await`
    ClientSession, ...        one session; `prompt` gives a turn
    ClientTurn, ...           its events, its text, its approvals and questions
    ClientOperator, ...       what an operator's key opens

`gateway_calls` says what can be asked (with `call_options`), at which `gateway_address`; `retrying`
what is asked again; `event_parser` and `event_stream` what becomes of a stream that is cut. None of
them opens a connection, nor does `both_clients`, which has what both are: `sync_transport` and
`async_transport` do, and nothing else.
"""

from __future__ import annotations

try:
    import httpx2 as _httpx2  # noqa: F401 - asked for here, so that the error names the extra
    import msgspec as _msgspec  # noqa: F401
except ImportError as _missing:
    from frontdesk.errors import MissingExtra

    raise MissingExtra(
        "client", part="frontdesk.client", missing=_missing.name or "httpx2"
    ) from _missing

from frontdesk.agents.events import (
    AgentAbort,
    AgentEnd,
    AgentRestarted,
    AgentStart,
    ApprovalRequired,
    ApprovalResolved,
    AskUser,
    Error,
    Event,
    Gap,
    MessageDelta,
    MessageStart,
    ModelSwitched,
    OptionChanged,
    OutOfTurn,
    PromptReceived,
    SessionEnd,
    Steering,
    ThinkingDelta,
    ThinkingStart,
    ToolAttached,
    ToolCalls,
    ToolDetached,
    ToolExecutionEnd,
    ToolExecutionStart,
)
from frontdesk.agents.records import Approval, Message
from frontdesk.client import errors as _errors
from frontdesk.client.async_client import AsyncClient
from frontdesk.client.async_operator import AsyncClientOperator
from frontdesk.client.async_session import AsyncClientSession, AsyncClientTurn
from frontdesk.client.async_transport import AsyncStream
from frontdesk.client.call_options import (
    ApprovalAnswer,
    FileToAttach,
    ForkOptions,
    OnApproval,
    OnApprovalAsync,
    OnQuestion,
    OnQuestionAsync,
    OperatorFilter,
    OperatorPage,
    RowFilter,
    SessionOptions,
    SessionsFilter,
    SortOrder,
    ToolOptions,
    UsageFilter,
)
from frontdesk.client.errors import *  # noqa: F403 - each is public
from frontdesk.client.event_stream import FeedEvent, StreamEvent, UnknownEvent
from frontdesk.client.sync_client import Client
from frontdesk.client.sync_operator import ClientOperator
from frontdesk.client.sync_session import ClientSession, ClientTurn
from frontdesk.schemas.answer_schemas import (
    BlueprintList,
    ModelList,
    NamedCheckpoint,
    SessionList,
    SessionStats,
    SessionStatus,
    SessionSummary,
    SessionToken,
)
from frontdesk.schemas.operator_schemas import (
    GatewayStatus,
    Health,
    ListedNode,
    ListedNodes,
)
from frontdesk.schemas.row_schemas import (
    EndedSessions,
    HostedSessionDetail,
    HostedSessions,
    Hour,
    NodesNow,
    Now,
    RowChanges,
    SessionRow,
    SnapshotPage,
    TooManyRows,
)
from frontdesk.schemas.usage_schemas import OperatorUsage, UsageReport

__all__ = [
    "Client",
    "AsyncClient",
    "ClientSession",
    "AsyncClientSession",
    "ClientTurn",
    "AsyncClientTurn",
    "ClientOperator",
    "AsyncClientOperator",
    "AsyncStream",
    # what calls take
    "SessionOptions",
    "ForkOptions",
    "SessionsFilter",
    "FileToAttach",
    "ToolOptions",
    "RowFilter",
    "OperatorFilter",
    "OperatorPage",
    "SortOrder",
    "UsageFilter",
    "OnApproval",
    "OnApprovalAsync",
    "ApprovalAnswer",
    "Approval",
    "OnQuestion",
    "OnQuestionAsync",
    # events
    "StreamEvent",
    "Event",
    "Gap",
    "UnknownEvent",
    "PromptReceived",
    "AgentStart",
    "MessageStart",
    "MessageDelta",
    "ThinkingStart",
    "ThinkingDelta",
    "ToolCalls",
    "ToolExecutionStart",
    "ToolExecutionEnd",
    "ApprovalRequired",
    "ApprovalResolved",
    "AskUser",
    "Error",
    "AgentAbort",
    "AgentEnd",
    "ModelSwitched",
    "OptionChanged",
    "Steering",
    "ToolAttached",
    "ToolDetached",
    "AgentRestarted",
    "OutOfTurn",
    "SessionEnd",
    # what comes back
    "SessionSummary",
    "SessionList",
    "SessionStatus",
    "SessionStats",
    "SessionToken",
    "NamedCheckpoint",
    "Message",
    "BlueprintList",
    "ModelList",
    "Health",
    "GatewayStatus",
    "HostedSessions",
    "HostedSessionDetail",
    "ListedNode",
    "ListedNodes",
    "EndedSessions",
    "OperatorUsage",
    "UsageReport",
    # what a feed tells
    "FeedEvent",
    "SnapshotPage",
    "RowChanges",
    "SessionRow",
    "TooManyRows",
    "Hour",
    "NodesNow",
    "Now",
]
__all__ += _errors.__all__
