"""An agent's process: opens its program, runs the turns that the gateway sends, and then exits.

`prepare` finds the program in a fork server, which has done its imports once for all; `serve` is
entered in each fork of it with the socket to the gateway.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import signal
import socket
import traceback
from typing import Any, cast

import msgspec

from frontdesk.agents.blueprints import AuthorRules, Blueprint
from frontdesk.agents.json_memory import JsonMemory
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
    ProgramSource,
    RemoteError,
    RunTurn,
    ToWorker,
    pack,
    remote,
)
from frontdesk.agents.process.warm_up import warm_up
from frontdesk.agents.process.worker_turn import WorkerTurnPort
from frontdesk.agents.protocol import AgentFunction, Program
from frontdesk.agents.records import MemoryOutcome
from frontdesk.agents.targets import import_target
from frontdesk.agents.task import FunctionProgram, Reopened, TaskAgentFactory, drive
from frontdesk.agents.trace_context import traced_context
from frontdesk.agents.turn import EndSession
from frontdesk.errors import InvalidType

CLEAN_UP_S = 4.0
"""How long a turn that is cancelled by the session's end may take to clean up."""

MAX_TRACE_CHARACTERS = 8000
"""Characters of a traceback that reach the gateway's log: the last ones."""

_AT_ONCE = 256 * 1024


def prepare(source: str) -> Server:
    """Find the program that a `ProgramSource`, as JSON, is about; return what serves a session.

    Called once, in the fork server that the agents are forked from.
    """
    where = msgspec.json.decode(source, type=ProgramSource)
    found = import_target(where.target)
    if where.options is not None:
        found = found(**where.options)
    program = program_of(found, target=where.target)
    if where.warm_up_model is not None:
        warm_up(program, model=where.warm_up_model)
    return Server(program, description=msgspec.json.encode(AuthorRules.of(found)).decode())


class Server:
    """Serves a session with a program; `description` has the rules of its author, as JSON."""

    description: str

    def __init__(self, program: Program, *, description: str) -> None:
        self._program, self.description = program, description

    def __call__(self, channel: socket.socket) -> None:
        """Serve the session whose gateway is at the other end of the channel."""
        serve(self._program, channel)


def serve(program: Program, channel: socket.socket) -> None:
    """Serve the gateway with one session until it closes that or is gone."""
    with channel:
        asyncio.run(_Child(program, channel).serve())


def end_forks_by_signals() -> None:
    """Let signals end what this process forks, from its first moment, as they end any other."""
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def in_child() -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    os.register_at_fork(
        # One that comes before the child can be ended by it has to wait, or it would be lost.
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signals),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals),
        after_in_child=in_child,
    )


class _Child:
    """One session's agent, and what it has under way."""

    def __init__(self, program: Program, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._program, self._channel = program, channel
        self._frames = Frames(largest=MAX_TO_WORKER_BYTES)
        self._function: AgentFunction | None = None
        self._memory = JsonMemory()
        self._turns: dict[int, tuple[WorkerTurnPort, asyncio.Task[None]]] = {}
        self._closing = asyncio.Event()

    async def serve(self) -> None:
        """Receive what the gateway sends until the end."""
        loop = asyncio.get_running_loop()
        # Deaf to SIGTERM as its fork server is: that may be meant for a whole service whose gateway
        # still drains, and says itself when the session is over. What an agent forks is not.
        end_forks_by_signals()
        loop.add_reader(self._channel.fileno(), self._readable)
        await self._closing.wait()
        loop.remove_reader(self._channel.fileno())
        tasks = [task for _, task in self._turns.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLEAN_UP_S)

    def _readable(self) -> None:
        try:
            piece = self._channel.recv(_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            piece = b""
        if not piece:
            self._closing.set()
            return
        for payload in self._frames.feed(piece):
            self._on_message(msgspec.msgpack.decode(payload, type=ToWorker))

    def _on_message(self, message: ToWorker) -> None:
        match message:
            case Begin():
                self._begin(message)
            case RunTurn():
                self._run(message)
            case AbortTurn():
                if message.turn in self._turns:
                    self._turns[message.turn][1].cancel()
            case Close():
                self._closing.set()
            case _:
                if message.turn in self._turns:
                    self._turns[message.turn][0].on_message(message)

    # -- opening -------------------------------------------------------------------------------

    def _begin(self, begin: Begin) -> None:
        try:
            self._program.check(begin.context)
            outcome: MemoryOutcome | None = None
            if begin.restored is None:
                self._function = self._program.open(begin.context)
            else:
                reopened = Reopened(self._program, begin.context, begin.restored)
                self._function, outcome = reopened.function, reopened.outcome
                self._memory = reopened.memory or self._memory
        except Exception as error:  # noqa: BLE001 - whatever it is, the gateway gets it
            self._send(OpenFailed(_remote_error(error)))
        else:
            self._send(Opened(outcome, getattr(self._program, "suspends", None)))

    # -- turns ---------------------------------------------------------------------------------

    def _run(self, run: RunTurn) -> None:
        assert self._function is not None, "a turn came before the session was opened"
        port = WorkerTurnPort(run, self._send)
        # In the trace that the turn is part of.
        context = traced_context(run.context.traceparent)
        task = asyncio.create_task(drive(self._function, port, self._memory), context=context)
        self._turns[run.turn] = port, task
        task.add_done_callback(lambda _: self._finished(run.turn))

    def _finished(self, number: int) -> None:
        port, task = self._turns.pop(number)
        port.close()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._send(Finished(number, None if error is None else _remote_error(error)))

    # -- sending -------------------------------------------------------------------------------

    def _send(self, message: FromWorker) -> None:
        # Blocking where the gateway is slow: it is this agent alone that then waits, and its
        # memory does not fill with what it says.
        left = memoryview(pack(message, largest=MAX_FROM_WORKER_BYTES))
        while left:
            try:
                left = left[self._channel.send(left) :]
            except (BlockingIOError, InterruptedError):
                room = select.poll()
                room.register(self._channel, select.POLLOUT)
                room.poll()
            except OSError:
                self._closing.set()  # the gateway has gone: so does this process
                return


def _remote_error(error: BaseException) -> RemoteError:
    if isinstance(error, EndSession | asyncio.CancelledError):
        return remote(error)
    return remote(error, trace="".join(traceback.format_exception(error))[-MAX_TRACE_CHARACTERS:])


def program_of(found: Any, *, target: str) -> Program:
    """Return the program that a target turned out to be; `InvalidType` where it is none."""
    if isinstance(found, Blueprint) and isinstance(found.factory, TaskAgentFactory):
        return found.factory.program
    if inspect.isasyncgenfunction(found) or inspect.iscoroutinefunction(found):
        return FunctionProgram(found)
    verbs = (getattr(found, "open", None), getattr(found, "check", None))
    if not inspect.isclass(found) and all(callable(verb) for verb in verbs):
        return cast("Program", found)
    raise InvalidType(
        target,
        expected="a blueprint, a program or an agent function",
        got=type(found).__name__,
    )
