"""How a blueprint makes agents that live in processes of their own, whatever its program is.

It decides what a process may use and see: its limits, its account, its environment.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from frontdesk.agents.blueprints import AuthorRules
from frontdesk.agents.errors import start_error
from frontdesk.agents.ids import registry_key
from frontdesk.agents.process.agent import ProcessAgent
from frontdesk.agents.process.messages import ProgramSource
from frontdesk.agents.protocol import Program
from frontdesk.agents.records import MemoryOutcome, Restored, SessionContext
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.environment import allowed_environment, search_path
from frontdesk.keeper.errors import ForkServerFailed, KeeperLost, SpawnFailed
from frontdesk.keeper.limits import check_limits
from frontdesk.keeper.messages import Fork, ForkServerSpec, ProcessLimits, SpawnRequest
from frontdesk.keeper.modules_behind import directories_behind

_ENTRY = "frontdesk.agents.process.worker"

_log = logging.getLogger("frontdesk.agents")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOptions:
    """What an operator may set about the processes of a blueprint.

    `env` names variables (shell-style patterns) that its agents get beyond the harmless ones: the
    provider's key, for instance. `account` is a system account of their own, where the gateway runs
    as root; its files, the interpreter included, must be readable to it.
    """

    limits: ProcessLimits = field(default_factory=ProcessLimits)
    env: tuple[str, ...] = ()
    account: str | None = None


def fork_server(
    source: ProgramSource,
    *,
    rules: ProcessOptions,
    python: str | None = None,
    preload: Iterable[str] = (),
) -> ForkServerSpec:
    """Return what the agents of a program are forked from, in `python` if that is another."""
    return ForkServerSpec(
        entry=f"{_ENTRY}:prepare",
        argument=msgspec.json.encode(source).decode(),
        preload=(_ENTRY, source.module, *preload),
        path=search_path() if python is None else (),
        behind=directories_behind(),
        env=allowed_environment(rules.env, account=rules.account),
        account=rules.account,
        python=None if python is None else located(python),
    )


def located(interpreter: str) -> str:
    """Return the absolute path of an interpreter; a bare name is looked for as a shell does.

    Links are not followed: a virtual environment is known by the link to its Python.
    """
    if os.sep not in interpreter:
        interpreter = shutil.which(interpreter) or interpreter
    return os.path.abspath(interpreter)


class ProcessAgentFactory:
    """Fork an agent for each session from a process that has done the program's imports.

    Raises `LimitUnenforceable` and `InvalidArgument` at once for rules that this system cannot
    keep. `program` is the same program on this side, where there is one to ask before a session is
    made or its model is switched; otherwise its process alone is asked, when it opens. `python` is
    an interpreter for the processes that is not this one's: it has its own packages, of which
    msgspec must be one, and none of ours but this.
    """

    def __init__(
        self,
        keeper: Keeper,
        source: ProgramSource,
        *,
        rules: ProcessOptions | None = None,
        program: Program | None = None,
        preload: Iterable[str] = (),
        python: str | None = None,
    ) -> None:
        rules = rules or ProcessOptions()
        check_limits(rules.limits, account=rules.account)
        self._keeper, self._rules, self._program = keeper, rules, program
        self._description: str | None = None
        self.fork_server: ForkServerSpec = fork_server(
            source, rules=rules, python=python, preload=preload
        )

    async def warm(self) -> None:
        """Do the program's imports now, instead of for the first session; `ForkServerFailed`."""
        self._description = await self._keeper.warm(self.fork_server)

    @property
    def known(self) -> bool:
        """Say whether its program's imports are done, so that `author_rules` are at hand."""
        return self._description is not None

    async def author_rules(self) -> AuthorRules:
        """Return the rules that the program's author wrote; `CreateFailed`, `KeeperLost`."""
        if self._description is None:
            try:
                await self.warm()
            except ForkServerFailed as error:
                _log.error("%s", error)
                raise start_error(
                    SpawnFailed("", stage="forkserver", problem=error.problem)
                ) from error
        return msgspec.json.decode(self._description or "{}", type=AuthorRules)

    def check(self, context: SessionContext) -> None:
        """Ask the program, where it is at hand on this side."""
        if self._program is not None:
            self._program.check(context)

    async def start(self, context: SessionContext) -> ProcessAgent:
        """Start a process and open the program in it; `CreateFailed`.

        Costs a fork and two messages there and back, once the fork server is warm.
        """
        return await self._start(context, restored=None)

    async def restore(
        self, context: SessionContext, restored: Restored
    ) -> tuple[ProcessAgent, MemoryOutcome]:
        """Start a process and open the program in it for a session that is not new; as `start`."""
        agent = await self._start(context, restored=restored)
        return agent, agent.memory

    async def _start(self, context: SessionContext, *, restored: Restored | None) -> ProcessAgent:
        label = registry_key(context.tenant_id, context.session_id)
        request = SpawnRequest(
            run=Fork(server=self.fork_server),
            label=label,
            cwd=context.working_dir,
            limits=self._rules.limits,
        )
        try:
            process = await self._keeper.spawn(request)
        except SpawnFailed as error:
            _log.error("%s", error)
            raise start_error(error) from error
        except KeeperLost as error:
            # Not the caller's fault, and it passes: the gateway answers 503.
            _log.error("%s", error)
            raise
        return await ProcessAgent.open(process, context=context, label=label, restored=restored)
