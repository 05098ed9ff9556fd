"""The connection to one ACP agent: requests with answers that are checked, and its end.

The SDK's connection matches answers to requests; this adds that an answer has the right shape, and
that an agent which can no longer be reached is killed, and lost for everybody who waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from acp.connection import Connection
from pydantic import BaseModel, ValidationError

from frontdesk.agents.acp.transport import AcpTransport
from frontdesk.agents.errors import AgentFailed, AgentLost
from frontdesk.keeper.process import ManagedProcess
from frontdesk.records import ExitReason

EXIT_PATIENCE_S = 1.0
"""How long an agent that has closed its output may take to exit by itself, and say its code."""

Answerer = Callable[[str, Any, bool], Awaitable[Any]]
"""Answers an agent's own requests: called with method, parameters, whether it is a notification."""

M = TypeVar("M", bound=BaseModel)


class AcpConnection:
    """Exchange messages with one agent. Made with its process; `close` it when that is gone."""

    def __init__(self, process: ManagedProcess, *, answer: Answerer, label: str) -> None:
        self._process = process
        self.transport: AcpTransport = AcpTransport(process, label=label)
        self._connection = Connection(answer, self.transport)
        self._problem: str | None = None
        self._watching = asyncio.create_task(self._watch_end(), name=f"frontdesk acp {label}")

    @property
    def lost(self) -> bool:
        """Say whether the agent can no longer be reached."""
        return self.transport.ended.is_set()

    async def request(self, method: str, params: BaseModel, answer: type[M]) -> M:
        """Ask the agent, and return its answer.

        `AgentLost` where it is gone; the SDK's `RequestError` where it answers with an error;
        `AgentFailed` where it answers with something else, which ends no session.
        """
        try:
            result = await self._connection.send_request(method, _params(params))
        except ConnectionError:
            raise AgentLost(await self._problem_text()) from None
        try:
            return answer.model_validate({} if result is None else result)
        except ValidationError as error:
            problem = f"its answer to {method} is none: {first_problem(error)}"
            raise AgentFailed(problem) from None

    async def notify(self, method: str, params: BaseModel) -> None:
        """Send the agent something that has no answer, if it is still there."""
        with contextlib.suppress(ConnectionError):
            await self._connection.send_notification(method, _params(params))

    async def abandon(self, problem: str) -> AgentLost:
        """Kill an agent with which nothing can be done; return the error to raise."""
        self.transport.abort(problem)
        return AgentLost(await self._problem_text())

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        self._watching.cancel()
        await asyncio.wait({self._watching})
        await self._connection.close()

    # -- within --------------------------------------------------------------------------------

    async def _watch_end(self) -> None:
        await self.transport.ended.wait()
        # An exit closes the output first, and how it exited is the better reason.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_PATIENCE_S):
                await self._process.wait()
        self._problem = self.transport.problem or "it closed its standard output"
        if (returncode := self._process.returncode) is not None:
            self._problem += f" ({ExitReason.from_returncode(returncode)})"
        self._process.kill(self._problem)

    async def _problem_text(self) -> str:
        await asyncio.wait({self._watching}, timeout=2 * EXIT_PATIENCE_S)
        return self._problem or self.transport.problem or "the connection to it was closed"


def first_problem(error: ValidationError) -> str:
    """Return what is wrong first with what an agent sent, without what it sent."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _params(params: BaseModel) -> dict[str, Any]:
    # All that was set is sent, defaults too: not every agent knows them.
    return params.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
