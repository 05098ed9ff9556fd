"""An agent that speaks the Agent Client Protocol, in a process of its own: the gateway's end of it.

A `RunningAgent`. It opens the agent's session, sends it one prompt after another, cancels, and ends
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acp.exceptions import RequestError
from acp.meta import AGENT_METHODS, PROTOCOL_VERSION
from acp.schema import (
    AuthenticateRequest,
    AuthenticateResponse,
    CancelNotification,
    Implementation,
    InitializeRequest,
    InitializeResponse,
    NewSessionRequest,
    NewSessionResponse,
    PromptRequest,
    PromptResponse,
    SetSessionConfigOptionResponse,
    SetSessionConfigOptionSelectRequest,
    TextContentBlock,
)

from frontdesk._version import __version__
from frontdesk.agents.acp.client_methods import ClientMethods, FileAccess
from frontdesk.agents.acp.connection import AcpConnection
from frontdesk.agents.acp.home import Home, HomeKind
from frontdesk.agents.acp.model_choice import ModelChoice
from frontdesk.agents.acp.terminals import Terminals
from frontdesk.agents.acp.updates import ReportedCost, UpdateTranslator
from frontdesk.agents.acp.workdir import WorkDir
from frontdesk.agents.errors import AgentFailed, AgentLost, CreateFailed, ModelRefused
from frontdesk.agents.turn import TurnPort
from frontdesk.keeper.process import ManagedProcess, ManagedProcessRef

_AUTH_REQUIRED = -32000

_log = logging.getLogger("frontdesk.agents.acp")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpOptions:
    """What an operator sets for an agent. Durations are in seconds.

    `start_timeout_s` bounds everything up to its first prompt; `cancel_patience_s` is how long the
    next turn waits for one that was aborted and has not ended. `auth_method` is the id of the
    method that it is to log in by, where one has to be named. `home` says whose `HOME` it has: its
    tenant's, under `homes` (without which it is the session's), the session's own, or the
    operator's, shared by all tenants.
    """

    files: FileAccess = "none"
    auth_method: str | None = None
    start_timeout_s: float = 30.0
    cancel_patience_s: float = 30.0
    home: HomeKind = "tenant"
    homes: Path | None = None


class AcpAgent:
    """One ACP agent and its one session. Made by `open`; belongs to one event loop."""

    def __init__(
        self,
        process: ManagedProcess,
        *,
        workdir: WorkDir,
        home: Home,
        options: AcpOptions,
        terminals: Terminals | None,
        label: str,
    ) -> None:
        self._process, self._workdir, self._options = process, workdir, options
        self._home = home
        self._terminals, self._label = terminals, label
        self._methods = ClientMethods(workdir=workdir, files=options.files, terminals=terminals)
        self._connection = AcpConnection(process, answer=self._methods.answer, label=label)
        self._cost = ReportedCost()
        self._session_id = ""
        self._models: ModelChoice | None = None
        self._prompting: asyncio.Task[PromptResponse] | None = None

    @property
    def registry_agent(self) -> ManagedProcessRef:
        """Return the reference by which the registry watches the process."""
        return self._process.ref

    # -- opening -------------------------------------------------------------------------------

    async def open(self, model: str) -> None:
        """Open the agent's session with this model; `CreateFailed`: then `end` the agent."""
        deadline_s = self._options.start_timeout_s
        try:
            async with asyncio.timeout(deadline_s):
                await self._initialize()
                await self._open_session()
                await self._select_model(model)
        except TimeoutError:
            raise CreateFailed(f"the agent was not ready after {deadline_s:g} s") from None
        except AgentLost as error:
            _log.error("session %s: %s", self._label, error)
            raise CreateFailed("the agent failed as it was opened") from error
        except RequestError as error:
            _log.error("session %s: %s", self._label, refusal(error))
            if error.code == _AUTH_REQUIRED:
                raise CreateFailed("the agent is not logged in") from error
            raise CreateFailed(f"the agent refused to open a session ({error.code})") from error

    async def _initialize(self) -> None:
        answer = await self._connection.request(
            AGENT_METHODS["initialize"],
            InitializeRequest(
                protocol_version=PROTOCOL_VERSION,
                client_capabilities=self._methods.capabilities,
                client_info=Implementation(name="frontdesk", version=__version__),
            ),
            InitializeResponse,
        )
        if answer.protocol_version != PROTOCOL_VERSION:
            raise CreateFailed(
                f"the agent speaks version {answer.protocol_version} of the Agent Client Protocol, "
                f"this server speaks {PROTOCOL_VERSION}"
            )
        if self._options.auth_method is not None:
            request = AuthenticateRequest(method_id=self._options.auth_method)
            await self._connection.request(
                AGENT_METHODS["authenticate"], request, AuthenticateResponse
            )

    async def _open_session(self) -> None:
        request = NewSessionRequest(cwd=self._workdir.path, mcp_servers=[])
        answer = await self._connection.request(
            AGENT_METHODS["session_new"], request, NewSessionResponse
        )
        self._session_id = self._methods.session_id = answer.session_id
        self._models = ModelChoice.among(answer.config_options)

    async def _select_model(self, model: str) -> None:
        """Have the agent answer with a model, where it offers a choice of them."""
        offered = self._models
        if offered is None:
            return
        value = offered.value_of(model)
        if value is None:
            raise ModelRefused(model, problem=f"the agent has {offered}")
        if value == offered.current:
            return
        request = SetSessionConfigOptionSelectRequest(
            session_id=self._session_id, config_id=offered.option_id, value=value
        )
        await self._connection.request(
            AGENT_METHODS["session_set_config_option"], request, SetSessionConfigOptionResponse
        )
        offered.current = value

    # -- turns ---------------------------------------------------------------------------------

    async def run_turn(self, port: TurnPort) -> None:
        """Run one turn; `AgentLost` where the agent is gone, or deaf to the last abort."""
        await self._await_previous_turn()
        translator = UpdateTranslator(port, cost=self._cost)
        self._methods.translator = translator
        self._connection.transport.set_turn_running(True)
        texts = [port.context.text]
        try:
            while texts:
                await self._select_model(port.model)
                translator.on_response(await self._prompt("\n\n".join(texts), translator))
                texts = port.steering()  # what came meanwhile is the next step
        except RequestError as error:
            raise AgentFailed(refusal(error)) from error
        finally:
            if self._methods.translator is translator:
                self._methods.translator = None
                self._connection.transport.set_turn_running(False)
            translator.close()

    async def _prompt(self, text: str, translator: UpdateTranslator) -> PromptResponse:
        request = PromptRequest(
            session_id=self._session_id, prompt=[TextContentBlock(type="text", text=text)]
        )
        prompting = self._prompting = asyncio.create_task(
            self._connection.request(AGENT_METHODS["session_prompt"], request, PromptResponse)
        )
        prompting.add_done_callback(_retrieve)
        try:
            await asyncio.wait({prompting})
        except asyncio.CancelledError:
            await self._cancel(prompting, translator)
            raise
        return prompting.result()

    async def _cancel(
        self, prompting: asyncio.Task[PromptResponse], translator: UpdateTranslator
    ) -> None:
        """Have the agent stop, and wait until it has; whoever aborts cancels that as well."""
        translator.cancel_approvals()
        notice = CancelNotification(session_id=self._session_id)
        await self._connection.notify(AGENT_METHODS["session_cancel"], notice)
        await asyncio.wait({prompting})
        error = prompting.exception()
        if isinstance(error, AgentLost):
            raise error from None
        if error is None:
            translator.add_usage(prompting.result())

    async def _await_previous_turn(self) -> None:
        """Wait for a turn that was aborted; what it still sends is nobody's."""
        previous = self._prompting
        if previous is None or previous.done():
            return
        await asyncio.wait({previous}, timeout=self._options.cancel_patience_s)
        if not previous.done():
            raise await self._connection.abandon("it does not end a turn that was aborted")

    # -- the end -------------------------------------------------------------------------------

    async def end(self, grace_s: float) -> None:
        """Close the agent's input, then end it with everything that descended from it."""
        if grace_s > 0 and not self._connection.lost:
            grace_s /= 2
            writer = self._process.writer
            with contextlib.suppress(OSError, RuntimeError, TimeoutError):
                if not writer.is_closing():
                    writer.write_eof()
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
        if not await self._process.end(grace_s):
            _log.error("session %s: something of its agent could not be killed", self._label)
        await self._connection.close()
        if self._terminals is not None:
            await self._terminals.end()
        await self._workdir.clear()
        await self._home.clear()


def refusal(error: RequestError) -> str:
    """Return what an agent answered when it refused, for operators."""
    more = f": {str(error.data)[:1000]}" if error.data else ""
    return f"the agent answered {error.code} ({str(error)[:1000]}){more}"


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Read how a task ended, as nobody may wait for it any more."""
    if not task.cancelled():
        task.exception()
