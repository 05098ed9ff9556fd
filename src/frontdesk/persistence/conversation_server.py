"""The supervisor's side of the storage: it writes the conversations of all workers, one process.

In threads of its own, one for each connection: what blocks for the disk delays nobody else, least
of all the supervisor's event loop. A worker is told apart by its process, as the kernel has it, and
is dead when its parent says so, or when another one greets from its place: that has the lock which
the kernel took from it. What a dead one had sent is not carried out any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from frontdesk.background import start_without_signals
from frontdesk.cluster.local.served import Peer
from frontdesk.cluster.local.wire import BadFrame, bind_socket
from frontdesk.errors import FrontdeskError
from frontdesk.persistence import storage_wire as wire
from frontdesk.persistence.conversations import Conversations, JointConversations
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable
from frontdesk.persistence.group_commit import GroupCommit

MAX_CONNECTIONS = 1024
"""So many connections are served at a time: a worker has three."""

JOIN_S = 10.0
"""So long the end waits for what is under way."""

_BACKLOG = 128

_call = msgspec.msgpack.Decoder(wire.StorageCall)
_greeting = msgspec.msgpack.Decoder(wire.Greeting)
_encode = msgspec.msgpack.Encoder().encode
_logger = logging.getLogger("frontdesk.persistence")


class ConversationServer:
    """Serve a store to the workers of one machine. A context manager.

    The socket has mode 0700, and whoever connects under another account is hung up on, as is every
    process that is no worker: what all tenants have said can be read here.

    Args:
        path: Where the socket is made, in place of one that lies there.
        store: Open; it is not closed here.
        is_worker: Tells whether a process is one of them; from threads of ours.
        on_broken: Told that the storage failed, from a thread of ours; the process is to end.
    """

    def __init__(
        self,
        path: Path,
        store: JointConversations,
        *,
        is_worker: Callable[[int], bool],
        on_broken: Callable[[StorageBroken], None],
    ) -> None:
        self.path: Path = path
        self._store, self._is_worker, self._on_broken = store, is_worker, on_broken
        self.commits: GroupCommit = GroupCommit(store)
        self._owners = _Owners()
        self._lock = threading.Lock()
        self._served: set[_Served] = set()
        self._closed = False
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._listener = bind_socket(self.path)
        self._listener.listen(_BACKLOG)
        self._accepting = threading.Thread(
            target=self._accept, args=(self._listener,), name="frontdesk-storage", daemon=True
        )
        start_without_signals(self._accepting)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._listener is not None
        assert self._accepting is not None
        with self._lock:
            self._closed = True
            served = list(self._served)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(JOIN_S)
        self._listener.close()
        for each in served:
            each.hang_up()
        for each in served:
            each.thread.join(JOIN_S)
        with contextlib.suppress(OSError):
            self.path.unlink()

    @property
    def connections(self) -> int:
        """How many are served."""
        return len(self._served)

    def process_died(self, pid: int) -> None:
        """Hang up on a process that has died; what it had may be claimed. Does not block."""
        self._owners.process_died(pid)
        self._hang_up_on_the_dead()

    def _hang_up_on_the_dead(self) -> None:
        with self._lock:
            served = list(self._served)
        for each in served:
            if each.owner is not None and not self._owners.lives(each.owner):
                each.hang_up()

    # -- connections -----------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                if self._closed:
                    return
                # Out of descriptors, say: whoever asks again may be taken.
                _logger.exception("a worker's connection to the storage was not taken")
                threading.Event().wait(0.1)
                continue
            self._take(connected)

    def _take(self, connected: socket.socket) -> None:
        peer = Peer.of(connected)
        served = _Served(connected, peer)
        served.thread = threading.Thread(
            target=self._serve, args=(served,), name="frontdesk-storage", daemon=True
        )
        with self._lock:
            welcome = peer.uid == os.geteuid() and self._is_worker(peer.pid)
            if self._closed or not welcome or len(self._served) >= MAX_CONNECTIONS:
                connected.close()
                if not self._closed:
                    _logger.warning("the storage hung up on process %d: no worker", peer.pid)
                return
            self._served.add(served)
        try:
            start_without_signals(served.thread)
        except RuntimeError:
            # Out of threads: the worker hears that nothing can be stored now.
            _logger.exception("a worker's connection to the storage was not taken")
            connected.close()
            with self._lock:
                self._served.discard(served)

    def _serve(self, served: _Served) -> None:
        try:
            with served.connected:
                self._serve_calls(served)
        finally:
            with self._lock:
                self._served.discard(served)

    def _serve_calls(self, served: _Served) -> None:
        try:
            owner = self._greeted(served)
            conversations = self._store.owned_by(owner, lives=self._owners.lives)
            while (message := wire.receive(served.connected)) is not None:
                wire.send(served.connected, self._answer(owner, conversations, message))
        except (OSError, EOFError):
            return  # it has gone, or was hung up on
        except (BadFrame, msgspec.MsgspecError) as error:
            _logger.warning("the storage hung up on process %d: %s", served.peer.pid, error)

    def _greeted(self, served: _Served) -> str:
        if (message := wire.receive(served.connected)) is None:
            raise EOFError
        greeting = _greeting.decode(message)
        fault = None
        if greeting.form != wire.wire_form():
            problem = "the supervisor is of another version: restart the whole service"
            fault = wire.StorageFault.of(StorageRefused(str(self.path), problem=problem))
        elif not self._owners.greet(greeting, served.peer):
            fault = wire.StorageFault.of(StorageUnavailable("another process has this one's place"))
        wire.send(served.connected, _encoded(None, fault))
        if fault is not None:
            raise EOFError
        served.owner = greeting.owner
        self._hang_up_on_the_dead()
        return greeting.owner

    # -- calls -----------------------------------------------------------------------------------

    def _answer(self, owner: str, conversations: Conversations, message: bytearray) -> bytes:
        call = _call.decode(message)
        verb = wire.VERBS.get(call.verb)
        if verb is None:
            raise BadFrame(f"the verb {call.verb[:80]!r}")
        arguments = verb.arguments(call)
        if not self._owners.lives(owner):
            raise EOFError
        try:
            if verb is wire.APPLY:
                return _encoded(self.commits.apply(owner, **arguments))
            return _encoded(getattr(conversations, verb.name)(**arguments))
        except StorageBroken as error:
            self._on_broken(error)
            return _encoded(None, wire.StorageFault.of(error))
        except FrontdeskError as error:
            return _encoded(None, wire.StorageFault.of(error))
        except Exception:
            _logger.exception("the storage failed at %s", verb.name)
            failed = StorageUnavailable("it failed, see the supervisor's log")
            return _encoded(None, wire.StorageFault.of(failed))


def _encoded(result: Any, fault: wire.StorageFault | None = None) -> bytes:
    answer = _encode((result, fault))
    if len(answer) <= wire.MAX_MESSAGE_BYTES:
        return answer
    return _encoded(None, wire.StorageFault.of(StorageUnavailable("the answer is too large")))


@dataclass(eq=False, slots=True)
class _Served:
    """One connection of a worker."""

    connected: socket.socket
    peer: Peer
    owner: str | None = None
    """Once it has greeted."""
    thread: threading.Thread = field(default_factory=threading.current_thread)

    def hang_up(self) -> None:
        """Have its thread read nothing more; that closes it. From any thread."""
        with contextlib.suppress(OSError):
            self.connected.shutdown(socket.SHUT_RDWR)


class _Owners:
    """Which nodes live: those that have greeted, and whose process has not died. From any thread.

    Whoever was stored by an earlier run of the supervisor is none of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: dict[str, Peer] = {}
        self._places: dict[str, wire.Greeting] = {}

    def greet(self, greeting: wire.Greeting, peer: Peer) -> bool:
        """Enter an owner, in the place of the one before; False where it is dead itself."""
        with self._lock:
            there = self._places.get(greeting.place)
            if there is not None and there.since_ns > greeting.since_ns:
                return False  # what came of a dead one late
            if there is not None and there.owner != greeting.owner:
                self._living.pop(there.owner, None)
            self._places[greeting.place] = greeting
            self._living[greeting.owner] = peer
            # Only now: of one that ends from here on its parent tells, and finds it here.
            if not peer.runs:
                del self._living[greeting.owner]
            return greeting.owner in self._living

    def process_died(self, pid: int) -> None:
        """Take note that a process has died, and was waited for."""
        with self._lock:
            for owner in [each for each, peer in self._living.items() if peer.pid == pid]:
                del self._living[owner]

    def lives(self, owner: str) -> bool:
        """Tell whether an owner lives."""
        with self._lock:
            return owner in self._living
