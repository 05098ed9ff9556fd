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
    CancelNotification,
    ConfigOptionUpdate,
    Implementation,
    InitializeRequest,
    InitializeResponse,
    NewSessionRequest,
    PromptRequest,
    TextContentBlock,
)

from frontdesk._version import __version__
from frontdesk.agents.acp.agent_answers import (
    Done,
    OpenedSession,
    PromptAnswer,
    options_in,
)
from frontdesk.agents.acp.client_methods import ClientMethods, FileAccess
from frontdesk.agents.acp.connection import AcpConnection
from frontdesk.agents.acp.home import Home, HomeKind
from frontdesk.agents.acp.model_choice import DEFAULT, ModelChoice
from frontdesk.agents.acp.terminals import Terminals
from frontdesk.agents.acp.token_counts import SessionUsage, UsageCount
from frontdesk.agents.acp.updates import Update, UpdateTranslator, out_of_turn
from frontdesk.agents.acp.workdir import WorkDir
from frontdesk.agents.errors import AgentFailed, AgentLost, CreateFailed, ModelRefused
from frontdesk.agents.protocol import AgentListener
from frontdesk.agents.turn import TurnPort
from frontdesk.keeper.process import ManagedProcess, ManagedProcessRef

LATE_QUIET_S = 0.05
"""After its answer to a prompt, an agent's turn goes on until it has been quiet for so long."""

LATE_GRACE_S = 1.0
"""How long a turn goes on after its answer at the most."""

_AUTH_REQUIRED = -32000

_log = logging.getLogger("frontdesk.agents.acp")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcpOptions:
    """What an operator sets for an agent. Durations are in seconds.

    `start_timeout_s` bounds everything up to its first prompt; `cancel_patience_s` is how long the
    next turn waits for one that was aborted and has not ended. `auth_method` is the id of the
    method that it is to log in by, where one has to be named. `home` says whose `HOME` it has: its
    tenant's, under `homes` (without which it is the session's), the session's own, or the
    operator's, shared by all tenants. `usage` is what the tokens of its answers count; None goes
    by what is known of agents of its name.
    """

    files: FileAccess = "none"
    auth_method: str | None = None
    start_timeout_s: float = 30.0
    cancel_patience_s: float = 30.0
    home: HomeKind = "tenant"
    homes: Path | None = None
    usage: UsageCount | None = None


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
        self._methods = ClientMethods(
            workdir=workdir, files=options.files, terminals=terminals, on_update=self._on_update
        )
        self._connection = AcpConnection(process, answer=self._methods.answer, label=label)
        self._connection.transport.on_left_out = self._methods.on_left_out
        self._usage = SessionUsage(options.usage)
        self._session_id = ""
        self._models = ModelChoice({})
        self._choosing: str | None = None
        self._listener: AgentListener | None = None
        self._former: UpdateTranslator | None = None
        self._ids_differ = self._idle_logged = False
        self._prompting: asyncio.Task[PromptAnswer] | None = None

    @property
    def registry_agent(self) -> ManagedProcessRef:
        """Return the reference by which the registry watches the process."""
        return self._process.ref

    def listen(self, listener: AgentListener) -> None:
        """Notify this listener of what the agent does by itself."""
        self._listener = listener

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
            problem = f"the agent was not ready after {deadline_s:g} s"
            _log.error("session %s: %s", self._label, problem)
            raise CreateFailed(problem) from None
        except (AgentLost, AgentFailed) as error:
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
        self._usage.on_agent_name(answer.agent_info.name if answer.agent_info else None)
        if answer.protocol_version != PROTOCOL_VERSION:
            raise CreateFailed(
                f"the agent speaks version {answer.protocol_version} of the Agent Client Protocol, "
                f"this server speaks {PROTOCOL_VERSION}"
            )
        if self._options.auth_method is not None:
            request = AuthenticateRequest(method_id=self._options.auth_method)
            await self._connection.request(AGENT_METHODS["authenticate"], request, Done)

    async def _open_session(self) -> None:
        request = NewSessionRequest(cwd=self._workdir.path, mcp_servers=[])
        answer = await self._connection.request(
            AGENT_METHODS["session_new"], request, OpenedSession
        )
        self._session_id = self._methods.session_id = answer.session_id
        self._models = ModelChoice.of(answer)

    async def _select_model(self, model: str) -> None:
        """Have the agent answer with a model; `ModelRefused` where it does not."""
        choice = self._models
        if model == DEFAULT and not choice.offered:
            return
        value = choice.value_of(model)
        if value is None:
            raise ModelRefused(model, problem=f"the agent has {choice}")
        if value == choice.current:
            return
        self._choosing = value
        try:
            method, request = choice.request(self._session_id, value)
            answer = await self._connection.request(method, request, Done)
        except (RequestError, AgentFailed) as error:
            why = refusal(error) if isinstance(error, RequestError) else str(error)
            _log.warning("session %s: the model %s is refused: %s", self._label, value, why)
            raise ModelRefused(model, problem="the agent does not change to it") from error
        finally:
            self._choosing = None
        now = choice.current_in(options_in(answer.config_options) or ())
        if now not in (None, value):
            raise ModelRefused(model, problem=f"the agent goes on with {now}")
        choice.current = value

    # -- what the agent does by itself ---------------------------------------------------------

    def _on_update(self, update: Update, meta: Any) -> None:
        """Handle an update: of the turn under way, of the one before, or of none."""
        if isinstance(update, ConfigOptionUpdate):
            self._on_model(self._models.current_in(update.config_options))
        elif isinstance(update, dict) and update.get("sessionUpdate") == "current_model_update":
            self._on_model(update.get("currentModelId") or update.get("modelId"))
        translator = self._methods.translator
        former = self._former
        if translator is not None and (
            former is None
            or translator.owns(update)
            or not former.is_late(update, ids_differ=self._ids_differ)
        ):
            translator.on_update(update, meta)
            return
        aborted = self._prompting is not None and not self._prompting.done()
        event = None if translator is None and aborted else out_of_turn(update)
        if event is None:
            return
        if not self._idle_logged:
            self._idle_logged = True
            _log.info("session %s: its agent does something between turns", self._label)
        if self._listener is not None:
            self._listener.on_out_of_turn(event)

    def _on_model(self, model: Any) -> None:
        """Handle that another model answers from now on, by the agent's own choice."""
        if not isinstance(model, str) or model in (self._models.current, self._choosing):
            return
        self._models.current = model
        if self._listener is not None:
            self._listener.on_model_changed(model)

    # -- turns ---------------------------------------------------------------------------------

    async def run_turn(self, port: TurnPort) -> None:
        """Run one turn; `AgentLost` where the agent is gone, or deaf to the last abort."""
        await self._await_previous_turn()
        output_of = (lambda _: None) if self._terminals is None else self._terminals.output_of
        translator = UpdateTranslator(port, usage=self._usage, terminal_output=output_of)
        self._methods.translator = translator
        self._connection.transport.set_turn_running(True)
        texts, ended_well = [port.context.text], False
        try:
            while texts:
                await self._select_model(port.model)
                answer = await self._prompt("\n\n".join(texts), translator)
                translator.on_answer(answer)
                ended_well = answer.reason in (None, "end_turn")
                texts = port.steering()  # what came meanwhile is the next step
                if not texts:
                    await self._until_quiet()
                    texts = port.steering()
        except (RequestError, AgentFailed) as error:
            ended_well = False
            translator.add_usage(None)
            if isinstance(error, AgentFailed):
                raise
            raise AgentFailed(refusal(error)) from error
        finally:
            if self._methods.translator is translator:
                if self._former is not None:
                    self._ids_differ |= translator.ids_differ_from(self._former)
                self._methods.translator, self._former = None, translator
                self._idle_logged = False
                self._connection.transport.set_turn_running(False)
            translator.close(ended_well=ended_well)

    async def _until_quiet(self) -> None:
        """Wait for what still comes of a turn that was answered, for a short grace."""
        transport = self._connection.transport
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_GRACE_S):
                received = -1
                while received != transport.received and not transport.ended.is_set():
                    received = transport.received
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LATE_QUIET_S):
                            await transport.ended.wait()

    async def _prompt(self, text: str, translator: UpdateTranslator) -> PromptAnswer:
        request = PromptRequest(
            session_id=self._session_id, prompt=[TextContentBlock(type="text", text=text)]
        )
        prompting = self._prompting = asyncio.create_task(
            self._connection.request(AGENT_METHODS["session_prompt"], request, PromptAnswer)
        )
        # Read how it ended, as nobody may wait for it any more.
        prompting.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait({prompting})
        except asyncio.CancelledError:
            await self._cancel(prompting, translator)
            raise
        return prompting.result()

    async def _cancel(
        self, prompting: asyncio.Task[PromptAnswer], translator: UpdateTranslator
    ) -> None:
        """Have the agent stop, and wait until it has; whoever aborts cancels that as well."""
        translator.cancel_approvals()
        notice = CancelNotification(session_id=self._session_id)
        await self._connection.notify(AGENT_METHODS["session_cancel"], notice)
        await asyncio.wait({prompting})
        error = prompting.exception()
        if isinstance(error, AgentLost):
            raise error from None
        translator.add_usage(prompting.result() if error is None else None)

    async def _await_previous_turn(self) -> None:
        """Wait for a turn that was aborted; what it still sends is nobody's."""
        previous = self._prompting
        if previous is None or previous.done():
            return
        await asyncio.wait({previous}, timeout=self._options.cancel_patience_s)
        if not previous.done():
            raise await self._connection.abandon("it does not end a turn that was aborted")

    # -- the end -------------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Say whether it cannot be reached any more."""
        return self._connection.lost

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
