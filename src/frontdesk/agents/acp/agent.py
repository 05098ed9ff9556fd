"""An agent that speaks the Agent Client Protocol, in a process of its own: the gateway's end of it.

Implements `RunningAgent` above the link, the requests and the telling; beside `process_agent.py`.
It opens the agent's session, asks it one prompt after another, cancels, and ends it. It knows
nothing of the registry and of restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
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
from frontdesk.agents.acp.model_choice import ModelChoice
from frontdesk.agents.acp.terminals import Terminals
from frontdesk.agents.acp.updates import TurnUsage, UpdateTranslator
from frontdesk.agents.acp.workdir import Workplace
from frontdesk.agents.errors import AgentFailed, AgentLost, CreateFailed, ModelRefused
from frontdesk.agents.turn import TurnPort
from frontdesk.keeper.process import ManagedProcess, ManagedProcessRef

_AUTH_REQUIRED = -32000

_log = logging.getLogger("frontdesk.agents.acp")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpOptions:
    """How an agent is dealt with. Durations are in seconds.

    `start_timeout_s` bounds everything up to its first prompt; `cancel_patience_s` is how long the
    next turn waits for one that was aborted and has not ended. `auth_method` is the id of the
    method that it is to log in by, where it must be told.
    """

    files: FileAccess = "none"
    auth_method: str | None = None
    start_timeout_s: float = 30.0
    cancel_patience_s: float = 30.0


class AcpAgent:
    """One ACP agent and its one session. Made by `open`; belongs to one event loop."""

    def __init__(
        self,
        process: ManagedProcess,
        *,
        place: Workplace,
        manners: AcpOptions,
        terminals: Terminals | None,
        label: str,
    ) -> None:
        self._process, self._place, self._manners = process, place, manners
        self._terminals, self._label = terminals, label
        self._requests = ClientMethods(
            ground=place.ground, files=manners.files, terminals=terminals
        )
        self._link = AcpConnection(process, answer=self._requests.answer, label=label)
        self._spent = TurnUsage()
        self._session_id = ""
        self._models: ModelChoice | None = None
        self._asking: asyncio.Task[PromptResponse] | None = None

    @property
    def registered(self) -> ManagedProcessRef:
        """Return the reference by which the registry watches the process."""
        return self._process.ref

    # -- opening -------------------------------------------------------------------------------

    async def open(self, model: str) -> None:
        """Open the agent's session with this model; `CreateFailed`: then `end` the agent."""
        deadline_s = self._manners.start_timeout_s
        try:
            async with asyncio.timeout(deadline_s):
                await self._introduce()
                await self._open_session()
                await self._choose(model)
        except TimeoutError:
            raise CreateFailed(f"the agent was not ready after {deadline_s:g} s") from None
        except AgentLost as error:
            _log.error("session %s: %s", self._label, error)
            raise CreateFailed("the agent failed as it was opened") from error
        except RequestError as error:
            _log.error("session %s: %s", self._label, refusal(error))
            raise CreateFailed(_refused(error)) from error

    async def _introduce(self) -> None:
        answer = await self._link.request(
            AGENT_METHODS["initialize"],
            InitializeRequest(
                protocol_version=PROTOCOL_VERSION,
                client_capabilities=self._requests.capabilities,
                client_info=Implementation(name="frontdesk", version=__version__),
            ),
            InitializeResponse,
        )
        if answer.protocol_version != PROTOCOL_VERSION:
            raise CreateFailed(
                f"the agent speaks version {answer.protocol_version} of the Agent Client Protocol, "
                f"this server speaks {PROTOCOL_VERSION}"
            )
        if self._manners.auth_method is not None:
            request = AuthenticateRequest(method_id=self._manners.auth_method)
            await self._link.request(AGENT_METHODS["authenticate"], request, AuthenticateResponse)

    async def _open_session(self) -> None:
        request = NewSessionRequest(cwd=self._place.path, mcp_servers=[])
        answer = await self._link.request(AGENT_METHODS["session_new"], request, NewSessionResponse)
        self._session_id = self._requests.session_id = answer.session_id
        self._models = ModelChoice.among(answer.config_options)

    async def _choose(self, model: str) -> None:
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
        await self._link.request(
            AGENT_METHODS["session_set_config_option"], request, SetSessionConfigOptionResponse
        )
        offered.current = value

    # -- turns ---------------------------------------------------------------------------------

    async def run_turn(self, port: TurnPort) -> None:
        """Run one turn; `AgentLost` where the agent is gone, or deaf to the last abort."""
        await self._await_former()
        telling = UpdateTranslator(port, spent=self._spent)
        self._requests.telling = telling
        self._link.wire.ask(True)
        try:
            await self._converse(port, telling)
        except RequestError as error:
            raise AgentFailed(refusal(error)) from error
        finally:
            if self._requests.telling is telling:
                self._requests.telling = None
                self._link.wire.ask(False)
            telling.close()

    async def _converse(self, port: TurnPort, telling: UpdateTranslator) -> None:
        """Ask for the prompt, and then for what was steered meanwhile: it is the next step."""
        texts = [port.facts.text]
        while texts:
            await self._choose(port.model)
            telling.concluded(await self._ask("\n\n".join(texts), telling))
            texts = port.steering()

    async def _ask(self, text: str, telling: UpdateTranslator) -> PromptResponse:
        request = PromptRequest(
            session_id=self._session_id, prompt=[TextContentBlock(type="text", text=text)]
        )
        asking = self._asking = asyncio.create_task(
            self._link.request(AGENT_METHODS["session_prompt"], request, PromptResponse)
        )
        asking.add_done_callback(_read)
        try:
            await asyncio.wait({asking})
        except asyncio.CancelledError:
            await self._cancel(asking, telling)
            raise
        return asking.result()

    async def _cancel(
        self, asking: asyncio.Task[PromptResponse], telling: UpdateTranslator
    ) -> None:
        """Have the agent stop, and wait until it has; whoever aborts cancels that as well."""
        telling.dismiss()
        notice = CancelNotification(session_id=self._session_id)
        await self._link.tell(AGENT_METHODS["session_cancel"], notice)
        await asyncio.wait({asking})
        error = asking.exception()
        if isinstance(error, AgentLost):
            raise error from None
        if error is None:
            telling.used(asking.result())

    async def _await_former(self) -> None:
        """Wait for a turn that was given up; what it still says is nobody's."""
        former = self._asking
        if former is None or former.done():
            return
        await asyncio.wait({former}, timeout=self._manners.cancel_patience_s)
        if not former.done():
            raise await self._link.give_up("it does not end a turn that was aborted")

    # -- the end -------------------------------------------------------------------------------

    async def end(self, grace_s: float) -> None:
        """Close the agent's input, then end it with everything that descended from it."""
        if grace_s > 0 and not self._link.lost:
            grace_s /= 2
            await self._hang_up(grace_s)
        if not await self._process.end(grace_s):
            _log.error("session %s: something of its agent could not be killed", self._label)
        await self._link.close()
        if self._terminals is not None:
            await self._terminals.end()
        await self._place.clear()

    async def _hang_up(self, patience_s: float) -> None:
        writer = self._process.writer
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            if not writer.is_closing():
                writer.write_eof()
            async with asyncio.timeout(patience_s):
                await self._process.wait()


def refusal(error: RequestError) -> str:
    """Return what an agent said when it refused, for operators."""
    more = f": {str(error.data)[:1000]}" if error.data else ""
    return f"the agent answered {error.code} ({str(error)[:1000]}){more}"


def _refused(error: RequestError) -> str:
    if error.code == _AUTH_REQUIRED:
        return "the agent is not logged in"
    return f"the agent refused to open a session ({error.code})"


def _read(task: asyncio.Task[Any]) -> None:
    """Read how a task ended, as nobody may wait for it any more."""
    if not task.cancelled():
        task.exception()
