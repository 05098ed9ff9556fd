"""An agent in a process of its own: the gateway's end of it.

What the agent asks of its turn comes as messages and is asked of the real turn here, so that
to both sides of the seam this agent is like a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

import msgspec

from frontdesk.agents.errors import AgentLost, CreateFailed, MessageInvalid
from frontdesk.agents.process.messages import (
    MAX_FROM_WORKER_BYTES,
    MAX_TO_WORKER_BYTES,
    AbortTurn,
    Begin,
    Close,
    Finished,
    Frames,
    FromWorker,
    Opened,
    OpenFailed,
    RemoteError,
    ToWorker,
    local,
    pack,
)
from frontdesk.agents.process.remote_turn import RemoteTurn
from frontdesk.agents.records import MemoryOutcome, Restored, SessionContext
from frontdesk.agents.turn import EndSession, TurnPort
from frontdesk.keeper.process import ManagedProcess, ManagedProcessRef
from frontdesk.records import ExitReason

OPEN_DEADLINE_S = 30.0
"""How long a program may take to be checked and opened."""

EXIT_PATIENCE_S = 1.0
"""How long a process that has closed its channel may take to exit by itself, and say its code."""

YIELD_AFTER_MESSAGES = 256
"""After so many messages of one agent in a row, the loop's other tasks have their turn."""

MAX_UNREAD_BYTES = 2 * MAX_TO_WORKER_BYTES
"""Bytes that may wait for a process that does not read; past that it is ended."""

_AT_ONCE = 256 * 1024

_log = logging.getLogger("frontdesk.agents")


class ProcessAgent:
    """An agent that answers from a process of its own. `process` is in the keeper's care.

    Made by `open`. A turn that was given up after its abort may still run in the process, beside
    the next one; what it says is discarded, what it used is counted.
    """

    def __init__(self, process: ManagedProcess, *, label: str) -> None:
        self._process, self._label = process, label
        self._numbers = itertools.count(1)
        self._turns: dict[int, RemoteTurn] = {}
        self._opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        self.memory: MemoryOutcome = "kept"
        """How much it knows of what was restored to it."""
        self.suspends: str | None = None
        """The kind of memory that its turns can go on from."""
        self._lost: str | None = None
        self._listening = asyncio.create_task(self._listen(), name=f"frontdesk process {label}")

    @classmethod
    async def open(
        cls,
        process: ManagedProcess,
        *,
        context: SessionContext,
        label: str,
        restored: Restored | None = None,
    ) -> ProcessAgent:
        """Open a program in a fresh process. `CreateFailed`; the process is ended then."""
        agent = cls(process, label=label)
        try:
            agent._send(Begin(context, restored))
            async with asyncio.timeout(OPEN_DEADLINE_S):
                opened = await agent._opened
            agent.memory = opened.memory or agent.memory
            agent.suspends = opened.suspends
        except TimeoutError:
            problem = f"the agent was not ready after {OPEN_DEADLINE_S:g} s"
            _log.error("session %s: %s", label, problem)
            await agent.end(0.0)
            raise CreateFailed(problem) from None
        except BaseException as error:
            await asyncio.shield(agent.end(0.0))
            if isinstance(error, AgentLost | MessageInvalid):
                raise CreateFailed("the agent's process ended as it was opened") from error
            raise
        return agent

    @property
    def registry_agent(self) -> ManagedProcessRef:
        """Return the reference by which the registry watches the process."""
        return self._process.ref

    async def run_turn(self, port: TurnPort) -> None:
        """Run one turn in the process; `AgentLost` where it is gone."""
        if self._lost is not None:
            raise AgentLost(self._lost)
        number = next(self._numbers)
        turn = self._turns[number] = RemoteTurn(port, number=number, send=self._send)
        try:
            self._send(turn.begin())
            error = await self._outcome(turn)
        except MessageInvalid as broken:
            raise AgentLost(str(broken)) from broken
        finally:
            turn.close()
        if error is None:
            return
        if error.kind == EndSession.__name__:
            raise EndSession(error.text)
        if error.kind == asyncio.CancelledError.__name__:
            raise asyncio.CancelledError  # the agent cancelled itself: the same as in a task
        raise local(error)

    @property
    def lost(self) -> bool:
        """Say whether it cannot be reached any more."""
        return self._lost is not None

    async def end(self, grace_s: float) -> None:
        """Ask the process to exit, then end it with everything that descended from it."""
        if grace_s > 0 and self._lost is None:
            grace_s /= 2
            with contextlib.suppress(TimeoutError, MessageInvalid):
                self._send(Close())
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
        if not await self._process.end(grace_s, close=False):
            _log.error("session %s: something of its agent could not be killed", self._label)
        # What the process sent last, what it used above all, is still to come.
        await asyncio.wait({self._listening}, timeout=EXIT_PATIENCE_S)
        self._listening.cancel()
        await asyncio.wait({self._listening})
        self._process.close()

    # -- turns ---------------------------------------------------------------------------------

    async def _outcome(self, turn: RemoteTurn) -> RemoteError | None:
        try:
            await asyncio.wait({turn.finished})
        except asyncio.CancelledError:
            self._send(AbortTurn(turn.number))
            # The process answers after its clean-up. Who aborts waits for that as long as he likes,
            # and cancels once more.
            await asyncio.wait({turn.finished})
            if isinstance(lost := turn.finished.exception(), AgentLost):
                raise lost from None
            raise
        if turn.finished.exception() is not None:
            # It ended here, and the process does not know.
            self._send(AbortTurn(turn.number))
        return turn.finished.result()

    # -- messages ------------------------------------------------------------------------------

    def _send(self, message: ToWorker) -> None:
        writer = self._process.writer
        if writer.is_closing():
            return  # the end of the channel is reported to everybody by `_listen`
        writer.write(pack(message, largest=MAX_TO_WORKER_BYTES))
        if writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            problem = f"its process has left {MAX_UNREAD_BYTES} bytes unread"
            self._process.kill(problem)
            raise MessageInvalid(problem)

    async def _listen(self) -> None:
        """Receive what the process sends, to the end of its channel."""
        problem = "its process closed the channel"
        try:
            await self._read_messages()
        except (MessageInvalid, msgspec.MsgspecError) as error:
            problem = f"its process broke the protocol: {error}"
            self._process.kill(problem)
        except ConnectionError as error:
            problem = f"its channel broke: {error}"
        # An exit closes the channel first, and how it exited is the better reason.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_PATIENCE_S):
                await self._process.wait()
        if (returncode := self._process.returncode) is not None:
            problem += f" ({ExitReason.from_returncode(returncode)})"
        else:
            # Nothing can be done with it: it is ended for what it did, and that is told.
            self._process.kill(problem)
        self._lost = problem
        _fail(self._opened, AgentLost(problem))
        for turn in self._turns.values():
            turn.fail(AgentLost(problem))
        self._turns.clear()

    async def _read_messages(self) -> None:
        frames, received = Frames(largest=MAX_FROM_WORKER_BYTES), 0
        while piece := await self._process.reader.read(_AT_ONCE):
            for payload in frames.feed(piece):
                self._on_message(msgspec.msgpack.decode(payload, type=FromWorker))
                received += 1
                if received % YIELD_AFTER_MESSAGES == 0:
                    await asyncio.sleep(0)

    def _on_message(self, message: FromWorker) -> None:
        if isinstance(message, Opened):
            if not self._opened.done():
                self._opened.set_result(message)
        elif isinstance(message, OpenFailed):
            _fail(self._opened, _refusal(message.error, label=self._label))
        elif (turn := self._turns.get(message.turn)) is not None:
            turn.on_message(message)
            if isinstance(message, Finished):
                del self._turns[message.turn]


def _fail(future: asyncio.Future[Opened], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # read, so that it is not reported where nobody waits


def _refusal(error: RemoteError, *, label: str) -> Exception:
    """Return why a program was not opened: clients see the type, operators the text."""
    raised = local(error)
    if isinstance(raised, CreateFailed):
        return raised
    _log.error("session %s: its agent could not be opened", label, exc_info=raised)
    return CreateFailed(f"the agent could not be opened: {error.kind[:100]}")
