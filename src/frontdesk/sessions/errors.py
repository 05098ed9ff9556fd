"""What a session cannot be asked to do, and why: refusals, full queues, dead sessions.

Each error carries its facts as attributes and writes its own message from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from frontdesk.errors import FrontdeskError, SessionNotFound

__all__ = [
    "AttachmentRefused",
    "AttachmentsFull",
    "BudgetExceeded",
    "CheckpointRefused",
    "ConversationFull",
    "Draining",
    "GuardrailRefused",
    "ImportRefused",
    "NotResumable",
    "NotStored",
    "OptionRefused",
    "PromptQueueFull",
    "ReaderTooSlow",
    "SessionDead",
    "SteeringQueueFull",
    "ToolRefused",
    "UnknownCheckpoint",
    "UnknownReference",
]


class SessionDead(SessionNotFound):
    """The session existed and its agent ended recently; `reason` is its `ExitReason`."""

    def __init__(self, session_id: str, *, reason: Any) -> None:
        super().__init__(session_id)
        self.reason = reason

    def __str__(self) -> str:
        return f"session {self.session_id!r} has ended: {self.reason.kind}"


class NotResumable(FrontdeskError):
    """No agent can be started for a conversation that is stored; `problem` says why not."""

    session_id: str
    problem: str

    def __init__(self, session_id: str, *, problem: str) -> None:
        self.session_id, self.problem = session_id, problem
        super().__init__(f"session {session_id!r} cannot be resumed: {problem}")


class PromptQueueFull(FrontdeskError):
    """As many prompts wait in this session as may."""

    session_id: str
    limit: int

    def __init__(self, session_id: str, *, limit: int) -> None:
        self.session_id, self.limit = session_id, limit
        super().__init__(f"{limit} prompts wait already in session {session_id!r}")


class AttachmentRefused(FrontdeskError):
    """An attachment that this session's agent does not take; `problem` says why."""

    media_type: str
    problem: str

    def __init__(self, media_type: str, *, problem: str) -> None:
        self.media_type, self.problem = media_type, problem
        super().__init__(f"attachment of type {media_type[:80]!r}: {problem}")


class AttachmentsFull(FrontdeskError):
    """The attachments of a tenant's prompts that wait, or run, take as many bytes as they may."""

    limit: int

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        super().__init__(f"attachments of prompts that wait or run take {limit} bytes at most")


class SteeringQueueFull(FrontdeskError):
    """As many steering texts wait in this session as may."""

    session_id: str
    limit: int

    def __init__(self, session_id: str, *, limit: int) -> None:
        self.session_id, self.limit = session_id, limit
        super().__init__(f"{limit} steering texts wait already in session {session_id!r}")


class GuardrailRefused(FrontdeskError):
    """A filter refused a text; `why` is the filter's own sentence."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the text was refused: {why}")


class BudgetExceeded(FrontdeskError):
    """A budget is used up. `budget` names it, `limit` is in tokens or USD.

    `scope` is whose it is: `per_tenant` or `per_api_key`; it begins again in `retry_after_s`.
    """

    budget: str
    scope: str
    limit: float

    def __init__(self, budget: str, *, scope: str, limit: float, retry_after_s: int) -> None:
        self.budget, self.scope, self.limit = budget, scope, limit
        self.retry_after_s = retry_after_s
        whose = "tenant" if scope == "per_tenant" else "key"
        super().__init__(
            f"the budget {budget} of {limit:,g} is used up for this {whose}; "
            f"it begins again in {retry_after_s} s"
        )


class UnknownReference(FrontdeskError, LookupError):
    """No approval or question waits under this reference: it never did, or it was answered."""

    name: str
    reference: str

    def __init__(self, name: str, *, reference: str) -> None:
        self.name, self.reference = name, reference
        super().__init__(f"{name} {reference[:80]!r} waits for no answer")


class OptionRefused(FrontdeskError):
    """An option of an approval could not be chosen: it is not offered, or means the opposite."""

    option_id: str
    problem: str

    def __init__(self, option_id: str, *, problem: str) -> None:
        self.option_id, self.problem = option_id, problem
        super().__init__(f"optionId {option_id[:80]!r} {problem}")


class NotStored(FrontdeskError):
    """A session that is in memory only was asked for what needs one that is stored."""

    session_id: str

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"session {session_id!r} is not stored")


class UnknownCheckpoint(FrontdeskError, LookupError):
    """The session has no checkpoint of this name."""

    name: str

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no checkpoint {name[:80]!r}")


class CheckpointRefused(FrontdeskError):
    """The end of the last turn cannot have this name; `problem` says why."""

    name: str
    problem: str

    def __init__(self, name: str, *, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"checkpoint {name[:80]!r}: {problem}")


class ImportRefused(FrontdeskError):
    """Lines that cannot be imported: `problems` are their numbers, from 1, and what is wrong."""

    problems: tuple[tuple[int, str], ...]

    def __init__(self, *, problems: Iterable[tuple[int, str]]) -> None:
        self.problems = tuple(problems)
        told = "; ".join(f"line {line}: {problem[:200]}" for line, problem in self.problems)
        super().__init__(f"nothing was imported: {told or 'there is no line'}")


class ToolRefused(FrontdeskError):
    """A callback tool could not be attached."""

    name: str
    problem: str

    def __init__(self, name: str, *, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"tool {name[:80]!r} {problem}")


class ReaderTooSlow(FrontdeskError):
    """A reader fell so far behind that the next event is no longer held; it may resume."""

    next_index: int
    oldest: int

    def __init__(self, *, next_index: int, oldest: int) -> None:
        self.next_index, self.oldest = next_index, oldest
        super().__init__(f"event {next_index} is no longer held, the oldest is {oldest}")


class ConversationFull(FrontdeskError):
    """As much is stored of the session as may be, without its oldest events already."""

    session_id: str
    max_bytes: int

    def __init__(self, session_id: str, *, max_bytes: int) -> None:
        self.session_id, self.max_bytes = session_id, max_bytes
        super().__init__(f"session {session_id!r} takes {max_bytes} bytes, which is all it may")


class Draining(FrontdeskError):
    """The service is draining: it takes no new sessions and no new prompts."""

    def __init__(self) -> None:
        super().__init__("draining: no new sessions or prompts are taken")
