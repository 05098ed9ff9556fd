"""ACP agents: the blueprint kind `acp`, any program that speaks the Agent Client Protocol.

It decides what an agent's process may use and see, and what it may ask of the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from frontdesk.agents.errors import CreateFailed, start_error
from frontdesk.errors import InvalidArgument, MissingExtra
from frontdesk.keeper.errors import SpawnFailed

try:
    from frontdesk.agents.acp.agent import AcpAgent, Handover
except ImportError as _missing:
    raise MissingExtra(
        "acp", part="the blueprint kind acp", missing="agent-client-protocol"
    ) from _missing

from frontdesk.agents.acp.agent_session import AcpOptions, FormerSession
from frontdesk.agents.acp.home import Home
from frontdesk.agents.acp.mcp_servers import McpServer, check_variables
from frontdesk.agents.acp.own_directory import OwnDirectory
from frontdesk.agents.acp.prompt_blocks import ATTACHMENTS
from frontdesk.agents.acp.session_memory import SessionLeft, existing
from frontdesk.agents.acp.terminals import Terminals
from frontdesk.agents.acp.token_counts import SessionUsage
from frontdesk.agents.acp.workdir import WorkDir
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.ids import registry_key
from frontdesk.agents.process.factory import ProcessOptions
from frontdesk.agents.records import AgentOption, Memory, MemoryOutcome, Restored, SessionContext
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.environment import allowed_environment
from frontdesk.keeper.limits import check_limits
from frontdesk.keeper.messages import Command, SpawnRequest
from frontdesk.keeper.process import ManagedProcess

__all__ = ["KIND", "OPTIONS", "AcpAgentFactory", "AcpOptions", "McpServer", "acp_blueprint"]

KIND = "acp"

OPTIONS = frozenset({"working_dir", "user_data"})
"""What such a blueprint makes of a request: the protocol has no words for the rest."""

_log = logging.getLogger("frontdesk.agents.acp")


class AcpAgentFactory:
    """Start a program for each session, and speak ACP with it.

    `command` is looked up in the gateway's own `PATH` and directory, never in a session's. `rules`
    say what its processes may use, terminals included. `acp.files` and `terminals` open what
    agents may ask of the gateway, in the session's working directory; files are read and written by
    the gateway's account, so agents under an account of their own have none. Raises
    `InvalidArgument` and `LimitUnenforceable` at once for what cannot be kept.
    """

    def __init__(
        self,
        keeper: Keeper,
        command: tuple[str, ...],
        *,
        rules: ProcessOptions | None = None,
        acp: AcpOptions | None = None,
        terminals: bool = False,
    ) -> None:
        self._rules, self._options = rules or ProcessOptions(), acp or AcpOptions()
        check_limits(self._rules.limits, account=self._rules.account)
        if not command or not command[0]:
            raise InvalidArgument("command", expected="a program and its arguments", got="nothing")
        files = self._options.files
        if self._rules.account is not None and files != "none":
            raise InvalidArgument("files", expected='"none" with an account', got=repr(files))
        self._keeper, self._command, self._terminals = keeper, command, terminals
        check_variables(self._options.mcp_servers)
        self._offered: tuple[AgentOption, ...] | None = None
        self._env = allowed_environment(self._rules.env, account=self._rules.account)

    def check(self, context: SessionContext) -> None:  # noqa: ARG002 - what it can do, it says itself
        """Refuse where the program is not installed."""
        self._program()

    async def start(self, context: SessionContext) -> AcpAgent:
        """Start the program and open a session in it; `CreateFailed`, `KeeperLost`.

        Costs what the program's own start costs: seconds, for some.
        """
        self._program()
        directories = await self._open_directories(context)
        try:
            return await self._start(context, directories)
        except BaseException:
            await asyncio.shield(directories.clear())
            raise

    async def restart(
        self, context: SessionContext, former: AcpAgent, restored: Restored | None
    ) -> tuple[AcpAgent, MemoryOutcome | None]:
        """Start the program again, in the directories of a former agent of the session.

        Its session is given back, where the program can; otherwise it begins anew, with what is
        `restored` before the next prompt.
        """
        await former.end(0.0)
        left = former.hand_over()
        try:
            agent = await self._start_again(context, left)
        except BaseException:
            former.take_back()
            raise
        return agent, None if restored is None else _recalled(agent, restored)

    async def restore(
        self, context: SessionContext, restored: Restored
    ) -> tuple[AcpAgent, MemoryOutcome]:
        """Start the program for a session that is not new, in the directories that it had here.

        Its session is given back, where the program can and it is this machine's; otherwise the
        history comes before the next prompt.
        """
        self._program()
        label = registry_key(context.tenant_id, context.session_id)
        found = SessionLeft.found_in(restored.memories, of=label)
        directories = await self._open_directories(context, found)
        try:
            agent = await self._start_again(context, directories)
        except BaseException:
            # What was there before is there for the next attempt.
            if found is None:
                await asyncio.shield(directories.clear())
            else:
                directories.leave()
            raise
        return agent, _recalled(agent, restored)

    async def forget(self, memories: Sequence[Memory], *, of: str) -> None:
        """Remove the directories that were made for a session without an agent. Never raises."""
        left = SessionLeft.found_in(memories, of=of)
        if left is None:
            return
        for path in (existing(left.workdir), existing(left.home)):
            if path is not None:
                with contextlib.suppress(OSError):
                    await OwnDirectory(prefix="", account=None, path=path).remove()

    def offered(self) -> tuple[AgentOption, ...] | None:
        """Return the options that the last agent had when it was started; None before the first."""
        return self._offered

    # -- within --------------------------------------------------------------------------------

    def _program(self) -> str:
        name = self._command[0]
        found = shutil.which(name, path=self._env.get("PATH"))
        if found is None:
            missing = SpawnFailed(name, stage="exec", problem="there is no such program")
            raise CreateFailed("the agent's program is not installed on this server") from missing
        return os.path.abspath(found)

    async def _start_again(self, context: SessionContext, left: Handover) -> AcpAgent:
        try:
            return await self._start(context, left)
        except CreateFailed:
            if left.session is None:
                raise
            # What it cannot open may be what it remembers.
            return await self._start(context, replace(left, session=None))

    async def _start(self, context: SessionContext, former: Handover) -> AcpAgent:
        label = registry_key(context.tenant_id, context.session_id)
        env = former.home.in_environment(self._env)
        process = await self._spawn(self._program(), env=env, cwd=former.workdir.path, label=label)
        agent = AcpAgent(
            process,
            former=former,
            options=self._options,
            terminals=self._terminals_of(label, env=env),
            label=label,
        )
        try:
            await agent.open(context.model, path=env.get("PATH"))
        except BaseException:
            await asyncio.shield(agent.end(0.0))
            raise
        self._offered = agent.offered
        return agent

    async def _open_directories(
        self, context: SessionContext, left: SessionLeft | None = None
    ) -> Handover:
        """Open a session's directories; those that were made for it before, as far as they are."""
        account = self._rules.account
        former = existing(left.workdir) if left is not None else None
        former_home = existing(left.home) if left is not None else None
        try:
            workdir = WorkDir(context.working_dir, account=account, former=former)
            try:
                home = Home(
                    self._options.home,
                    tenant_id=context.tenant_id,
                    homes=self._options.homes,
                    account=account,
                    former=former_home,
                )
            except OSError:
                await asyncio.shield(workdir.clear())
                raise
        except OSError as error:
            _log.error("session %s: %s", context.session_id, error)
            raise CreateFailed("the session's working directory cannot be used") from error
        usage = SessionUsage(self._options.usage)
        if left is None:
            return Handover(workdir=workdir, home=home, usage=usage)
        usage.restore(left.used, left.cost_usd)
        session = FormerSession.left(left)
        return Handover(workdir=workdir, home=home, session=session, usage=usage)

    async def _spawn(
        self, program: str, *, env: dict[str, str], cwd: str, label: str
    ) -> ManagedProcess:
        rules = self._rules
        command = Command(argv=(program, *self._command[1:]), env=env, account=rules.account)
        try:
            return await self._keeper.spawn(
                SpawnRequest(run=command, label=label, cwd=cwd, limits=rules.limits)
            )
        except SpawnFailed as error:
            _log.error("%s", error)
            raise start_error(error) from error

    def _terminals_of(self, label: str, *, env: dict[str, str]) -> Terminals | None:
        if not self._terminals:
            return None
        return Terminals(
            self._keeper,
            env=env,
            account=self._rules.account,
            limits=self._rules.limits,
            label=label,
        )


def _recalled(agent: AcpAgent, restored: Restored) -> MemoryOutcome:
    """Have an agent told what it does not know; say how much it knew of what is restored."""
    if agent.has_session_back:
        agent.recall(restored.unremembered)
        return "kept"
    agent.recall(None)
    return "kept" if restored.is_empty else "rebuilt"


def acp_blueprint(
    name: str,
    command: tuple[str, ...],
    *,
    keeper: Keeper,
    rules: ProcessOptions | None = None,
    acp: AcpOptions | None = None,
    terminals: bool = False,
    **fields: Any,
) -> Blueprint:
    """Make a blueprint of a program that speaks ACP; `fields` are fields of `Blueprint`.

    Raises `InvalidArgument` and `LimitUnenforceable` for what this system cannot keep.
    """
    factory = AcpAgentFactory(keeper, command, rules=rules, acp=acp, terminals=terminals)
    return Blueprint(
        name=name,
        kind=KIND,
        factory=factory,
        isolation="process",
        agent_options=factory.offered,
        **{"options": OPTIONS, "attachments": ATTACHMENTS, **fields},
    )
