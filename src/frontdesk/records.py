"""The records: Session, Metadata, ExitReason, the changes, Snapshot. Frozen, slotted.

At the bottom, below everything that has behaviour. A `Session` holds the live agent; every
other record carries metadata only, so that whoever keeps one keeps no agent alive.
"""

from __future__ import annotations

import signal as _signals
from dataclasses import dataclass, field
from enum import StrEnum
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, Protocol

if TYPE_CHECKING:
    # A default is for type checkers, which bring this module; the library itself needs no package.
    from typing_extensions import TypeVar

    AgentT_co = TypeVar("AgentT_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    AgentT_co = TypeVar("AgentT_co", covariant=True)

Fence = int
"""The revision at which a session was created. Opaque and ordered: compare it, nothing else."""

TEXT_LIMIT = 500
"""An exit reason keeps at most this many characters of an exception's text."""


class ExitKind(StrEnum):
    """How an agent, or its session, came to an end."""

    NORMAL = "normal"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    SIGNALLED = "signalled"
    EXITED = "exited"
    NOT_ALIVE = "not_alive"
    LOST = "lost"
    DELETED = "deleted"
    SHUTDOWN = "shutdown"
    EXPIRED = "expired"
    CLOSED = "closed"
    SUPERSEDED = "superseded"
    RESTARTED = "restarted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Say how a session ended, with the facts of that kind and no others.

    Its text is for people.

    Attributes:
        kind (ExitKind): What ended it.
        error (str | None): Of `crashed`: the name of the exception's type.
        text (str | None): Of `crashed`: at most 500 characters of its text.
        signal (int | None): Of `signalled`: the number.
        code (int | None): Of `exited`: the exit code.

    Examples:
        >>> str(ExitReason.signalled(9))
        'signalled: 9 (SIGKILL)'
        >>> str(ExitReason.crashed(ValueError("no such model")))
        'crashed: ValueError: no such model'
    """

    kind: ExitKind
    error: str | None = None
    text: str | None = None
    signal: int | None = None
    code: int | None = None

    @classmethod
    def of(cls, kind: ExitKind | str) -> ExitReason:
        """Return the reason of a kind that has no further facts."""
        return _PLAIN[ExitKind(kind)]

    @classmethod
    def crashed(cls, error: BaseException) -> ExitReason:
        """Return `crashed` with the type and the shortened text of an exception."""
        return cls(ExitKind.CRASHED, error=type(error).__name__, text=_text_of(error))

    @classmethod
    def signalled(cls, signal: int) -> ExitReason:
        """Return `signalled` with the number of the signal."""
        return cls(ExitKind.SIGNALLED, signal=signal)

    @classmethod
    def exited(cls, code: int) -> ExitReason:
        """Return `normal` for the exit code 0, else `exited` with the code."""
        return cls(ExitKind.EXITED, code=code) if code else _PLAIN[ExitKind.NORMAL]

    @classmethod
    def from_returncode(cls, returncode: int) -> ExitReason:
        """Translate `Popen.returncode`: negative is a signal, else an exit code."""
        return cls.signalled(-returncode) if returncode < 0 else cls.exited(returncode)

    @property
    def public_text(self) -> str:
        """Return it without an exception's text, which may hold what is nobody else's business.

        Examples:
            >>> ExitReason.crashed(ValueError("the text of it")).public_text
            'crashed: ValueError'
        """
        return f"crashed: {self.error}" if self.kind is ExitKind.CRASHED else str(self)

    def __str__(self) -> str:
        if self.kind is ExitKind.CRASHED:
            return f"crashed: {self.error}: {self.text}" if self.text else f"crashed: {self.error}"
        if self.kind is ExitKind.SIGNALLED:
            return f"signalled: {self.signal} ({_signal_name(self.signal)})"
        if self.kind is ExitKind.EXITED:
            return f"exited: {self.code}"
        return str(self.kind)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:TEXT_LIMIT]
    except Exception:  # noqa: BLE001 - an exception whose own __str__ raises still has ended an agent
        return ""


def _signal_name(number: int | None) -> str:
    try:
        return _signals.Signals(number or 0).name
    except ValueError:
        return "real-time" if (number or 0) >= _signals.SIGRTMIN else "unnamed"


_PLAIN = {kind: ExitReason(kind) for kind in ExitKind}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What may outlive a session: no agent, no monitor, no exception. The repr shows no key.

    Each field is what it is of a `Session`.
    """

    session_id: str
    pid: int
    api_key: str | None = field(repr=False)
    tenant_id: str
    created_at: int
    blueprint: str | None
    model: str | None
    fence: Fence


class Liveness(Protocol):
    """Who answers for an agent: a future itself, or what a store knows of any other agent."""

    def done(self) -> bool:
        """Tell whether the agent has finished: read, not told."""
        ...


class _SessionSlots:
    """What a session and its builder have in common: the layout, so that one becomes the other."""

    __slots__ = (
        "__weakref__",
        "_liveness",
        "_monitor",
        "agent",
        "api_key",
        "blueprint",
        "created_at",
        "fence",
        "model",
        "pid",
        "session_id",
        "tenant_id",
    )

    _liveness: Liveness
    _monitor: Any


class SessionBuilder(_SessionSlots):
    """The slots of a Session that is not sealed yet: see `session_builder`."""

    __slots__ = ()

    session_id: str
    agent: Any
    pid: int
    api_key: str | None
    tenant_id: str
    created_at: int
    blueprint: str | None
    model: str | None
    fence: Fence


class Session(_SessionSlots, Generic[AgentT_co]):
    """One entry: an id, the agent that answers under it, and its metadata. Frozen and slotted.

    Two `Session` objects are equal if they are the same object; an `update` makes another one. It
    cannot be pickled, because it holds a live agent: take `metadata`.

    Attributes:
        session_id (str): The id, unique in its store while it lives.
        agent (AgentT_co): The agent itself; a `Session[asyncio.Task[None]]` has a task.
        pid (int): The operating-system process that the agent runs in: this one for tasks, futures
            and threads, its own for a process.
        api_key (str | None): The id of the key that created it, never a secret. The repr leaves it
            out.
        tenant_id (str): The customer that it belongs to.
        created_at (int): The wall clock, in whole milliseconds.
        blueprint (str | None): The recipe of its agent.
        model (str | None): The model that its agent calls.
        fence (Fence): The revision at which it was created. Two sessions of one id differ in it.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # Slots to the interpreter, which reads them in one step; read-only to type checkers.
        @property
        def session_id(self) -> str: ...
        @property
        def agent(self) -> AgentT_co: ...
        @property
        def pid(self) -> int: ...
        @property
        def api_key(self) -> str | None: ...
        @property
        def tenant_id(self) -> str: ...
        @property
        def created_at(self) -> int: ...
        @property
        def blueprint(self) -> str | None: ...
        @property
        def model(self) -> str | None: ...
        @property
        def fence(self) -> Fence: ...

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Session is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Session is frozen: cannot delete {name!r}")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Session holds a live agent and cannot be pickled; use .metadata")

    def __repr__(self) -> str:
        return (
            f"Session(session_id={self.session_id!r}, tenant_id={self.tenant_id!r}, "
            f"blueprint={self.blueprint!r}, model={self.model!r}, pid={self.pid}, "
            f"created_at={self.created_at}, fence={self.fence}, agent={type(self.agent).__name__})"
        )

    @property
    def monitor(self) -> Any:
        """Return what watches the agent: `alive`, `pid`, `exit_reason()`. Its `cancel()` is not
        yours to call: monitoring ends with the session.
        """
        watching = self._monitor
        # Of a future it is made when it is asked for: most sessions are of tasks, and nobody asks.
        return watching(self.agent) if isinstance(watching, type) else watching

    @property
    def metadata(self) -> Metadata:
        """Return what may outlive the session: everything but the agent and its monitor."""
        return Metadata(
            self.session_id,
            self.pid,
            self.api_key,
            self.tenant_id,
            self.created_at,
            self.blueprint,
            self.model,
            self.fence,
        )


def session_builder(
    session_id: str,
    agent: object,
    api_key: str | None,
    tenant_id: str,
    blueprint: str | None,
    model: str | None,
    created_at: int,
) -> SessionBuilder:
    """Begin a `Session`; for stores, which end it with `seal_session`.

    Writing plain slots and then freezing the object by giving it its class costs a fifth of what
    going around a frozen class's `__setattr__` for every field does.
    """
    builder = SessionBuilder()
    builder.session_id = session_id
    builder.agent = agent
    builder.api_key = api_key
    builder.tenant_id = tenant_id
    builder.blueprint = blueprint
    builder.model = model
    builder.created_at = created_at
    return builder


def seal_session(
    builder: SessionBuilder, liveness: Liveness, monitor: object, pid: int, fence: Fence
) -> Session[Any]:
    """Finish a session, which is frozen from here on; `liveness` is asked at each lookup.

    `monitor` is the monitor, or the type that makes one of the agent.
    """
    builder._liveness = liveness
    builder._monitor = monitor
    builder.pid = pid
    builder.fence = fence
    sealed: Any = builder
    sealed.__class__ = Session
    session: Session[Any] = sealed
    return session


def revised(
    session: Session[AgentT_co],
    *,
    blueprint: str | EllipsisType | None,
    model: str | EllipsisType | None,
) -> Session[AgentT_co]:
    """Return the session with other metadata (but for an Ellipsis): the same agent and fence."""
    builder = session_builder(
        session.session_id,
        session.agent,
        session.api_key,
        session.tenant_id,
        session.blueprint if isinstance(blueprint, EllipsisType) else blueprint,
        session.model if isinstance(model, EllipsisType) else model,
        session.created_at,
    )
    return seal_session(builder, session._liveness, session._monitor, session.pid, session.fence)


def under_fence(session: Session[AgentT_co], fence: Fence) -> Session[AgentT_co]:
    """Return the session as another store has it, whose revisions are others: the same agent."""
    builder = session_builder(
        session.session_id,
        session.agent,
        session.api_key,
        session.tenant_id,
        session.blueprint,
        session.model,
        session.created_at,
    )
    return seal_session(builder, session._liveness, session._monitor, session.pid, fence)


@dataclass(frozen=True, slots=True)
class Created:
    """A change: a session was registered.

    Attributes:
        revision (int): Its number: contiguous, never reused.
        session (Metadata): The session, as it was after the change.
        kind (Literal["created"]): What happened.
    """

    revision: int
    session: Metadata
    kind: ClassVar[Literal["created"]] = "created"


@dataclass(frozen=True, slots=True)
class Updated:
    """A change: the metadata of a session was replaced.

    Attributes:
        revision (int): Its number: contiguous, never reused.
        session (Metadata): The session, as it was after the change.
        kind (Literal["updated"]): What happened.
    """

    revision: int
    session: Metadata
    kind: ClassVar[Literal["updated"]] = "updated"


@dataclass(frozen=True, slots=True)
class Ended:
    """A change: a session ended. `SessionStore.ended` remembers the last one of each id.

    Attributes:
        revision (int): Its number: contiguous, never reused.
        session (Metadata): What is known of it.
        reason (ExitReason): How it ended.
        ended_at (int): The wall clock, in whole milliseconds.
        kind (Literal["ended"]): What happened.
    """

    revision: int
    session: Metadata
    reason: ExitReason
    ended_at: int
    kind: ClassVar[Literal["ended"]] = "ended"


Change = Created | Updated | Ended
"""One change of a store: a `match` over the three classes, or over their `kind`, is exhaustive."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All sessions that a watch is about. A watch begins with one.

    Attributes:
        revision (int): The last change that it includes.
        sessions (tuple[Metadata, ...]): Oldest first.
        resync (bool): Whether it is a later one: the watcher fell so far behind that the changes in
            between are no longer held, and this snapshot stands in for them.
    """

    revision: int
    sessions: tuple[Metadata, ...]
    resync: bool = False
