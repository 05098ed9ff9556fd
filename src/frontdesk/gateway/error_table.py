"""The one table of errors: whose fault each is, when it is raised, and how a client is answered.

What answers a client (`problems.py`) and the tables in the documents are made from it;
`error_answers.py` has the answers that there are. A new error is its class, in the `errors.py` of
its layer, and a row here; `make format` writes the documents' tables. An error that is not here is
answered as its base class is, and one that no client is meant to see as `internal`, which says
nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import ceil
from types import MappingProxyType
from typing import Any

from frontdesk import errors as library
from frontdesk.agents import errors as agents
from frontdesk.cluster import errors as cluster
from frontdesk.errors import FrontdeskError
from frontdesk.gateway import errors as gateway
from frontdesk.gateway.error_answers import (
    ALREADY_EXISTS,
    ATTACHMENT_REFUSED,
    BAD_REQUEST,
    BUDGET_EXCEEDED,
    CHECKPOINT_REFUSED,
    CONVERSATION_FULL,
    CREATE_FAILED,
    FORBIDDEN,
    GUARDRAIL,
    IDEMPOTENCY_MISMATCH,
    IMPORT_REFUSED,
    INTERNAL,
    LOGIN_UNSAFE,
    NOT_FOUND,
    NOT_RESUMABLE,
    NOT_STORED,
    PROMPT_QUEUE_FULL,
    QUEUE_FULL,
    RATE_LIMITED,
    REGISTRATION_FAILED,
    SESSION_DEAD,
    SESSION_LIMIT,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    ErrorAnswer,
)
from frontdesk.keeper import errors as keeper
from frontdesk.persistence import errors as persistence
from frontdesk.sessions import errors as sessions


class Fault(Enum):
    """Whose fault an error is."""

    CALLER = "the caller's"
    WORLD = "the world's"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """An error: whose fault, when it is raised and what to do (for the documents), its answer.

    `fields` are those of the `Refusal` beyond code and message. `sentence` is what a client is told
    in place of the error's own, where that is for operators.
    """

    fault: Fault
    when: str
    answer: ErrorAnswer
    fields: Callable[[Any], dict[str, Any]] = lambda _: {}
    sentence: str | None = None


def _when_to_retry(error: Any) -> dict[str, Any]:
    return {"retry_after": max(1, ceil(error.retry_after_s))}


_ROWS: dict[type[FrontdeskError], ErrorRow] = {
    # -- The root --------------------------------------------------------------------------------
    library.FrontdeskError: ErrorRow(
        Fault.OURS,
        "The root. Catch it at your outermost edge. `agent` is the agent that the factory of "
        "`get_or_create` had made before the call was refused: it is alive, and yours to end;"
        " else None",
        INTERNAL,
    ),
    # -- The caller's: of the store --------------------------------------------------------------
    library.InvalidArgument: ErrorRow(
        Fault.CALLER,
        "A value that can never be right. Change the call",
        BAD_REQUEST,
    ),
    library.InvalidType: ErrorRow(
        Fault.CALLER,
        "A value of the wrong type. Change the call",
        BAD_REQUEST,
    ),
    library.UnknownAgentKind: ErrorRow(
        Fault.CALLER,
        "No monitor knows this type of agent. Give it `add_exit_callback()`, or the store a "
        "monitor for the type: [how](../how-to/own-monitor.md)",
        BAD_REQUEST,
    ),
    library.AgentNotStarted: ErrorRow(
        Fault.CALLER,
        "A thread or process that was not started yet has no life to watch. Start it first",
        BAD_REQUEST,
    ),
    library.SessionNotFound: ErrorRow(
        Fault.CALLER,
        "No live session has this id. `ended(session_id)` says how the last one ended",
        NOT_FOUND,
    ),
    library.SessionAlreadyExists: ErrorRow(
        Fault.CALLER,
        "A live agent has the id: `holder` is its session, untouched",
        ALREADY_EXISTS,
    ),
    library.SessionLimitExceeded: ErrorRow(
        Fault.CALLER,
        "One more would exceed a limit; `scope` is `total`, `per_tenant` or `per_api_key`. "
        "Come again when a session has ended",
        SESSION_LIMIT,
        fields=lambda error: {"scope": error.scope, "limit": error.limit},
    ),
    library.SessionBusy: ErrorRow(
        Fault.CALLER,
        "Another caller of `get_or_create` is making this session. On an event loop: try "
        "again, or call it in a thread. In a thread: the wait ran into its time-out",
        UNAVAILABLE,
    ),
    library.RecursiveCreate: ErrorRow(
        Fault.CALLER,
        "The factory of `get_or_create` asked for the session that it is making. Change the "
        "factory",
        INTERNAL,
    ),
    library.ReentrantWrite: ErrorRow(
        Fault.CALLER,
        "A signal handler or finalizer interrupted a write of this store and asked for one "
        "that has to answer. Do it later: set a flag, or use `call_soon`",
        INTERNAL,
    ),
    library.StoreClosed: ErrorRow(
        Fault.CALLER,
        "The store was closed, or (`forked`) was inherited by `fork()`: make one in each process",
        UNAVAILABLE,
    ),
    # -- The caller's: of sessions and the gateway -----------------------------------------------
    sessions.SessionDead: ErrorRow(
        Fault.CALLER,
        "The session existed, and its agent ended recently: `reason` says how",
        SESSION_DEAD,
        fields=lambda error: {"reason": error.reason.public_text},
    ),
    sessions.ConversationFull: ErrorRow(
        Fault.CALLER,
        "As much is stored of the conversation as may be. Open another, or fork it from an earlier "
        "turn",
        CONVERSATION_FULL,
    ),
    sessions.NotResumable: ErrorRow(
        Fault.CALLER,
        "No agent can be started for a conversation that is stored: `problem` says why. What it "
        "says can be read; ask the operator",
        NOT_RESUMABLE,
    ),
    sessions.PromptQueueFull: ErrorRow(
        Fault.CALLER,
        "As many prompts wait as may. Wait for a turn to end",
        PROMPT_QUEUE_FULL,
    ),
    sessions.AttachmentRefused: ErrorRow(
        Fault.CALLER,
        "This session's agent does not take an attachment of that type",
        ATTACHMENT_REFUSED,
    ),
    sessions.AttachmentsFull: ErrorRow(
        Fault.CALLER,
        "Attachments of the tenant's prompts take as many bytes as may be. Wait for a turn to end",
        PROMPT_QUEUE_FULL,
    ),
    sessions.SteeringQueueFull: ErrorRow(
        Fault.CALLER,
        "As many steering texts wait as may. Wait until the agent has taken one",
        QUEUE_FULL,
    ),
    sessions.GuardrailRefused: ErrorRow(
        Fault.CALLER,
        "A filter of the operator's refused the text",
        GUARDRAIL,
    ),
    sessions.UnknownCheckpoint: ErrorRow(
        Fault.CALLER,
        "The session has no checkpoint of this name",
        NOT_FOUND,
    ),
    sessions.CheckpointRefused: ErrorRow(
        Fault.CALLER,
        "The end of the last turn cannot have this name: `problem` says why. Take another name",
        CHECKPOINT_REFUSED,
    ),
    sessions.ImportRefused: ErrorRow(
        Fault.CALLER,
        "Lines of an import are wrong: `problems` are their numbers and what is wrong with each. "
        "Nothing was imported",
        IMPORT_REFUSED,
    ),
    sessions.NotStored: ErrorRow(
        Fault.CALLER,
        "The session is ephemeral, or conversations are in memory only: nothing of it can be "
        "copied, or go on without its agent. Ask a stored one",
        NOT_STORED,
    ),
    sessions.OptionRefused: ErrorRow(
        Fault.CALLER,
        "An option that the approval does not offer, or that means the opposite, was chosen",
        BAD_REQUEST,
    ),
    sessions.BudgetExceeded: ErrorRow(
        Fault.CALLER,
        "A budget of the tenant's or the key's is used up. Come again when it begins anew, or ask "
        "the operator",
        BUDGET_EXCEEDED,
        fields=lambda error: {
            "scope": error.scope,
            "limit": error.limit,
            "reason": error.budget,
            "retry_after": error.retry_after_s,
        },
    ),
    sessions.UnknownReference: ErrorRow(
        Fault.CALLER,
        "No approval or question waits under this reference: it never did, it was answered, "
        "or it expired",
        BAD_REQUEST,
    ),
    agents.AgentUnavailable: ErrorRow(
        Fault.WORLD,
        "The machine is out of something that an agent needs: descriptors, memory, processes",
        UNAVAILABLE,
    ),
    agents.CreateFailed: ErrorRow(
        Fault.CALLER,
        "The agent could not be built: unknown model, blueprint or option",
        CREATE_FAILED,
    ),
    agents.ModelRefused: ErrorRow(
        Fault.CALLER,
        "This blueprint cannot, or may not, answer with that model",
        CREATE_FAILED,
    ),
    sessions.ToolRefused: ErrorRow(
        Fault.CALLER,
        "A callback tool could not be attached",
        REGISTRATION_FAILED,
    ),
    agents.UnknownTool: ErrorRow(
        Fault.CALLER,
        "No callback tool of this name is attached to the session",
        NOT_FOUND,
    ),
    agents.TurnOver: ErrorRow(
        Fault.CALLER,
        "An agent went on after its turn had ended. What it does is discarded; let it end",
        INTERNAL,
    ),
    agents.EventTooLarge: ErrorRow(
        Fault.CALLER,
        "An agent emitted an event that is longer than one may be. Emit less, or in pieces",
        BAD_REQUEST,
    ),
    sessions.ReaderTooSlow: ErrorRow(
        Fault.CALLER,
        "A reader fell so far behind that the next event is no longer held. Resume",
        INTERNAL,
    ),
    gateway.Unauthorized: ErrorRow(
        Fault.CALLER,
        "No key, or one that opens nothing here",
        UNAUTHORIZED,
    ),
    gateway.ScopeMissing: ErrorRow(
        Fault.CALLER,
        "The key is good, and lacks `scope`. Ask whoever made it for another one",
        FORBIDDEN,
        fields=lambda error: {"scope": error.scope},
    ),
    gateway.OutsideSession: ErrorRow(
        Fault.CALLER,
        "A session token was shown where no session is named. Use the key that made it",
        FORBIDDEN,
    ),
    gateway.RateLimited: ErrorRow(
        Fault.CALLER,
        "Too much from one key or address. Come again after that many seconds",
        RATE_LIMITED,
        fields=lambda error: {"retry_after": error.retry_after_s},
    ),
    gateway.TooLarge: ErrorRow(
        Fault.CALLER,
        "What was sent is over a limit. Send less",
        TOO_LARGE,
    ),
    gateway.MalformedRequest: ErrorRow(
        Fault.CALLER,
        "A request or message that cannot be understood",
        BAD_REQUEST,
    ),
    gateway.IdempotencyMismatch: ErrorRow(
        Fault.CALLER,
        "An `Idempotency-Key` came again with another body. Take a new one",
        IDEMPOTENCY_MISMATCH,
    ),
    gateway.AddressRefused: ErrorRow(
        Fault.CALLER,
        "A URL that the gateway will not call",
        REGISTRATION_FAILED,
    ),
    gateway.AttachmentNotFetched: ErrorRow(
        Fault.CALLER,
        "What an attachment's URL leads to cannot be taken: the address, the status, the size",
        ATTACHMENT_REFUSED,
    ),
    gateway.LoginUnsafe: ErrorRow(
        Fault.CALLER,
        "Somebody logs in to the dashboard without TLS from another machine. Put TLS in front (and "
        "`server.trusted_proxies`), or use an SSH tunnel to 127.0.0.1",
        LOGIN_UNSAFE,
    ),
    gateway.TextNotForOperators: ErrorRow(
        Fault.CALLER,
        "An operator asked for messages or events of a session. Operators see all but this; "
        "`operators_read_text` in `[server]` allows that too, and the log has each reading",
        FORBIDDEN,
    ),
    gateway.NodeNotFound: ErrorRow(
        Fault.CALLER,
        "No node of the cluster has this name or incarnation. `GET /ops/nodes` lists those that "
        "there are",
        NOT_FOUND,
    ),
    gateway.KeyNotFound: ErrorRow(
        Fault.CALLER,
        "No key has this id. `frontdesk keys list` shows them",
        INTERNAL,
    ),
    gateway.ConfigurationWrong: ErrorRow(
        Fault.CALLER,
        "The configuration cannot be used; `mistakes` lists all that is wrong with it",
        INTERNAL,
    ),
    # -- The world's -----------------------------------------------------------------------------
    library.AgentFactoryFailed: ErrorRow(
        Fault.WORLD,
        "The factory that another caller of `get_or_create` ran failed with `error`. Try "
        "again: the next call runs it anew",
        INTERNAL,
    ),
    library.MonitorFailed: ErrorRow(
        Fault.WORLD,
        "The operating system cannot watch one more, so nothing was registered. Usually "
        "descriptors: raise `ulimit -n`",
        UNAVAILABLE,
    ),
    library.ProcessNotFound: ErrorRow(
        Fault.WORLD,
        "No process has this pid, or has it any more",
        INTERNAL,
    ),
    gateway.IdentityProviderUnavailable: ErrorRow(
        Fault.WORLD,
        "A bearer token names a key that is not known, and the keys of the identity provider "
        "cannot be had (`auth.jwt.keys_url`). The log says why; come again",
        UNAVAILABLE,
    ),
    gateway.StateUnusable: ErrorRow(
        Fault.WORLD,
        "The state directory, or a file in it, cannot be used",
        INTERNAL,
    ),
    library.MissingExtra: ErrorRow(
        Fault.WORLD,
        "An optional part is used whose packages are not installed: `pip install "
        "'frontdesk[<extra>]'`",
        INTERNAL,
    ),
    sessions.Draining: ErrorRow(
        Fault.WORLD,
        "The service is draining: it takes no new sessions and no new prompts. Go elsewhere, "
        "or come later",
        UNAVAILABLE,
    ),
    agents.QuestionExpired: ErrorRow(
        Fault.WORLD,
        "Nobody answered the agent's question in time",
        INTERNAL,
    ),
    agents.TooManyModelCalls: ErrorRow(
        Fault.WORLD,
        "A turn called models more often than `maxTurns` of its session allows; it ends with that",
        INTERNAL,
    ),
    agents.ToolFailed: ErrorRow(
        Fault.WORLD,
        "A callback tool failed, timed out, or answered nonsense",
        INTERNAL,
    ),
    persistence.StorageUnavailable: ErrorRow(
        Fault.WORLD,
        "What conversations are stored in takes nothing now: the disk is full, or the database "
        "cannot be reached; `problem` is for operators. What can be read is read. Come again",
        UNAVAILABLE,
        sentence="the storage of conversations cannot do this now; ask again",
    ),
    persistence.StorageBroken: ErrorRow(
        Fault.WORLD,
        "A sync, a write or a read of stored conversations failed. The process ends, and its next "
        "start finds out what is on the disk",
        INTERNAL,
    ),
    persistence.StorageRefused: ErrorRow(
        Fault.WORLD,
        "What lies where conversations are stored cannot be used: newer, damaged, read-only, "
        "on a network file system, or another gateway's that runs; `problem` says which. Nothing "
        "of it was changed",
        INTERNAL,
    ),
    persistence.ConversationUnreadable: ErrorRow(
        Fault.WORLD,
        "What is stored of a conversation cannot be decrypted: its key is gone or another one",
        NOT_RESUMABLE,
    ),
    cluster.EngineUnavailable: ErrorRow(
        Fault.WORLD,
        "What holds the cluster's index cannot do it now: unreachable, loading, read-only, full. "
        "Nothing was done; `problem` is for operators. Come again",
        UNAVAILABLE,
        fields=_when_to_retry,
        sentence="the cluster cannot do this now; ask again",
    ),
    cluster.EngineRefused: ErrorRow(
        Fault.WORLD,
        "This engine cannot hold a cluster's index: `problem` says which setting or version",
        INTERNAL,
    ),
    cluster.SchemaRefused: ErrorRow(
        Fault.WORLD,
        "The cluster's records are of a schema that this version does not know. Upgrade by one "
        "version at a time",
        INTERNAL,
    ),
    cluster.LeaseLost: ErrorRow(
        Fault.WORLD,
        "The cluster holds this node to be dead: it creates nothing until it has joined anew, "
        "which it does by itself",
        UNAVAILABLE,
        sentence="the cluster cannot do this now; ask again",
    ),
    cluster.OwnerSuspect: ErrorRow(
        Fault.WORLD,
        "The session's node has not been heard of: its ids are not given away before it is known "
        "to be dead. Come again",
        UNAVAILABLE,
        fields=_when_to_retry,
    ),
    cluster.OwnerUnreachable: ErrorRow(
        Fault.WORLD,
        "The session's node does not answer, or says that it cannot. What it was asked for may "
        "have been done. Come again",
        UNAVAILABLE,
        fields=_when_to_retry,
    ),
    cluster.Recovering: ErrorRow(
        Fault.WORLD,
        "The cluster's index was lost and is being rebuilt: a session that is not in it may be "
        "alive. Come again",
        UNAVAILABLE,
        fields=_when_to_retry,
    ),
    gateway.AttachmentUnreachable: ErrorRow(
        Fault.WORLD,
        "The server of an attachment's URL does not answer, or not now",
        UNAVAILABLE,
    ),
    agents.AgentLost: ErrorRow(
        Fault.WORLD,
        "The agent of a session is gone, or cannot be reached any more",
        UNAVAILABLE,
    ),
    agents.AgentFailed: ErrorRow(
        Fault.WORLD,
        "An agent answered a turn with an error, and lives on. `problem` is what it said, for"
        " operators",
        INTERNAL,
    ),
    keeper.SpawnFailed: ErrorRow(
        Fault.WORLD,
        "An agent process never ran; `stage` names the step that failed",
        INTERNAL,
    ),
    keeper.ForkServerFailed: ErrorRow(
        Fault.WORLD,
        "The imports of a blueprint failed in the process that its agents would be forked from",
        INTERNAL,
    ),
    keeper.KeeperLost: ErrorRow(
        Fault.WORLD,
        "The process that keeps the agent processes has ended and could not be replaced",
        UNAVAILABLE,
    ),
    keeper.LimitUnenforceable: ErrorRow(
        Fault.WORLD,
        "A limit was configured that this system cannot hold an agent process to",
        INTERNAL,
    ),
    agents.MessageInvalid: ErrorRow(
        Fault.WORLD,
        "A message to or from an agent's process cannot be sent, or is none",
        INTERNAL,
    ),
}
ERRORS: Mapping[type[FrontdeskError], ErrorRow] = MappingProxyType(_ROWS)
"""Every error of every layer."""


def row_of(error: FrontdeskError) -> ErrorRow:
    """Return the row of an error, or of its nearest base class."""
    return next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
