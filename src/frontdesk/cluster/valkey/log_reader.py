"""The connection that reads the log: nothing else waits on it, so it may block in the server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

from frontdesk.cluster.records import LogPage
from frontdesk.cluster.valkey import verbs
from frontdesk.cluster.valkey.calls import ScriptCall, packed_caller
from frontdesk.cluster.valkey.connecting import FAILURES, NoScriptError, connect
from frontdesk.cluster.valkey.driver import STALL_S, raise_as_ours
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.cluster.valkey.keys import key

__all__ = ["LogReader"]

T = TypeVar("T")


class LogReader:
    """Read the log, one call after another. Belongs to one event loop.

    The server says when there is something, the script says what: its answer has era and head, so
    that a cursor from before a wipe is found out, at the latest when a wait is over.

    Attributes:
        known (int): The highest revision that it heard of.
    """

    def __init__(self, address: EngineAddress) -> None:
        self.known: int = 0
        self._address = address
        self._meta, self._log = key(address.prefix, "meta"), key(address.prefix, "log")
        self._connection: Any = None
        self._run_id = ""
        self._one_at_a_time = asyncio.Lock()

    async def follow(self, after: int, *, era: int, limit: int, wait_s: float) -> LogPage:
        """Return what comes after a revision, or an empty page after `wait_s`."""
        call = verbs.follow(after, era=era, limit=limit)
        async with self._one_at_a_time:
            for again in (self._connection is not None, False):
                try:
                    return await self._page(call, after, wait_s)
                except BaseException as error:  # noqa: BLE001 - each is raised, most as ours
                    await self.close()
                    # A connection from before may be one to a server that is gone.
                    if not again or not isinstance(error, FAILURES):
                        raise_as_ours(error)
        raise AssertionError("the last attempt returns or raises")

    async def _page(self, call: ScriptCall[LogPage], after: int, wait_s: float) -> LogPage:
        page = await self._ask(call)
        if not page.changes and not page.gap and wait_s > 0:
            await self._wait(after, wait_s)
            page = await self._ask(call)
        return page

    async def close(self) -> None:
        """Close it; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAILURES):
                await connection.disconnect(nowait=True)

    async def _ask(self, call: ScriptCall[T]) -> T:
        if self._connection is None:
            self._connection, status = await connect(self._address, timeout_s=STALL_S)
            self._run_id = status.run_id
        words = call.words(self._meta, packed_caller(self._run_id, self.known))
        async with asyncio.timeout(STALL_S):
            try:
                reply = await self._exchange(*words)
            except NoScriptError:
                await self._exchange("SCRIPT LOAD", call.script.text)
                reply = await self._exchange(*words)
        answer = call.answer(reply)
        self.known = max(self.known, answer.revision)
        return call.outcome(answer)

    async def _wait(self, after: int, wait_s: float) -> None:
        """Wait until there is an entry beyond a revision, or until the time is over."""
        block = max(1, round(wait_s * 1000))
        async with asyncio.timeout(wait_s + STALL_S):
            await self._exchange(
                "XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", self._log, f"{after}-0"
            )

    async def _exchange(self, *words: str | bytes | int) -> Any:
        await self._connection.send_command(*words, check_health=False)
        return await self._connection.read_response(disable_decoding=True)
