"""The connection that carries the calls of one event loop.

A task owns it. What one tick of the loop asks goes out as one pipeline, and what is asked while
that is answered goes out as the next; creates, and reservations, that follow each other are one
script there. Nobody else touches the connection, so a caller who is cancelled drops its future and
nothing else.

A call has two seconds. Within them a connection that fails is made anew, and what was asked on it
is asked again: every verb comes out the same the second time, or says that it does not
(`ScriptCall.again`). Once the engine has been away for that long, calls fail at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from frontdesk.cluster.errors import EngineRefused, EngineUnavailable
from frontdesk.cluster.valkey.calls import (
    Reply,
    ScriptAnswer,
    ScriptCall,
    answers_to,
    packed,
    packed_caller,
    words_of,
)
from frontdesk.cluster.valkey.connecting import (
    FAILURES,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    connect,
    unavailable,
)
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.cluster.valkey.keys import COMMANDS, key
from frontdesk.cluster.valkey.lua import script

__all__ = ["DEADLINE_S", "CallConnection"]

T = TypeVar("T")

DEADLINE_S = 1.8
"""So long a call waits for its answer. Errors are promised within two seconds."""

STALL_S = 0.8
"""A connection on which nothing comes for so long is given up: there is time for another."""

IDLE_S = 0.005
"""A connection that was not used for so long may have been closed by the server meanwhile."""

MAX_WAITING = 10_000
"""So many calls wait at most; more are refused at once."""

MAX_PIPELINE = 500
"""So many calls go out together at most."""

MAX_JOINT = 50
"""So many creates or reservations go as one call at most, which takes a millisecond or two."""

FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.5
"""Between two attempts to connect: twice as long each time, and by chance half of that."""

_log = logging.getLogger("frontdesk")


@dataclass(slots=True, eq=False)
class _Waiting:
    call: ScriptCall[Any]
    reply: asyncio.Future[ScriptAnswer]
    deadline_s: float


_Group = list[_Waiting]
"""What goes as one command: a call, or several joint ones of one verb."""


class CallConnection:
    """Carry calls to the engine. Belongs to one event loop; opened and closed by its owner.

    Attributes:
        known (int): The highest revision that it heard of.
    """

    def __init__(self, address: EngineAddress) -> None:
        self.known: int = 0
        self._address, self._meta = address, key(address.prefix, "meta")
        self._queue: deque[_Waiting] = deque()
        self._by_deadline: deque[_Waiting] = deque()
        self._asked = asyncio.Event()
        self._clock: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._silent_since_s: float | None = None  # while an answer is due
        self._is_stalled = False
        self._down_since_s: float | None = None
        self._problem: EngineUnavailable | EngineRefused = EngineUnavailable("it is not connected")

    async def open(self) -> None:
        """Connect; raises `EngineRefused`, and `EngineUnavailable` where it cannot be reached."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                connection, status = await connect(self._address, timeout_s=STALL_S)
                try:
                    await self._check_account(connection)
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
        except TimeoutError:
            raise EngineUnavailable("it does not answer") from None
        except FAILURES as error:
            raise unavailable(error) from None
        status.warn(str(self._address))
        self._connection = connection
        self._task = asyncio.create_task(self._run(status.run_id), name="engine calls")

    async def _check_account(self, connection: Any) -> None:
        """Find out what it may not do: a script that is stopped in its middle is half done."""
        asked = script("admission")
        try:
            await connection.send_command("SCRIPT LOAD", asked.text)
            await connection.read_response()
            await connection.send_command("EVALSHA", asked.sha, 1, self._meta, *COMMANDS)
            refused = [command.decode() for command in await connection.read_response()]
        except NoPermissionError:
            refused = list(COMMANDS)
        if refused:
            account, prefix = self._address.user or "default", self._address.prefix
            rules = " ".join(f"+{command}" for command in refused)
            raise EngineRefused(
                f"the account {account!r} may not do all that is needed: "
                f"ACL SETUSER {account} ~{key(prefix, '*')} {rules}"
            )

    async def close(self) -> None:
        """Close it; whoever waits is told `EngineUnavailable`."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await self._disconnect()
        if self._clock is not None:
            self._clock.cancel()
        self._problem = EngineUnavailable("it is not connected")
        self._down_since_s = float("-inf")
        _fail(self._by_deadline, self._problem)
        self._queue.clear()

    async def ask(self, call: ScriptCall[T]) -> T:
        """Return a verb's result. Raises what it is refused with, or `EngineUnavailable`."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._down_since_s is not None and now_s - self._down_since_s > DEADLINE_S:
            raise copy(self._problem)
        if len(self._queue) >= MAX_WAITING:
            raise EngineUnavailable(f"{MAX_WAITING} calls wait for it already")
        waiting = _Waiting(call, loop.create_future(), now_s + DEADLINE_S)
        self._queue.append(waiting)
        while self._by_deadline and self._by_deadline[0].reply.done():
            self._by_deadline.popleft()
        self._by_deadline.append(waiting)
        self._asked.set()
        if self._clock is None:
            self._clock = loop.call_at(now_s + STALL_S, self._check_waiting)
        answer = await waiting.reply
        if answer.revision > self.known:
            self.known = answer.revision
        return call.outcome(answer)

    def _check_waiting(self) -> None:
        """Fail what has waited too long, and give up a connection that is silent for too long.

        All wait equally long, so the first is the next. One timer for all of them, which is moved
        when it fires: two of its own would cost a call a tenth of its time.
        """
        loop = asyncio.get_running_loop()
        waiting, now_s = self._by_deadline, loop.time()
        while waiting and (waiting[0].reply.done() or waiting[0].deadline_s <= now_s):
            _fail([waiting.popleft()], self._problem_of_now())
        if not waiting:
            self._clock = None
            return
        next_s = waiting[0].deadline_s
        if self._silent_since_s is not None and self._task is not None:
            stalled_s = self._silent_since_s + STALL_S
            if stalled_s <= now_s:
                self._is_stalled = self._task.cancel()
            else:
                next_s = min(next_s, stalled_s)
        self._clock = loop.call_at(next_s, self._check_waiting)

    def _problem_of_now(self) -> Exception:
        if self._down_since_s is None:
            return EngineUnavailable(f"it has not answered for {DEADLINE_S:g} s")
        return self._problem

    # -- the connection --------------------------------------------------------------------------

    async def _run(self, run_id: str) -> None:
        """Carry calls for ever, on one connection after another."""
        while True:
            try:
                await self._carry(self._connection, run_id)
            except (*FAILURES, EngineUnavailable) as error:
                self._lost(error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._is_stalled or task is None or task.uncancel():
                    raise  # it is closed
                self._is_stalled = False
                self._lost(TimeoutError(f"nothing came for {STALL_S:g} s"))
            await self._disconnect()
            self._connection, run_id = await self._reconnected()

    async def _disconnect(self) -> None:
        with suppress(*FAILURES):
            await self._connection.disconnect(nowait=True)

    async def _reconnected(self) -> tuple[Any, str]:
        pause_s = FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads nodes out
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
            try:
                connection, status = await connect(self._address, timeout_s=STALL_S)
            except (*FAILURES, EngineUnavailable, EngineRefused) as error:
                self._lost(error)
                continue
            _log.warning(
                "the engine at %s answers again",
                self._address,
                extra={"event": "engine_changed", "state": "answers"},
            )
            self._down_since_s = None
            return connection, status.run_id

    def _lost(self, error: Exception) -> None:
        if isinstance(error, EngineUnavailable | EngineRefused):
            self._problem = error
        else:
            self._problem = unavailable(error)
        if self._down_since_s is None:
            self._down_since_s = asyncio.get_running_loop().time()
            _log.warning(
                "the engine at %s is lost: %s",
                self._address,
                self._problem,
                extra={"event": "engine_changed", "state": "lost"},
            )

    async def _carry(self, connection: Any, run_id: str) -> None:
        """Send what is asked and hand out the answers, until the connection fails."""
        loop = asyncio.get_running_loop()
        used_s = loop.time()
        while True:
            await self._asked.wait()
            if loop.time() - used_s > IDLE_S:
                await asyncio.sleep(0)  # the end of a connection that was idle is read before
            if await connection.can_read():  # nothing was asked: it is the end
                raise EngineUnavailable("the connection was closed")
            batch = self._next_batch()
            self._silent_since_s = loop.time()
            try:
                await self._exchange(connection, run_id, batch)
            except BaseException:
                self._ask_again(batch)
                raise
            finally:
                self._silent_since_s = None
            used_s = loop.time()
            if not self._queue:
                self._asked.clear()

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._queue and len(batch) < MAX_PIPELINE:
            waiting = self._queue.popleft()
            if not waiting.reply.done():
                batch.append(waiting)
        return batch

    def _ask_again(self, batch: list[_Waiting]) -> None:
        """Queue what was not answered again, as it stood; fail what must not be asked twice."""
        unanswered = [waiting for waiting in batch if not waiting.reply.done()]
        lost = EngineUnavailable("the connection was lost before it answered")
        _fail((waiting for waiting in unanswered if not waiting.call.again), lost)
        self._queue.extendleft(waiting for waiting in reversed(unanswered) if waiting.call.again)
        self._asked.set()

    async def _exchange(self, connection: Any, run_id: str, batch: list[_Waiting]) -> None:
        """Send a pipeline and hand out its answers; scripts that the server forgot are loaded."""
        forgotten = await self._pipeline(connection, run_id, _grouped(batch))
        if forgotten:
            texts = {group[0].call.script.sha: group[0].call.script.text for group in forgotten}
            for text in texts.values():
                await connection.send_command("SCRIPT LOAD", text)
                await connection.read_response()
            for group in await self._pipeline(connection, run_id, forgotten):
                self._ask_again(group)

    async def _pipeline(self, connection: Any, run_id: str, groups: list[_Group]) -> list[_Group]:
        """Send each group as one command, and hand out answers as they come.

        Returns the groups whose script the server does not know.
        """
        caller, meta, forgotten = packed_caller(run_id, self.known), self._meta, []
        words = (words_of([one.call for one in group], meta, caller) for group in groups)
        await connection.send_packed_command(b"".join(map(packed, words)), check_health=False)
        is_replica = False
        for number, group in enumerate(groups):
            if number % 16 == 15:
                self._silent_since_s = asyncio.get_running_loop().time()
            try:
                reply = await connection.read_response(disable_decoding=True)
            except NoScriptError:
                forgotten.append(group)
            except ResponseError as error:
                is_replica |= isinstance(error, ReadOnlyError)
                _fail(group, refusal_of(error))
            else:
                _hand_out(group, reply)
        if is_replica:
            raise EngineUnavailable("the server is a replica, and takes no writes")
        return forgotten


def _grouped(batch: list[_Waiting]) -> list[_Group]:
    """Put joint calls that follow each other together; the order stays."""
    groups: list[_Group] = []
    for waiting in batch:
        call, last = waiting.call, groups[-1] if groups else []
        if call.joint and last and last[0].call.script is call.script and len(last) < MAX_JOINT:
            last.append(waiting)
        else:
            groups.append([waiting])
    return groups


def _hand_out(group: _Group, reply: Reply) -> None:
    answers = answers_to([one.call for one in group], reply)
    for waiting, answer in zip(group, answers, strict=True):
        if not waiting.reply.done():
            waiting.reply.set_result(answer)


def refusal_of(error: ResponseError) -> EngineUnavailable | EngineRefused:
    """Return our error for one that a server answered with: it has done nothing."""
    problem = unavailable(error)
    if "can't run this command" in str(error) or "can't access" in str(error):
        return EngineRefused(f"its account may not do what is needed: {problem.problem}")
    return problem


def raise_as_ours(error: BaseException) -> NoReturn:
    """Raise what a connection failed with as our error, where it is one that it fails with.

    Nobody has just been started: what an engine refuses later may be mended, and is tried again.
    """
    if isinstance(error, ResponseError):
        error = refusal_of(error)
    elif isinstance(error, FAILURES):
        error = unavailable(error)
    if isinstance(error, EngineRefused):
        error = EngineUnavailable(error.problem)
    raise error


def _fail(waiting: Iterable[_Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.reply.done():
            one.reply.set_exception(copy(error))  # each is raised, and has a traceback
