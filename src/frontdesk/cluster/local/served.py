"""Connections of workers, as the supervisor serves them, and what they are served from."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import struct
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import msgspec

from frontdesk.clock import Clock
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.index import ClusterIndex, Moment
from frontdesk.cluster.local import wire
from frontdesk.cluster.local.revision_file import RevisionFile
from frontdesk.cluster.messages import PageRow, Raised, encode
from frontdesk.errors import FrontdeskError

__all__ = ["MAX_CONNECTIONS", "Peer", "ServedConnection", "ServedIndex"]

MAX_CONNECTIONS = 1024
"""So many connections are served at a time: a worker has three."""

_WRITTEN_AT_ONCE = 256 * 1024
_TOLD_AT_ONCE = 1000
"""So many ends of a dead node are told together: a page of the log."""

_CREDENTIALS = struct.Struct("3i")

_call = msgspec.msgpack.Decoder(wire.WireCall)
_logger = logging.getLogger("frontdesk.cluster")


class Peer(NamedTuple):
    """The process and the account at the other end of a connection, as the kernel has them."""

    pid: int
    uid: int

    @classmethod
    def of(cls, connected: socket.socket) -> Peer:
        """Return who connected."""
        option = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(option)
        return cls(pid, uid)

    @property
    def runs(self) -> bool:
        """Tell whether it is there: what it had sent before it ended is not to be done."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


class ServedIndex:
    """The index, its clock, and who is connected. Belongs to one event loop."""

    def __init__(
        self, index: ClusterIndex, clock: Clock, *, revisions: RevisionFile | None
    ) -> None:
        self.index: ClusterIndex = index
        self._revisions = revisions
        self.connections: set[ServedConnection] = set()
        self._clock = clock
        self._run_id = secrets.token_hex(16)
        self._joined: dict[int, set[str]] = {}
        self._burials: set[asyncio.Task[None]] = set()
        self._pushed = 0
        self._push: asyncio.Handle | None = None

    def now(self) -> Moment:
        """Return the moment of a call. No caller knows more than this index does."""
        return Moment(self._clock.wall_ms() * 1000, self._run_id)

    def begin(self) -> None:
        """Begin the era: above all that was ever given here."""
        known = 0 if self._revisions is None else self._revisions.read()
        self.index.nodes(replace(self.now(), known=known))
        self.on_change()

    def on_join(self, pid: int, incarnation: str) -> None:
        """Remember which process a node is."""
        self._joined.setdefault(pid, set()).add(incarnation)

    def on_change(self) -> None:
        """Have whoever follows the log told, once for all that this step of the loop changes."""
        if self._revisions is not None:
            self._revisions.cover(self.index.revision)
        if self._push is None and self.index.revision > self._pushed:
            self._push = asyncio.get_running_loop().call_soon(self.push_changes)

    def end_node(self, incarnation: str) -> None:
        """End all that a dead node has, in batches, in a task of our own."""
        burial = asyncio.get_running_loop().create_task(self.bury(incarnation))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    def end_process(self, pid: int) -> None:
        """Hang up on a dead process, so that nothing it sent is still done; end its nodes."""
        for connection in [one for one in self.connections if one.pid == pid]:
            connection.abort()
        for incarnation in self._joined.pop(pid, ()):
            self.end_node(incarnation)

    async def bury(self, incarnation: str) -> None:
        """End all that a dead node has, in batches; whoever asks in between is answered."""
        # The first are told at once: by any of them everybody knows that the node is gone.
        untold = _TOLD_AT_ONCE
        while not (buried := self.index.bury(self.now(), incarnation, proven=True)).done:
            untold += buried.ended
            if untold >= _TOLD_AT_ONCE:
                # A page each turn would cost everybody more turns than the ends do.
                untold = 0
                self.on_change()
            await asyncio.sleep(0)
        self.on_change()

    async def close(self) -> None:
        """Hang up on everybody, and leave what is left of the dead."""
        for burial in self._burials:
            burial.cancel()
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.ended.wait()

    def push_changes(self) -> None:
        """Tell whoever follows the log what is new."""
        self._push, self._pushed = None, self.index.revision
        # Most followers are at the same place: they get the same bytes.
        pages: dict[tuple[int, int, int], msgspec.Raw] = {}
        for connection in list(self.connections):
            connection.push(pages)


@dataclass(slots=True)
class _Following:
    """A reader of the log that waits for the next change."""

    number: int
    after: int
    era: int
    limit: int
    expiry: asyncio.TimerHandle


class ServedConnection(asyncio.Protocol):
    """One connection of a worker.

    What it does not read is bounded: while its answers wait to be written, its calls wait unread.
    """

    def __init__(self, served: ServedIndex) -> None:
        self.pid: int = 0
        self.ended: asyncio.Event = asyncio.Event()
        self._served = served
        self._transport: asyncio.Transport | None = None
        self._frames = wire.FrameReader(largest=wire.MAX_CALL_BYTES)
        self._following: _Following | None = None
        self._paused = False

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = Peer.of(transport.get_extra_info("socket"))
        self.pid = peer.pid
        refusal = None
        if peer.uid != os.geteuid():
            refusal = f"of account {peer.uid}"
        elif len(self._served.connections) >= MAX_CONNECTIONS:
            refusal = f"beside {MAX_CONNECTIONS} others"
        elif not peer.runs:
            refusal = "of a process that has ended"
        if refusal is None:
            self._served.connections.add(self)
            return
        _logger.warning("the cluster's engine hung up on a connection %s", refusal)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._served.connections.discard(self)
        self.ended.set()
        self._stop_following()

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)
        self._carry_out()

    def pause_writing(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
            self._carry_out()

    # -- what the server calls -------------------------------------------------------------------

    def abort(self) -> None:
        """Hang up, whatever was not read or written yet."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def push(self, pages: dict[tuple[int, int, int], msgspec.Raw]) -> None:
        """Answer whoever follows here with what is new; `pages` are those that are made already."""
        following = self._following
        if following is None or self._transport is None:
            return
        key = (following.after, following.era, following.limit)
        if key not in pages:
            page = self._served.index.follow_rows(
                self._served.now(), following.after, era=following.era, limit=following.limit
            )
            if not page.rows and not page.gap:
                return
            pages[key] = msgspec.Raw(encode(page))
        self._stop_following()
        self._transport.write(_answer(following.number, pages[key]))

    # -- calls -----------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Carry out what has arrived, as far as the answers can be written."""
        try:
            while self._transport is not None and not self._paused:
                answers = self._answers()
                if not answers:
                    break
                self._transport.write(b"".join(answers))
        except (wire.BadFrame, msgspec.MsgspecError) as error:
            _logger.warning("the cluster's engine hung up on process %d: %s", self.pid, error)
            self.abort()
        self._served.on_change()

    def _answers(self) -> list[bytes]:
        """Carry out calls until their answers are worth writing, or there is no more."""
        answers: list[bytes] = []
        size = 0
        while size < _WRITTEN_AT_ONCE:
            message = self._frames.take()
            if message is None:
                break
            call = _call.decode(message)
            verb = wire.VERBS.get(call.verb)
            if verb is None:
                raise wire.BadFrame(f"the verb {call.verb[:80]!r}")
            answers.append(self._answer_to(verb, call.number, verb.arguments(call)))
            size += len(answers[-1])
        return answers

    def _answer_to(self, verb: wire.Verb[Any], number: int, arguments: dict[str, Any]) -> bytes:
        """Return the answer to a call: nothing yet to one that waits for a change."""
        try:
            if verb is wire.FOLLOW:
                return self._follow(number, **arguments)
            result = getattr(self._served.index, verb.name)(self._served.now(), **arguments)
        except FrontdeskError as error:
            return _answer(number, None, Raised.of(error))
        except Exception:
            _logger.exception("the cluster's engine failed at %s", verb.name)
            return _answer(number, None, Raised.of(EngineUnavailable("it failed, see its log")))
        if verb is wire.JOIN:
            self._served.on_join(self.pid, arguments["node"].incarnation)
        return _answer(number, result)

    def _follow(self, number: int, *, after: int, era: int, limit: int, wait_s: float) -> bytes:
        page = self._served.index.follow_rows(self._served.now(), after, era=era, limit=limit)
        # One waits at a time: the caller of the one before was cancelled, or is confused.
        earlier = self._stop_following()
        if page.rows or page.gap:
            return earlier + _answer(number, page)
        expiry = asyncio.get_running_loop().call_later(wait_s, self._expire)
        self._following = _Following(number, after, era, limit, expiry)
        return earlier

    def _expire(self) -> None:
        if self._transport is not None:
            self._transport.write(self._stop_following())

    def _stop_following(self) -> bytes:
        """End the wait of who follows here; return an answer without changes to it, if any."""
        following, self._following = self._following, None
        if following is None:
            return b""
        following.expiry.cancel()
        return _answer(following.number, PageRow(following.era, following.after))


def _answer(number: int, result: object, fault: Raised | None = None) -> bytes:
    return wire.frame(encode((number, result, fault)))
