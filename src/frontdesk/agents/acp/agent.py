"""An agent that speaks the Agent Client Protocol, in a process of its own: the gateway's end of it.

A `RunningAgent`. It opens the agent's session, sends it one prompt after another, cancels, and ends
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from acp.exceptions import RequestError
from acp.meta import AGENT_METHODS
from acp.schema import (
    CancelNotification,
    PromptRequest,
)

from frontdesk.agents.acp.agent_answers import PromptAnswer
from frontdesk.agents.acp.agent_session import AcpOptions, AgentSession, FormerSession, refusal
from frontdesk.agents.acp.client_methods import ClientMethods
from frontdesk.agents.acp.connection import AcpConnection
from frontdesk.agents.acp.home import Home
from frontdesk.agents.acp.prompt_blocks import PromptBlock, prompt_blocks
from frontdesk.agents.acp.session_memory import SessionLeft, this_machine
from frontdesk.agents.acp.terminals import Terminals
from frontdesk.agents.acp.token_counts import SessionUsage
from frontdesk.agents.acp.updates import Update, UpdateTranslator, out_of_turn
from frontdesk.agents.acp.workdir import WorkDir
from frontdesk.agents.errors import AgentFailed, AgentLost, CreateFailed
from frontdesk.agents.history_text import with_cut_turn, with_history
from frontdesk.agents.protocol import AgentListener
from frontdesk.agents.records import AgentOption, Memory
from frontdesk.agents.turn import TurnPort
from frontdesk.keeper.process import ManagedProcess, ManagedProcessRef

_AUTH_REQUIRED = -32000

_log = logging.getLogger("frontdesk.agents.acp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What the agents of one session have one after another, whatever process they are."""

    workdir: WorkDir
    home: Home
    session: FormerSession | None = None
    usage: SessionUsage

    def leave(self) -> None:
        """Let the directories be: another agent of the session finds them. Idempotent."""
        self.workdir.leave()
        self.home.leave()

    async def clear(self) -> None:
        """Remove the directories that were the session's own. Idempotent."""
        await self.workdir.clear()
        await self.home.clear()


class AcpAgent:
    """One ACP agent and its one session. Made by `open`; belongs to one event loop."""

    def __init__(
        self,
        process: ManagedProcess,
        *,
        former: Handover,
        options: AcpOptions,
        terminals: Terminals | None,
        label: str,
    ) -> None:
        self._process, self._options = process, options
        self._former_session, self._handover = former.session, former
        self._handed_over = False
        self._terminals, self._label = terminals, label
        self._methods = ClientMethods(
            workdir=former.workdir,
            files=options.files,
            terminals=terminals,
            on_update=self._on_update,
        )
        self._connection = AcpConnection(process, answer=self._methods.answer, label=label)
        self._connection.transport.on_left_out = self._methods.on_left_out
        self._usage = former.usage
        self._session = AgentSession(
            self._connection, options=options, cwd=former.workdir.path, label=label
        )
        self._listener: AgentListener | None = None
        self._former: UpdateTranslator | None = None
        self._ids_differ = self._idle_logged = False
        self._prompting: asyncio.Task[PromptAnswer] | None = None
        self.has_session_back: bool = False
        """Whether its session is one that a former agent had."""
        self._unknown: int | None = 0
        self._memory: Memory | None = None

    @property
    def registry_agent(self) -> ManagedProcessRef:
        """Return the reference by which the registry watches the process."""
        return self._process.ref

    def takes(self, media_type: str) -> bool:
        """Say whether the agent has announced that it takes attachments of a type."""
        return self._session.takes(media_type)

    def listen(self, listener: AgentListener) -> None:
        """Notify this listener of what the agent does by itself."""
        self._listener = self._session.listener = listener

    @property
    def offered(self) -> tuple[AgentOption, ...]:
        """Return what can be set about it beside its model, and how that is set."""
        return self._session.settings.listed()

    # -- opening -------------------------------------------------------------------------------

    async def open(self, model: str, *, path: str | None = None) -> None:
        """Open the agent's session with this model; `CreateFailed`: then `end` the agent.

        `path` is where programs of MCP servers are looked up.
        """
        deadline_s = self._options.start_timeout_s
        try:
            async with asyncio.timeout(deadline_s):
                await self._open(model, path=path)
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

    async def _open(self, model: str, *, path: str | None) -> None:
        session = self._session
        await session.initialize(self._methods.capabilities)
        former, self._former_session = self._former_session, None
        reopened = self.has_session_back = await session.open(former, path=path)
        self._usage.on_opened(reopened=reopened)
        if former is not None:
            again = "has its session back" if reopened else "begins anew"
            _log.info("session %s: its agent %s", self._label, again)
        self._usage.on_agent_name(session.agent_name)
        self._methods.session_id = session.id
        await session.select_model(model)

    # -- what the agent does by itself ---------------------------------------------------------

    def _on_update(self, update: Update, meta: Any) -> None:
        """Handle an update: of the turn under way, of the one before, or of none."""
        self._session.on_update(update)
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

    # -- turns ---------------------------------------------------------------------------------

    async def run_turn(self, port: TurnPort) -> None:
        """Run one turn; `AgentLost` where the agent is gone, or deaf to the last abort."""
        await self._await_previous_turn()
        output_of = (lambda _: None) if self._terminals is None else self._terminals.output_of
        translator = UpdateTranslator(port, usage=self._usage, terminal_output=output_of)
        self._methods.translator = translator
        self._connection.transport.set_turn_running(True)
        texts, ended_well = [self._text_of(port)], False
        attachments = port.context.attachments
        try:
            while texts:
                await self._session.select_model(port.model)
                blocks = prompt_blocks("\n\n".join(texts), attachments)
                traceparent = port.context.traceparent
                self._unknown = 0
                answer = await self._prompt(blocks, translator, traceparent=traceparent)
                attachments = ()  # the agent has them
                translator.on_answer(answer)
                ended_well = answer.reason in (None, "end_turn")
                texts = port.steering()  # what came meanwhile is the next step
                if not texts:
                    await self._session.until_quiet()
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
            self._remember(port)

    def recall(self, messages: int | None) -> None:
        """Tell the agent, before its next prompt, what is in the history: all of it for None.

        Of the last so many messages, only what tools did: it was there.
        """
        self._unknown = messages

    def _text_of(self, port: TurnPort) -> str:
        """Return a turn's prompt, behind what the agent is to know that it does not."""
        context = port.context
        if self._unknown is None:
            return with_history(context.text, context.history)
        if self._unknown:
            return with_cut_turn(context.text, context.history[-self._unknown :])
        return context.text

    def _remember(self, port: TurnPort) -> None:
        """Leave where the session is to be found, where that is not what was left before."""
        used, cost_usd = self._usage.counted
        left = SessionLeft(
            of=self._label,
            session_id=self._session.id,
            machine=this_machine(),
            workdir=self._handover.workdir.own_path,
            home=self._handover.home.own_path,
            opened=self._session.opened,
            options=dict(self._session.settings.current),
            used=used,
            cost_usd=cost_usd,
        )
        memory = left.memory()
        if memory != self._memory:
            self._memory = memory
            port.remember(memory)

    async def _prompt(
        self,
        blocks: list[PromptBlock],
        translator: UpdateTranslator,
        *,
        traceparent: str | None,
    ) -> PromptAnswer:
        request = PromptRequest(session_id=self._session.id, prompt=blocks)
        if traceparent is not None:
            # Where the protocol has the trace, as MCP does: a root key of `_meta`.
            request.field_meta = {"traceparent": traceparent}
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
        translator.cancel_questions()
        notice = CancelNotification(session_id=self._session.id)
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

    def hand_over(self) -> Handover:
        """Return what the next agent of the session goes on with; it is no longer this one's."""
        self._handed_over = True
        return Handover(
            workdir=self._handover.workdir,
            home=self._handover.home,
            session=self._session.as_former if self._session.id else None,
            usage=self._usage,
        )

    def take_back(self) -> None:
        """Have again what was handed over: there is no next agent that has it."""
        self._handed_over = False

    def leave(self) -> None:
        """Let go of the session's directories, which another agent will find. Idempotent."""
        if not self._handed_over:
            self._handover.leave()

    async def discard(self) -> None:
        """Remove what was the session's, where no next agent has it. Idempotent."""
        if not self._handed_over:
            await self._handover.clear()
