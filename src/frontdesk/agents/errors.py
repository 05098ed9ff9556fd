"""What can go wrong while an agent is built and while it answers.

Agents see some of these themselves: `TurnOver`, `QuestionExpired`, `ToolFailed`, `UnknownTool`.
"""

from __future__ import annotations

from frontdesk.errors import FrontdeskError, InvalidArgument
from frontdesk.keeper.errors import SpawnFailed

__all__ = [
    "AgentFailed",
    "AgentLost",
    "AgentUnavailable",
    "CreateFailed",
    "EventTooLarge",
    "MessageInvalid",
    "ModelRefused",
    "QuestionExpired",
    "TooManyModelCalls",
    "ToolFailed",
    "TurnOver",
    "UnknownTool",
]


class AgentUnavailable(FrontdeskError):
    """An agent cannot be started now: the machine is out of something. It may pass."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"no agent can be started now: {problem}")


def start_error(error: SpawnFailed) -> AgentUnavailable | CreateFailed:
    """Return what a client is told of a process that could not be started.

    The text may name paths of this machine: it is for the log.
    """
    if error.may_pass:
        return AgentUnavailable(f"the machine is out of something ({error.stage})")
    return CreateFailed(f"the agent's process could not be started ({error.stage})")


class CreateFailed(FrontdeskError):
    """The agent could not be built; `problem` says why, in a sentence for the client."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class ModelRefused(CreateFailed):
    """This blueprint cannot, or may not, answer with that model."""

    def __init__(self, model: str, *, problem: str) -> None:
        super().__init__(f"model {model[:120]!r}: {problem}")
        self.model = model


class TurnOver(FrontdeskError):
    """The turn has ended: what its agent still does is discarded."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(f"turn {request_id} has ended")


class EventTooLarge(InvalidArgument):
    """An agent emitted an event that is longer than an event may be."""

    event: str
    size: int
    limit: int

    def __init__(self, event: str, *, size: int, limit: int) -> None:
        super().__init__("event", expected=f"at most {limit} bytes long", got=f"{event} of {size}")
        self.event, self.size, self.limit = event, size, limit


class QuestionExpired(FrontdeskError):
    """Nobody answered the agent's question in time."""

    ref: str
    waited_s: float

    def __init__(self, ref: str, *, waited_s: float) -> None:
        self.ref, self.waited_s = ref, waited_s
        super().__init__(f"nobody answered question {ref} within {waited_s:g} s")


class TooManyModelCalls(FrontdeskError):
    """A turn called models more often than its session's `maxTurns` allows."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"a turn of this session has at most {limit} model calls")


class ToolFailed(FrontdeskError):
    """A callback tool failed; `problem` says how, in words that its agent may see."""

    name: str
    problem: str

    def __init__(self, name: str, *, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"tool {name!r} failed: {problem}")


class AgentLost(FrontdeskError):
    """The agent of a session is gone, or cannot be reached any more."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the agent is lost: {problem}")


class AgentFailed(FrontdeskError):
    """An agent that lives on answered a turn with an error; `problem` is what it answered."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class MessageInvalid(FrontdeskError):
    """A message to or from an agent's process cannot be sent, or is none."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class UnknownTool(FrontdeskError, LookupError):
    """No callback tool of this name is attached to the session."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no tool {name[:80]!r} is attached")
