"""Every error of Frontdesk, one root.

Each error carries its facts as attributes and writes its own message from them, so that no call
site words an error. They are sorted by whose fault it is: the caller's, the world's, ours.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from frontdesk.records import Session


class FrontdeskError(Exception):
    """The root of all errors that Frontdesk raises.

    `agent` is the agent that the factory of `get_or_create` had made before the call was refused:
    it is alive, and the caller's to end. None everywhere else.

    Every error can be pickled, and so comes out of a process pool. What is alive stays where it
    lives: in another process a `Session` among the facts is its `Metadata`, `agent` is None, and an
    exception that cannot be pickled itself is a `RuntimeError` with its type and text. A copy
    within the process has the same facts.
    """

    agent: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state, so that an error with keyword facts survives a process boundary."""
        attributes = {
            name: _travelling(fact) for name, fact in self.__dict__.items() if name != "agent"
        }
        return (_rebuild, (type(self), tuple(map(_travelling, self.args)), attributes))

    def __copy__(self) -> Self:
        return _rebuild(type(self), self.args, self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The facts are records, or alive: neither is to be doubled.
        return _rebuild(type(self), self.args, self.__dict__)


Error = TypeVar("Error", bound=FrontdeskError)


def _rebuild(kind: type[Error], args: tuple[Any, ...], attributes: dict[str, Any]) -> Error:
    error: Any = kind.__new__(kind)
    error.args = args
    # What these two keep outside of the dictionary: the number and its text, the message.
    if isinstance(error, OSError):
        OSError.__init__(error, *args)
    elif isinstance(error, ImportError):
        ImportError.__init__(error, *args)
    error.__dict__.update(attributes)
    made: Error = error
    return made


def _travelling(fact: Any) -> Any:
    """Return what of a fact reaches another process: itself, its metadata, or a description."""
    if _survives_pickling(fact):
        return fact
    metadata = getattr(fact, "metadata", None)
    if metadata is not None and _survives_pickling(metadata):
        return metadata
    try:
        return RuntimeError(f"{type(fact).__name__}: {fact}")
    except Exception:  # noqa: BLE001 - what cannot be printed either is told by its type
        return RuntimeError(type(fact).__name__)


def _survives_pickling(fact: Any) -> bool:
    import pickle  # late: most programs never need it

    try:
        # Both ways: an exception with arguments of its own is pickled, and cannot be made again.
        pickle.loads(pickle.dumps(fact))  # noqa: S301 - our own, from the line itself
    except Exception:  # noqa: BLE001 - whatever it raises, the error about it has to arrive
        return False
    return True


# -- the caller's ------------------------------------------------------------------------------


class InvalidArgument(FrontdeskError, ValueError):
    """A value that can never be right: wrong range, wrong characters, wrong state."""

    name: str
    expected: str
    got: str

    def __init__(self, name: str, *, expected: str, got: str) -> None:
        self.name, self.expected, self.got = name, expected, got
        super().__init__(f"{name} must be {expected}, got {got}")


class InvalidType(FrontdeskError, TypeError):
    """A value of the wrong type."""

    name: str
    expected: str
    got: str

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
    """A live agent holds the id. `holder` is its `Session`, untouched.

    The session service gives None where the agent that takes the id is only being started. In
    another process the holder is its `Metadata`.
    """

    session_id: str
    holder: Session[Any] | None

    def __init__(self, session_id: str, *, holder: Session | None) -> None:
        self.session_id, self.holder = session_id, holder
        super().__init__(f"session {session_id!r} already exists")


class SessionLimitExceeded(FrontdeskError):
    """One more session would exceed a limit.

    `scope` is `total`, `per_tenant` or `per_api_key`; of those that are stored, with an agent or
    without, `stored_per_tenant`.
    """

    scope: str
    limit: int

    def __init__(self, *, scope: str, limit: int) -> None:
        self.scope, self.limit = scope, limit
        kind = "stored" if scope == "stored_per_tenant" else "live"
        super().__init__(f"the limit of {limit} {kind} sessions ({scope}) is reached")


class SessionBusy(FrontdeskError):
    """Another caller is creating this session right now; try again.

    Raised by `get_or_create` where waiting would block a running event loop, and where the wait
    ran into its time-out (`waited_s` says how long it was).
    """

    session_id: str
    waited_s: float

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


# -- the world's -------------------------------------------------------------------------------


class AgentFactoryFailed(FrontdeskError):
    """The factory that another caller of `get_or_create` ran failed; `error` is its exception."""

    session_id: str
    error: BaseException

    def __init__(self, session_id: str, *, error: BaseException) -> None:
        self.session_id, self.error = session_id, error
        super().__init__(f"the factory of session {session_id!r} failed: {type(error).__name__}")


class MonitorFailed(FrontdeskError, OSError):
    """The agent could not be watched (no free descriptor, for instance), so it was not registered.

    `error` is the operating system's.
    """

    got: str
    error: OSError

    def __init__(self, got: str, *, error: OSError) -> None:
        self.got, self.error = got, error
        super().__init__(error.errno, f"cannot watch {got}: {error.strerror or error}")


class ProcessNotFound(FrontdeskError, ProcessLookupError):
    """No process has this pid, or has it any more."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(errno.ESRCH, f"no process has the pid {pid}")


class MissingExtra(FrontdeskError, ImportError):
    """An optional part of Frontdesk is used whose packages are not installed."""

    extra: str
    part: str
    missing: str

    def __init__(self, extra: str, *, part: str, missing: str) -> None:
        self.extra, self.part, self.missing = extra, part, missing
        super().__init__(
            f"{part} needs the package {missing!r}: install it with "
            f"pip install 'frontdesk[{extra}]'"
        )
