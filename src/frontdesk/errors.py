"""Every error of Frontdesk, one root.

The lowest layer: it imports nothing of ours, and everything above raises from here. Each error
carries its facts as attributes and writes its own message from them, so that no call site words
an error. They are sorted by whose fault it is: the caller's, the world's, ours.
"""

from __future__ import annotations

import errno
from typing import Any


class FrontdeskError(Exception):
    """The root of all errors that Frontdesk raises.

    `agent` is the agent that the factory of `get_or_create` had made before the call was refused:
    it is alive, and the caller's to end. None everywhere else.
    """

    agent: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state, so that an error with keyword facts survives a process boundary."""
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(
    kind: type[FrontdeskError], args: tuple[Any, ...], facts: dict[str, Any]
) -> FrontdeskError:
    error = kind.__new__(kind)
    error.args = args
    if isinstance(error, OSError):
        OSError.__init__(error, *args)  # errno and strerror are not in the dictionary
    error.__dict__.update(facts)
    return error


# -- the caller's ------------------------------------------------------------------------------


class InvalidArgument(FrontdeskError, ValueError):
    """A value that can never be right: wrong range, wrong characters, wrong state."""

    def __init__(self, name: str, *, expected: str, got: str) -> None:
        self.name, self.expected, self.got = name, expected, got
        super().__init__(f"{name} must be {expected}, got {got}")


class InvalidType(FrontdeskError, TypeError):
    """A value of the wrong type."""

    def __init__(self, name: str, *, expected: str, got: str) -> None:
        self.name, self.expected, self.got = name, expected, got
        super().__init__(f"{name} must be {expected}, got {got}")


class UnknownAgentKind(InvalidType):
    """No monitor knows this type of agent."""

    def __init__(self, got: str) -> None:
        super().__init__(
            "agent",
            expected="a task, future, started thread, started process, ProcessRef, an object with "
            "add_exit_callback(), or a type with a monitor of yours in SessionStore(monitors=...)",
            got=got,
        )


class AgentNotStarted(InvalidArgument):
    """A thread or process that was not started yet has no life to watch."""

    def __init__(self, got: str) -> None:
        super().__init__("agent", expected="started before it is registered", got=got)


class SessionNotFound(FrontdeskError, KeyError):
    """No live session has this id."""

    def __init__(self, session_id: object) -> None:
        self.session_id = session_id
        super().__init__(session_id)

    def __str__(self) -> str:
        return f"no session {self.session_id!r}"


class SessionAlreadyExists(FrontdeskError, ValueError):
    """A live agent holds the id. `holder` is its `Session`, untouched."""

    def __init__(self, session_id: str, *, holder: Any) -> None:
        self.session_id, self.holder = session_id, holder
        super().__init__(f"session {session_id!r} already exists")


class SessionLimitExceeded(FrontdeskError):
    """One more session would exceed a limit. `scope` is `total`, `per_tenant` or `per_api_key`."""

    def __init__(self, *, scope: str, limit: int) -> None:
        self.scope, self.limit = scope, limit
        super().__init__(f"the limit of {limit} live sessions ({scope}) is reached")


class SessionBusy(FrontdeskError):
    """Another caller is creating this session right now; try again.

    Raised by `get_or_create` where waiting would block a running event loop, and where the wait
    ran into its time-out (`waited_s` says how long it was).
    """

    def __init__(self, session_id: str, *, waited_s: float) -> None:
        self.session_id, self.waited_s = session_id, waited_s
        super().__init__(f"session {session_id!r} is being created; waited {waited_s:g} s")


class RecursiveCreate(FrontdeskError, RuntimeError):
    """The factory of `get_or_create` asked for the very session that it is making."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"the factory of session {session_id!r} asked for that same session")


class ReentrantWrite(FrontdeskError, RuntimeError):
    """A signal handler or finalizer interrupted a write of this store and asked for another.

    `delete` and `close` are carried out right after the interrupted write; an operation that has
    to answer (`create`, `update`, `watch`, ...) cannot be, and is refused. It is never raised in
    callbacks, watchers or threads.
    """

    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(f"{operation} was called from inside another write of this store")


class StoreClosed(FrontdeskError, RuntimeError):
    """The store was closed, or belongs to another process (it was inherited by `fork()`)."""

    def __init__(self, *, forked: bool = False) -> None:
        self.forked = forked
        super().__init__(
            "the session store was made in another process: make one after fork()"
            if forked
            else "the session store is closed"
        )


class Unauthorized(FrontdeskError):
    """No key, or one that opens nothing here. Says no more, so that it helps nobody guess."""

    def __init__(self) -> None:
        super().__init__("send a valid key in X-API-Key or as Authorization: Bearer <key>")


class RateLimited(FrontdeskError):
    """Too much of `what` from one key or address; `retry_after_s` says when to come again."""

    def __init__(self, what: str, *, limit: int, retry_after_s: int) -> None:
        self.what, self.limit, self.retry_after_s = what, limit, retry_after_s
        super().__init__(f"the limit of {limit} {what} is reached; retry in {retry_after_s} s")


class TooLarge(FrontdeskError):
    """What was sent is over a limit. `what` names it, `limit` is in `unit`."""

    def __init__(self, what: str, *, limit: int, unit: str = "bytes") -> None:
        self.what, self.limit, self.unit = what, limit, unit
        super().__init__(f"the {what} is over the limit of {limit} {unit}")


class MalformedRequest(FrontdeskError, ValueError):
    """A request or message that cannot be understood; `field` names the part, where one is."""

    def __init__(self, problem: str, *, field: str | None = None) -> None:
        self.problem, self.field = problem, field
        super().__init__(f"{field}: {problem}" if field else problem)


class IdempotencyMismatch(FrontdeskError):
    """An idempotency key was used again with another body."""

    def __init__(self, idempotency_key: str) -> None:
        self.idempotency_key = idempotency_key
        super().__init__("this Idempotency-Key was used with another body within 10 minutes")


class AddressRefused(FrontdeskError):
    """A URL that the gateway will not call: `problem` says why, without naming an address."""

    def __init__(self, field: str, *, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field} {problem}")


class ConfigurationWrong(FrontdeskError, ValueError):
    """The configuration cannot be used. `mistakes` lists all that is wrong, one sentence each."""

    def __init__(self, source: str, *, mistakes: tuple[str, ...]) -> None:
        self.source, self.mistakes = source, mistakes
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        super().__init__(f"{source} has {len(mistakes)} mistake(s):\n{lines}")


class KeyNotFound(FrontdeskError, LookupError):
    """No key has this id."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"no key {key_id!r}")


class SessionDead(SessionNotFound):
    """The session existed and its agent ended recently; `reason` is its `ExitReason`."""

    def __init__(self, session_id: str, *, reason: Any) -> None:
        super().__init__(session_id)
        self.reason = reason

    def __str__(self) -> str:
        return f"session {self.session_id!r} has ended: {self.reason.kind}"


class PromptQueueFull(FrontdeskError):
    """As many prompts wait in this session as may."""

    def __init__(self, session_id: str, *, limit: int) -> None:
        self.session_id, self.limit = session_id, limit
        super().__init__(f"{limit} prompts wait already in session {session_id!r}")


class SteeringQueueFull(FrontdeskError):
    """As many steering texts wait in this session as may."""

    def __init__(self, session_id: str, *, limit: int) -> None:
        self.session_id, self.limit = session_id, limit
        super().__init__(f"{limit} steering texts wait already in session {session_id!r}")


class GuardrailRefused(FrontdeskError):
    """A filter refused a text; `why` is the filter's own sentence."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the text was refused: {why}")


class UnknownReference(FrontdeskError, LookupError):
    """No approval or question waits under this reference: it never did, or it was answered."""

    def __init__(self, name: str, *, reference: str) -> None:
        self.name, self.reference = name, reference
        super().__init__(f"{name} {reference[:80]!r} waits for no answer")


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


class ToolRefused(FrontdeskError):
    """A callback tool could not be attached."""

    def __init__(self, name: str, *, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"tool {name[:80]!r} {problem}")


class UnknownTool(FrontdeskError, LookupError):
    """No callback tool of this name is attached to the session."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no tool {name[:80]!r} is attached")


class TurnOver(FrontdeskError):
    """The turn has ended: what its agent still does is discarded."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(f"turn {request_id} has ended")


class EventTooLarge(InvalidArgument):
    """An agent emitted an event that is longer than an event may be."""

    def __init__(self, event: str, *, size: int, limit: int) -> None:
        super().__init__("event", expected=f"at most {limit} bytes long", got=f"{event} of {size}")
        self.event, self.size, self.limit = event, size, limit


class ReaderTooSlow(FrontdeskError):
    """A reader fell so far behind that the next event is no longer held; it may resume."""

    def __init__(self, *, next_index: int, oldest: int) -> None:
        self.next_index, self.oldest = next_index, oldest
        super().__init__(f"event {next_index} is no longer held, the oldest is {oldest}")


# -- the world's -------------------------------------------------------------------------------


class AgentFactoryFailed(FrontdeskError):
    """The factory that another caller of `get_or_create` ran failed; `error` is its exception."""

    def __init__(self, session_id: str, *, error: BaseException) -> None:
        self.session_id, self.error = session_id, error
        super().__init__(f"the factory of session {session_id!r} failed: {type(error).__name__}")


class MonitorFailed(FrontdeskError, OSError):
    """The agent could not be watched (no free descriptor, for instance), so it was not registered.

    `error` is the operating system's.
    """

    def __init__(self, got: str, *, error: OSError) -> None:
        self.got, self.error = got, error
        super().__init__(error.errno, f"cannot watch {got}: {error.strerror or error}")


class ProcessNotFound(FrontdeskError, ProcessLookupError):
    """No process has this pid, or has it any more."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(errno.ESRCH, f"no process has the pid {pid}")


class StateUnusable(FrontdeskError, OSError):
    """The state directory, or a file in it, cannot be used. `problem` is the system's own word."""

    def __init__(self, path: str, *, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"the state directory cannot be used: {path}: {problem}")


class MissingExtra(FrontdeskError, ImportError):
    """An optional part of Frontdesk is used whose packages are not installed."""

    def __init__(self, extra: str, *, part: str, missing: str) -> None:
        self.extra, self.part, self.missing = extra, part, missing
        super().__init__(
            f"{part} needs the package {missing!r}: install it with "
            f"pip install 'frontdesk[{extra}]'"
        )


class Draining(FrontdeskError):
    """The house is closing: it takes no new sessions and no new prompts."""

    def __init__(self) -> None:
        super().__init__("draining: no new sessions or prompts are taken")


class QuestionExpired(FrontdeskError):
    """Nobody answered the agent's question in time."""

    def __init__(self, ref: str, *, waited_s: float) -> None:
        self.ref, self.waited_s = ref, waited_s
        super().__init__(f"nobody answered question {ref} within {waited_s:g} s")


class ToolFailed(FrontdeskError):
    """A callback tool failed; `problem` says how, in words that its agent may see."""

    def __init__(self, name: str, *, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"tool {name!r} failed: {problem}")


class AgentLost(FrontdeskError):
    """The agent of a session is gone, or cannot be reached any more."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the agent is lost: {problem}")


class AgentFailed(FrontdeskError):
    """An agent that lives on answered a turn with an error; `problem` is what it said."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class SpawnFailed(FrontdeskError):
    """An agent process never ran: `stage` names the step that failed, `problem` says how.

    Stages: `fork`, `group`, `limits`, `account`, `directory`, `keeper`, `exec`, `template`,
    `descriptors`, `order`.
    """

    def __init__(self, label: str, *, stage: str, problem: str) -> None:
        self.label, self.stage, self.problem = label, stage, problem
        super().__init__(f"cannot start the process of {label!r} ({stage}): {problem}")


class WireBroken(FrontdeskError):
    """A message to or from an agent's process cannot be sent, or is none."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class TemplateFailed(FrontdeskError):
    """The imports of a blueprint failed in the process that its agents would be forked from."""

    def __init__(self, preload: tuple[str, ...], *, problem: str) -> None:
        self.preload, self.problem = preload, problem
        super().__init__(f"cannot prepare {', '.join(preload) or 'an interpreter'}: {problem}")


class KeeperLost(FrontdeskError):
    """The process that keeps the agent processes has ended and could not be replaced."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the keeper of agent processes is gone: {problem}")


class LimitUnenforceable(FrontdeskError):
    """A limit was configured that this system cannot hold an agent process to."""

    def __init__(self, limit: str, *, problem: str) -> None:
        self.limit, self.problem = limit, problem
        super().__init__(f"cannot enforce {limit}: {problem}")
