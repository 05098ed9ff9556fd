"""The gateway's side of the keeper: `Keeper` starts it, sends requests, and handles its events.

The gateway talks with each process directly: the other end of a channel goes through the keeper as
a descriptor, its bytes do not. When the keeper dies its children die with it; this side sees to
that, and starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, assert_never

import msgspec

from frontdesk.background import in_own_thread
from frontdesk.keeper.connection import Connection
from frontdesk.keeper.errors import ForkServerFailed, KeeperLost, SpawnFailed
from frontdesk.keeper.journal import sweep_run
from frontdesk.keeper.messages import (
    MAX_PACKET_BYTES,
    Command,
    End,
    Exited,
    ForkServerSpec,
    Gone,
    KeeperEvent,
    KeeperRequest,
    Ready,
    Refused,
    Spawn,
    SpawnRequest,
    Started,
    Warm,
    Warmed,
)
from frontdesk.keeper.platform_needs import lacking
from frontdesk.keeper.process import ManagedProcess
from frontdesk.keeper.seqpacket import close_all
from frontdesk.keeper.stderr import StderrBudget
from frontdesk.keeper.streams import Channel, open_pipe_channel, open_socket_channel
from frontdesk.monitors.linux import require_own_proc

SPAWN_DEADLINE_S = 60.0
"""How long a spawn may take, the first imports of its fork server included."""

MAX_REPLACEMENTS = 3
REPLACEMENT_WINDOW_S = 60.0

_logger = logging.getLogger("frontdesk.keeper")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Starting:
    """A spawn under way: who waits, and what its process is spoken to through."""

    label: str
    channel: Channel
    answer: asyncio.Future[ManagedProcess]


class Keeper:
    """Start agent processes and see to it that none is ever left behind.

    An async context manager that belongs to one event loop. Leaving it ends every process at once
    (end them politely before, with `ManagedProcess.end`). The gateway's death, by whatever signal,
    ends them too. `journals` is a directory that outlives both: leftovers of a run in which gateway
    and keeper were killed together are ended at the next start. `hidden` is a directory that agents
    of this account are not to reach; `not_enforced` says where that cannot be had. A keeper that
    dies takes its processes with it and is replaced, at most 3 times in 60 s; until it is, and
    after that, `KeeperLost`.

    >>> import asyncio
    >>> from frontdesk.keeper.messages import Command, SpawnRequest
    >>> async def main():
    ...     async with Keeper() as keeper:
    ...         cat = await keeper.spawn(SpawnRequest(run=Command(argv=("/bin/cat",))))
    ...         cat.writer.write(b"hello")
    ...         cat.writer.write_eof()
    ...         return await cat.reader.read(), await cat.wait()
    >>> asyncio.run(main())
    (b'hello', 0)
    """

    def __init__(self, *, journals: Path | None = None, hidden: Path | None = None) -> None:
        self._journals, self._hidden = journals, hidden
        self._budget = StderrBudget()
        self._child_ids = itertools.count(1)
        self._request_ids = itertools.count(1)
        self._starting: dict[int, _Starting] = {}
        self._processes: dict[int, ManagedProcess] = {}
        self._warming: dict[int, asyncio.Future[Warmed]] = {}
        self._replacements: deque[float] = deque(maxlen=MAX_REPLACEMENTS)
        self._connection: Connection | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._problem = "it was not started"

    async def __aenter__(self) -> Self:
        if (problem := lacking()) is not None:
            self._problem = problem
            _logger.warning("there are no agents in processes: %s", problem)
        else:
            self._connection = await self._open_connection()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._problem = "it was closed"
        if self._replacing is not None:
            await self._replacing
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        self._forget_everything()
        self._budget.end_second()

    @property
    def pid(self) -> int | None:
        """Return the pid of the keeper's process, None while there is none."""
        return self._connection.process.pid if self._connection is not None else None

    @property
    def not_enforced(self) -> tuple[str, ...]:
        """Return what this system cannot keep agents from, in sentences; found out at the start."""
        return self._connection.not_enforced if self._connection is not None else ()

    def __len__(self) -> int:
        """Return the number of processes of which anything is left."""
        return len(self._processes)

    async def warm(self, server: ForkServerSpec, *, timeout_s: float = SPAWN_DEADLINE_S) -> str:
        """Start a fork server, and wait for its imports; `ForkServerFailed`, `KeeperLost`.

        Returns what its entry tells of itself, "" where that is nothing.
        """
        request_id = next(self._request_ids)
        answer: asyncio.Future[Warmed] = asyncio.get_running_loop().create_future()
        self._warming[request_id] = answer
        try:
            self._send_request(Warm(request_id, server))
            async with asyncio.timeout(timeout_s):
                warmed = await answer
        except TimeoutError:
            warmed = Warmed(request_id, f"not done after {timeout_s:g} s")
        finally:
            self._warming.pop(request_id, None)
        if warmed.error is not None:
            raise ForkServerFailed(server.preload, problem=warmed.error, python=server.python)
        return warmed.description

    async def spawn(
        self, request: SpawnRequest, *, timeout_s: float = SPAWN_DEADLINE_S
    ) -> ManagedProcess:
        """Start a process; return once it executes its program, or is about to be entered.

        `SpawnFailed` names the step that failed; `KeeperLost`. Whenever it does not return, nothing
        is left: no process, no descriptor. Costs a message there and back, and a fork.
        """
        child_id = next(self._child_ids)
        payload = _encode(Spawn(child_id, request))
        self._connected()
        try:
            is_command = isinstance(request.run, Command)
            open_channel = open_pipe_channel if is_command else open_socket_channel
            channel, descriptors = await open_channel(request.label, budget=self._budget)
        except OSError as error:
            raise SpawnFailed(request.label, stage="descriptors", problem=str(error)) from error
        answer: asyncio.Future[ManagedProcess] = asyncio.get_running_loop().create_future()
        self._starting[child_id] = _Starting(request.label, channel, answer)
        try:
            self._send(payload, descriptors)
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            self._abandon(child_id)
            problem = f"it did not run after {timeout_s:g} s"
            raise SpawnFailed(
                request.label, stage="request", problem=problem, may_pass=True
            ) from None
        except BaseException:
            self._abandon(child_id)
            raise

    # -- requests ------------------------------------------------------------------------------

    def _connected(self) -> Connection:
        if self._connection is None:
            raise KeeperLost(self._problem)
        return self._connection

    def _send(self, payload: bytes, descriptors: tuple[int, ...]) -> None:
        try:
            connection = self._connected()
        except KeeperLost:
            close_all(descriptors)
            raise
        connection.send(payload, descriptors)

    def _send_request(self, request: KeeperRequest) -> None:
        self._connected().send(msgspec.json.encode(request))

    def _request_end(self, child_id: int, grace_s: float) -> None:
        # A keeper that is gone takes its children with it, and `on_connection_lost` reports them.
        with contextlib.suppress(KeeperLost):
            self._send_request(End(child_id, grace_s))

    def _abandon(self, child_id: int) -> None:
        starting = self._starting.pop(child_id, None)
        if starting is not None:
            starting.channel.close()
            self._request_end(child_id, 0.0)
        elif (process := self._processes.get(child_id)) is not None:
            # It had just started when its caller was cancelled.
            process.kill()
            process.close()

    # -- events --------------------------------------------------------------------------------

    def on_event(self, event: KeeperEvent) -> None:
        """Handle an event of the keeper's."""
        match event:
            case Started():
                self._on_started(event)
            case Refused():
                if (starting := self._starting.get(event.child_id)) is not None:
                    failed = SpawnFailed(starting.label, stage=event.stage, problem=event.text)
                    _fail(starting.answer, failed)
            case Exited():
                if (process := self._processes.get(event.child_id)) is not None:
                    process.on_exited(event.returncode)
            case Gone():
                self._on_gone(event.child_id)
            case Warmed():
                warming = self._warming.get(event.request_id)
                if warming is not None and not warming.done():
                    warming.set_result(event)
            case Ready():
                pass
            case _:
                assert_never(event)

    def _on_started(self, event: Started) -> None:
        starting = self._starting.get(event.child_id)
        if starting is None or starting.answer.done():
            return  # abandoned meanwhile, and ended by that
        del self._starting[event.child_id]
        process = self._processes[event.child_id] = ManagedProcess(
            pid=event.pid,
            start_time=event.start_time,
            channel=starting.channel,
            end=lambda grace_s: self._request_end(event.child_id, grace_s),
        )
        starting.answer.set_result(process)

    def _on_gone(self, child_id: int) -> None:
        process = self._processes.pop(child_id, None)
        if process is not None:
            process.on_gone()

    # -- the keeper's own end ------------------------------------------------------------------

    def on_connection_lost(self) -> None:
        """Handle that the keeper is gone: end what it had, and start another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._problem = "it has just died and is being replaced"
            _logger.error("the keeper of agent processes died; its processes are ended")
            self._replacing = asyncio.create_task(self._replace(connection))

    async def _open_connection(self) -> Connection:
        try:
            # It finds the processes of an agent by number in /proc, and would kill a stranger's.
            require_own_proc()
        except OSError as error:
            raise KeeperLost(f"it cannot be started: {error.strerror}") from error
        return await Connection.open(self, journals=self._journals, hidden=self._hidden)

    async def _replace(self, connection: Connection) -> None:
        await connection.close()
        # Its children die with it by themselves; what descended from them does not.
        await in_own_thread(partial(sweep_run, connection.run), name="sweep")
        self._forget_everything()
        try:
            self._count_replacement()
            self._connection = await self._open_connection()
        except (KeeperLost, OSError) as error:
            self._problem = str(error)
            _logger.error("the keeper could not be replaced: %s", error)  # noqa: TRY400 - known

    def _count_replacement(self) -> None:
        now, earlier = time.monotonic(), self._replacements
        if len(earlier) == MAX_REPLACEMENTS and now - earlier[0] < REPLACEMENT_WINDOW_S:
            raise KeeperLost(f"it died over {MAX_REPLACEMENTS} times in {REPLACEMENT_WINDOW_S:g} s")
        earlier.append(now)

    def _forget_everything(self) -> None:
        for child_id in list(self._processes):
            self._on_gone(child_id)
        for starting in self._starting.values():
            _fail(starting.answer, KeeperLost(self._problem))
        for warming in self._warming.values():
            _fail(warming, KeeperLost(self._problem))


def _encode(spawn: Spawn) -> bytes:
    payload = msgspec.json.encode(spawn)
    if len(payload) > MAX_PACKET_BYTES:
        problem = f"{len(payload)} bytes of arguments and environment, {MAX_PACKET_BYTES} at most"
        raise SpawnFailed(spawn.request.label, stage="request", problem=problem)
    return payload


def _fail(future: asyncio.Future[_T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
