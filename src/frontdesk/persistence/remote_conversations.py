"""The storage as a worker has it: every method is a call of the supervisor, over a Unix socket.

One connection writes, a few read; each carries one call at a time, in the thread that calls. One
that ends is opened anew, and what was asked is asked once more where twice is once: of a batch the
store knows how far it got, and reads change nothing. The supervisor outlives its workers: where it
is gone, they end.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from frontdesk.cluster.local.wire import BadFrame, short_path
from frontdesk.persistence import storage_wire as wire
from frontdesk.persistence.conversations import PAGE_BYTES, Applied, StoredMessage
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.operations import AnyOperation, TurnState
from frontdesk.persistence.stored import (
    ListQuery,
    StoredAnswer,
    StoredCheckpoint,
    StoredConversation,
    StoredFrame,
    StoredMemory,
    StoredRequest,
    StoredTurn,
)

READERS = 2
"""So many connections read at a time; who comes beside them waits."""

READ_S = 30.0
"""So long nothing is heard of a call that reads; then it has failed."""

WRITE_S = 120.0
"""So long nothing is heard of a batch: a disk may take its time, and a second try is no faster."""

P = ParamSpec("P")
T = TypeVar("T")

_ENDED = (EOFError, OSError, BadFrame, msgspec.MsgspecError)
"""What is raised where a connection has ended, or makes no sense."""

_answer = msgspec.msgpack.Decoder(wire.StorageAnswer)
_encode = msgspec.msgpack.Encoder().encode


class RemoteConversations:
    """Ask the supervisor's storage. A `Conversations`; connects when it is first asked.

    Whoever makes it has the lock of its place: the one that was there before it is dead by that.

    Args:
        path: The socket.
        owner: The node, as which conversations are its own.
        place: What the lock is of, over restarts.
    """

    def __init__(self, path: Path, *, owner: str, place: str) -> None:
        greeting = wire.Greeting(owner, place, time.monotonic_ns(), wire.wire_form())
        self._writers = _Connections(path, greeting, count=1, patience_s=WRITE_S)
        self._readers = _Connections(path, greeting, count=READERS, patience_s=READ_S)

    def close(self) -> None:
        """Hang up, whatever is under way. From any thread."""
        self._writers.close()
        self._readers.close()

    def _read(self, verb: wire.StorageVerb[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return verb.result(self._readers.ask(verb.call(*args, **kwargs), again=True))

    # -- writing ---------------------------------------------------------------------------------

    def apply(self, operations: Sequence[AnyOperation]) -> Applied:
        """Carry out a batch, as `Conversations.apply` does."""
        call = wire.APPLY.call(operations)
        return wire.APPLY.result(self._writers.ask(call, again=True))

    def claim(self, number: int | None = None, *, dead: frozenset[str] | None = None) -> list[int]:
        """Claim as `Conversations.claim` does; where its outcome is not known, `unfinished` is."""
        # Not asked twice: the second answer lacks what the first claimed.
        return wire.CLAIM.result(self._writers.ask(wire.CLAIM.call(number, dead=dead), again=False))

    # -- reading ---------------------------------------------------------------------------------

    def unfinished(self) -> list[StoredConversation]:
        """See `Conversations.unfinished`."""
        return self._read(wire.UNFINISHED)

    def find(
        self, tenant_id: str, session_id: str, *, fence: int | None = None
    ) -> StoredConversation | None:
        """See `Conversations.find`."""
        return self._read(wire.FIND, tenant_id, session_id, fence=fence)

    def page(self, listed: ListQuery) -> list[StoredConversation]:
        """See `Conversations.page`."""
        return self._read(wire.PAGE, listed)

    def count(self, tenant_id: str) -> int:
        """See `Conversations.count`."""
        return self._read(wire.COUNT, tenant_id)

    def frames(self, number: int, *, after: int, limit: int, max_bytes: int) -> list[StoredFrame]:
        """See `Conversations.frames`."""
        return self._read(wire.FRAMES, number, after=after, limit=limit, max_bytes=max_bytes)

    def messages(
        self, number: int, *, after: int = 0, limit: int = 1000, max_bytes: int = PAGE_BYTES
    ) -> list[StoredMessage]:
        """See `Conversations.messages`."""
        return self._read(wire.MESSAGES, number, after=after, limit=limit, max_bytes=max_bytes)

    def last_messages(self, number: int, *, limit: int, max_bytes: int) -> list[StoredMessage]:
        """See `Conversations.last_messages`."""
        return self._read(wire.LAST_MESSAGES, number, limit=limit, max_bytes=max_bytes)

    def turns(
        self,
        number: int,
        *,
        states: tuple[TurnState, ...] = (),
        after: int = 0,
        limit: int = 1000,
        max_bytes: int | None = None,
    ) -> list[StoredTurn]:
        """See `Conversations.turns`."""
        return self._read(
            wire.TURNS, number, states=states, after=after, limit=limit, max_bytes=max_bytes
        )

    def turn(self, number: int, request_id: str) -> StoredTurn | None:
        """See `Conversations.turn`."""
        return self._read(wire.TURN, number, request_id)

    def latest_turn(self, number: int) -> StoredTurn | None:
        """See `Conversations.latest_turn`."""
        return self._read(wire.LATEST_TURN, number)

    def memories(self, number: int, *, at: int | None = None) -> list[StoredMemory]:
        """See `Conversations.memories`."""
        return self._read(wire.MEMORIES, number, at=at)

    def requests(self, number: int) -> list[StoredRequest]:
        """See `Conversations.requests`."""
        return self._read(wire.REQUESTS, number)

    def checkpoints(self, number: int) -> list[StoredCheckpoint]:
        """See `Conversations.checkpoints`."""
        return self._read(wire.CHECKPOINTS, number)

    def answer(self, slot: str, *, now_ms: int) -> StoredAnswer | None:
        """See `Conversations.answer`."""
        return self._read(wire.ANSWER, slot, now_ms=now_ms)

    def greatest_fence(self) -> int:
        """See `Conversations.greatest_fence`."""
        return self._read(wire.GREATEST_FENCE)

    def expired(
        self, *, before_ms: int, limit: int, after: int = 0, blueprint: str | None = None
    ) -> list[StoredConversation]:
        """See `Conversations.expired`."""
        return self._read(
            wire.EXPIRED, before_ms=before_ms, limit=limit, after=after, blueprint=blueprint
        )


class _Connections:
    """So many connections, each for one call at a time. From any thread."""

    def __init__(
        self, path: Path, greeting: wire.Greeting, *, count: int, patience_s: float
    ) -> None:
        self._patience_s = patience_s
        self._all = [_Connection(path, greeting, patience_s=patience_s) for _ in range(count)]
        # The last one that was free comes first: the others stay closed while one is enough.
        self._free: queue.LifoQueue[_Connection] = queue.LifoQueue()
        for each in self._all:
            self._free.put(each)

    def ask(self, call: bytes, *, again: bool) -> wire.StorageAnswer:
        """Return the answer to a call, asked once more where its connection ended, if `again`."""
        with self._one() as connection:
            more = again and connection.is_open
            while True:
                try:
                    return connection.ask(call)
                except TimeoutError as error:
                    raise StorageUnavailable("the supervisor did not answer in time") from error
                except _ENDED as error:
                    if not more:
                        problem = f"the supervisor cannot be asked: {error}"
                        raise StorageUnavailable(problem) from error
                    more = False

    def close(self) -> None:
        """Hang up on all of them; none is opened again."""
        for each in self._all:
            each.close()

    @contextlib.contextmanager
    def _one(self) -> Iterator[_Connection]:
        try:
            connection = self._free.get(timeout=self._patience_s)
        except queue.Empty:
            raise StorageUnavailable("others wait for the supervisor as well") from None
        try:
            yield connection
        finally:
            self._free.put(connection)


class _Connection:
    """A connection that is opened by whoever asks while it is not. One thread asks, any closes."""

    def __init__(self, path: Path, greeting: wire.Greeting, *, patience_s: float) -> None:
        self._path, self._greeting, self._patience_s = path, greeting, patience_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._asking = self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it was, when last asked."""
        return self._socket is not None

    def ask(self, call: bytes) -> wire.StorageAnswer:
        """Send a call and wait for its answer; `TimeoutError`, or what else says that it ended."""
        with self._lock:
            if self._closed:
                raise EOFError("the storage is closed")
            self._asking = True
        done = False
        try:
            answer = self._exchanged(self._socket or self._opened(), call)
            done = True
        finally:
            with self._lock:
                self._asking = False
                done = done and not self._closed
            if not done:
                self._hang_up()
        return answer

    def close(self) -> None:
        """Hang up, for good; a call under way ends at once. From any thread."""
        with self._lock:
            self._closed = True
            if self._asking and self._socket is not None:
                # Who asks closes it: its number must not be another file's meanwhile.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
        self._hang_up()

    def _opened(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        with self._lock:
            self._socket = connected
        connected.settimeout(self._patience_s)
        with short_path(self._path) as address:
            connected.connect(address)
        greeted = self._exchanged(connected, _encode(self._greeting))
        if greeted.fault is not None:
            raise greeted.fault.error
        return connected

    def _exchanged(self, connected: socket.socket, message: bytes) -> wire.StorageAnswer:
        wire.send(connected, message)
        if (answer := wire.receive(connected)) is None:
            raise EOFError("it has hung up")
        return _answer.decode(answer)

    def _hang_up(self) -> None:
        with self._lock:
            connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()
