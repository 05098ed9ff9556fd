"""A conversation: what a client sees of a session: history, prompt queue, event stream.

The verbs that a client may ask for come first, then what the runner does (turns begin and finish),
then what the supervisor does (an agent is bound, its end interrupts, the session ends). All are
synchronous, quick, and belong to one event loop. It outlives the registry's entry where another
agent takes over, at once or, where it is stored, whenever somebody asks something. What is answered
to a client, and what an agent gets, comes once it is `committed`. Every turn that begins ends with
exactly one `agent_end` or `agent_abort`, and `session_end` is the last event of all.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from frontdesk.agents.attachments import Attachment
from frontdesk.agents.events import (
    AgentRestarted,
    ModelSwitched,
    OptionChanged,
    OutOfTurn,
    SessionEnd,
    Steering,
    ToolAttached,
    ToolDetached,
)
from frontdesk.agents.protocol import check
from frontdesk.agents.records import Accepted, Approval, CallbackTool, MemoryOutcome
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.attachment_room import require_types
from frontdesk.sessions.conversation_record import StoredOptions
from frontdesk.sessions.errors import (
    GuardrailRefused,
    NotResumable,
    PromptQueueFull,
    SessionDead,
    SteeringQueueFull,
)
from frontdesk.sessions.event_reader import EventReader, StreamStart
from frontdesk.sessions.expiry import Expiry
from frontdesk.sessions.history import MessagePage, position_of
from frontdesk.sessions.input_checks import checked_prompt, filtered, refusing_model
from frontdesk.sessions.message_pages import stored_page
from frontdesk.sessions.output_filter import OutputFilter
from frontdesk.sessions.phases import SessionPhase
from frontdesk.sessions.queue import Prompt
from frontdesk.sessions.session_turns import SessionTurns
from frontdesk.sessions.stop_reason import StopReason
from frontdesk.sessions.turn_ends import TurnEnd

T = TypeVar("T")

WITHOUT_AGENT = frozenset({SessionPhase.DORMANT, SessionPhase.RESTARTING})

MAX_REASON_CHARACTERS = 200
"""How much of a client's own reason for an abort goes out."""


class Conversation(SessionTurns):
    """One session as its client sees it. Made by a `SessionService`.

    Verbs that change something raise `SessionDead` once the session has ended, or is ending;
    what it is can be read and `subscribe` goes on working. They take the `api_key` that acts: what
    comes of it counts for that key and is signed with its secret, whichever opened the session
    (None: that one). A turn counts for the key that acted on it last.
    """

    __slots__ = ()
    expiry: Expiry
    leaving: bool
    model: str
    phase: SessionPhase
    restarts: int

    # -- a client's verbs --------------------------------------------------------------------

    def prompt(
        self,
        text: str,
        *,
        attachments: Sequence[Attachment] = (),
        api_key: str | None = None,
    ) -> Accepted:
        """Accept a prompt: its turn begins at once, or after those before it.

        `PromptQueueFull`, `SessionDead`, `GuardrailRefused`, `BudgetExceeded`, `Draining`,
        `AttachmentRefused`, `AttachmentsFull`; `StorageUnavailable`, `ConversationFull`; of a
        dormant one `NotResumable`, `SessionLimitExceeded`.
        """
        self.require_types([each.media_type for each in attachments])
        api_key = api_key or self.api_key
        text, files = checked_prompt(
            text, attachments, service=self.service, tenant_id=self.tenant_id, api_key=api_key
        )
        limit = self.service.settings.max_queued_prompts
        # Where no turn is under way, the first that waits is about to begin: it takes no place.
        if len(self.prompts) >= limit + (1 if self.turn is None else 0):
            raise PromptQueueFull(self.session_id, limit=limit)
        self.service.attachments.take(self.tenant_id, files)
        queued = self.busy
        tracer, accepted_s = self.service.tracer, self.service.clock.monotonic()
        origin = None if tracer is None else tracer.origin()
        request_id = f"req_{secrets.token_hex(8)}"
        prompt = Prompt(request_id, text, api_key, files, origin, accepted_s)
        self._latest_request, self._latest_index = request_id, None
        self._wanted = self.leaving
        self._on_activity()
        if self.record is not None:
            self.record.queue(prompt)
        self.prompts.put(prompt)
        self.ends.expect(request_id)
        self.counters.prompts += 1
        self.expiry.busy(used=True)
        self.service.meter.record(
            tenant_id=self.tenant_id, api_key=api_key, model=self.model, prompts=1
        )
        if queued:
            self._on_changed()
        since = self.log.id_of(self.log.last_index)
        self._wake_if_wanted()
        return Accepted(request_id, self.session_id, queued, since)

    def require_types(self, media_types: Sequence[str]) -> None:
        """Raise what keeps a prompt with such attachments from being taken, as far as is known.

        `AttachmentRefused` for a type that the agent does not take, and what the session is: dead,
        full, not to be resumed.
        """
        self._require_open()
        self.service.require_room(self)
        if self.dormant:
            self.service.require_resumable(self)
        require_types(media_types, rules=self.rules, takes=self.takes)

    def approve(
        self,
        approval_id: str,
        reason: str | None = None,
        *,
        option_id: str | None = None,
        api_key: str | None = None,
    ) -> None:
        """Let a tool run, by one of the options that its agent offers, if one is named.

        `UnknownReference` where nothing waits for it, `OptionRefused`, `GuardrailRefused`.
        """
        self._answer(approval_id, Approval("approved", reason, option_id), api_key)

    def reject(
        self,
        approval_id: str,
        reason: str | None = None,
        *,
        option_id: str | None = None,
        api_key: str | None = None,
    ) -> None:
        """Keep a tool from running. Options and errors as in `approve`."""
        self._answer(approval_id, Approval("rejected", reason, option_id), api_key)

    def respond(self, ref: str, response: Any, *, api_key: str | None = None) -> None:
        """Answer a question of the agent. `UnknownReference`, `GuardrailRefused`."""
        self._require_open()
        if self.parts.questions.answer(ref, self._filtered(response)):
            self._count_turn_for(api_key)

    def abort(self, reason: str | None = None, *, kill_tools: bool = False) -> None:  # noqa: ARG002
        """End the turn under way, if there is one; the session lives on.

        The turn is cancelled, the tools that it runs with it: `kill_tools` is what happens anyway.
        """
        self._require_open(storing=False)
        stop = StopReason((reason or "aborted")[:MAX_REASON_CHARACTERS])
        if self.turn is not None and self.suspended is not None:
            self.finish(self.turn, stop)
        elif self.turn is not None:
            self.turn.stop(stop)
        elif self.prompts and self.record is not None and self.phase in WITHOUT_AGENT:
            self.cancel_next(self.record, stop)
        elif self.prompts:
            self._stop_next = stop

    def steer(self, text: str, *, api_key: str | None = None) -> None:
        """Add a text that the turn takes into account at its next step.

        Between turns it waits for the next one; what a turn does not take goes with it.
        Raises `SteeringQueueFull`, `GuardrailRefused`, `SessionDead`.
        """
        self._require_open()
        text = self._filtered(text)
        limit = self.service.settings.max_steering
        if len(self.parts.steering_texts) >= limit:
            raise SteeringQueueFull(self.session_id, limit=limit)
        self._append_to_turn(Steering(text))
        self.parts.steering_texts.append(text)
        self._count_turn_for(api_key)
        if self.turn is not None:
            self.turn.on_steered()

    async def prepare_model(self, model: str) -> None:
        """Load what `switch_model` needs without blocking the loop; refuses like it."""
        self._require_open()
        with refusing_model(model, rules=self.rules):
            await check(self.rules.factory, msgspec.structs.replace(self.context, model=model))

    def switch_model(self, model: str, *, api_key: str | None = None) -> None:
        """Answer with another model, from the next model call on. `ModelRefused`, `SessionDead`."""
        self._require_open()
        with refusing_model(model, rules=self.rules):
            self.rules.factory.check(msgspec.structs.replace(self.context, model=model))
        former, self.model = self.model, model
        self.service.update_model(self, model)
        self._on_model_stored(ModelSwitched(former, model))
        self._count_turn_for(api_key)
        if self.turn is not None:
            self.turn.on_model_switched(model)

    def attach_tool(self, tool: CallbackTool, *, api_key: str | None = None) -> None:
        """Attach a callback tool. `ToolRefused`, `SessionDead`."""
        self._require_open()
        self.parts.tools.attach(tool, api_key=api_key or self.api_key)
        self._on_tools_changed(ToolAttached(tool.name))

    def detach_tool(self, name: str) -> None:
        """Detach a callback tool. `UnknownTool`, `SessionDead`."""
        self._require_open()
        self.parts.tools.detach(name)
        self._on_tools_changed(ToolDetached(name))

    def subscribe(
        self,
        *,
        since: str | None = None,
        types: frozenset[str] | None = None,
        from_now: bool = False,
    ) -> EventReader:
        """Open a stream over the events. Close it: an open one keeps the session from idling out.

        With `since` (an event's id, or a bare index) it goes on after that, or begins with a `Gap`
        where that is not held. Without, it begins at the `prompt_received` of the latest accepted
        prompt, even if that is still to come; with `from_now` after the newest event that can be
        seen. `types` keeps only these events. Works after the end as well.

        Raises `InvalidArgument` for a `since` that is neither an id nor an index.
        """
        if self.dormant:
            self.service.touch(self)
        if since is not None:
            start = StreamStart.after(since, self.log)
        elif from_now:
            start = StreamStart(self.log.visible)
        else:
            start = StreamStart.at_prompt(self._latest_request, self._latest_index, self.log)
        reader = EventReader(self.log, start, types=types, on_close=self._on_reader_closed)
        self._readers += 1
        self.expiry.busy()
        return reader

    async def open_stream(
        self,
        *,
        since: str | None = None,
        types: frozenset[str] | None = None,
        from_now: bool = False,
    ) -> EventReader:
        """Subscribe, unless its events cannot be decrypted any more: `ConversationUnreadable`."""
        if self.unreadable is not None and self.service.commits is not None:
            number = self.number
            await self.service.commits.read(
                lambda store: store.frames(number, after=0, limit=1, max_bytes=1),
                asker=self.tenant_id,
            )
        return self.subscribe(since=since, types=types, from_now=from_now)

    async def messages(self, *, limit: int = 100, after: str | None = None) -> MessagePage:
        """Return up to `limit` messages after a cursor, oldest first; `InvalidArgument`.

        Of a session that is stored all that it has, with the messages of a turn when that has
        ended: what is returned is kept. Else those that are held.
        """
        if self.service.commits is None or self.record is None:
            return self.history.page(limit=limit, after=after)
        number, position = self.number, position_of(after)
        return await self.service.commits.read(
            lambda store: stored_page(store, number, after=position, limit=limit),
            asker=self.tenant_id,
        )

    async def end_of(self, request_id: str) -> TurnEnd | None:
        """Wait for the end of an accepted prompt's turn; None where that is forgotten."""
        end = await self.ends.wait(request_id)
        if end is not None or self.service.commits is None or self.record is None:
            return end
        number = self.number
        turn = await self.service.commits.read(
            lambda store: store.turn(number, request_id), asker=self.tenant_id
        )
        if turn is None or turn.end is None:
            return None
        return msgspec.json.decode(turn.end, type=TurnEnd)

    async def committed(self) -> None:
        """Wait until all that was said and done is stored; `StorageUnavailable` if that fails."""
        if self.record is not None:
            await self.record.committed()

    # -- agents: what one does by itself, AgentListener ---------------------------------------

    def on_model_changed(self, model: str) -> None:
        """Go by what the agent says: another model answers from here on."""
        if self.phase is SessionPhase.ENDED or model == self.model:
            return
        former, self.model = self.model, model
        self.service.update_model(self, model)
        self._on_model_stored(ModelSwitched(former, model))
        if self.turn is not None:
            self.turn.model = model

    def on_option_changed(self, option_id: str, value: str | bool) -> None:
        """Tell that the agent has set one of its options otherwise."""
        if self.phase is not SessionPhase.ENDED:
            self._append_to_turn(OptionChanged(option_id, value))

    def on_out_of_turn(self, event: OutOfTurn) -> None:
        """Let out what the agent said between two turns, where no filter refuses it."""
        guardrails = self.service.guardrails
        if self.phase is not SessionPhase.ENDED:
            with suppress(GuardrailRefused):
                if guardrails is not None:
                    OutputFilter(guardrails, self.tenant_id).check(event.text)
                self.log.append_shortened(event)

    # -- agents: called by the supervisor ----------------------------------------------------

    def interrupt(self, reason: ExitReason) -> None:
        """End the turn under way, because its agent has ended, and wait for the next agent.

        A turn that waits for somebody's answers waits on.
        """
        self.phase = self.phase.to(SessionPhase.RESTARTING)
        self._pid = None
        self.expiry.busy()
        if self.turn is not None and not self.suspend(self.turn):
            self._abort_for(reason)
        self._on_changed()

    def leave(self, reason: ExitReason) -> None:
        """Be dormant: its agent has ended for this reason, and none follows now.

        A turn that waits for somebody's answers waits on.
        """
        self.set_aside()
        if self.suspended is None:
            self._abort_for(reason)
        self.phase = self.phase.to(SessionPhase.DORMANT)
        self._pid = self.ending_reason = None
        self._on_activity()
        self.left_for, self.leaving = reason.public_text, False
        self.expiry.cancel()
        self.expiry = self._new_expiry()
        if self.record is not None:
            self.record.change(options=self.options)
            self.record.leave()
        if self.service.observer is not None:
            self.service.observer.on_dormant(self, reason)

    def wake_again(self) -> None:
        """Have an agent again, where one was asked for while the last one was being ended."""
        answered = self.suspended is not None and self.wants_agent
        wanted, self._wanted = self._wanted or answered, False
        if wanted and self.dormant and not self.service.draining:
            self.service.wake(self)

    def begin_resuming(self) -> None:
        """Wait for an agent: it is dormant, and somebody asked something."""
        self.phase = self.phase.to(SessionPhase.RESTARTING)
        # Its first turn begins once everybody knows of the agent.
        self.prompts.pause()
        self._on_changed()

    def stay_dormant(self, blocked: str) -> None:
        """Wait for an agent no longer: none could be started, for this reason."""
        self.blocked = blocked
        self.phase = self.phase.to(SessionPhase.DORMANT)
        self._on_changed()

    def resume(self, reason: str, *, memory: MemoryOutcome | None = None) -> None:
        """Go on with a new agent, after the last has ended for this reason."""
        self.phase = self.phase.to(SessionPhase.LIVE)
        self.restarts += 1
        self._on_activity()
        self.blocked = None
        self.prompts.go_on()
        if self.record is not None:
            self.log.begin_epoch(self.service.next_fence())
            self.record.begin_epoch()
            self.record.change(options=msgspec.structs.replace(self.options, left_for=None))
            self.expiry.cancel()
            self.expiry = self._new_expiry()
            if self.in_use:
                self.expiry.busy()
        self.log.append_shortened(AgentRestarted(reason, self.restarts, memory))
        # Not before: whoever sees the event knows by it whether the session was dormant.
        self.left_for = None
        self._idle_if_unused()

    def begin_ending(self, reason: ExitReason, *, leaving: bool = False) -> None:
        """Take nothing new from now on; the session ends for this reason.

        Or it is only `leaving`: then it takes prompts, for another agent.
        """
        self.phase = self.phase.to(SessionPhase.ENDING)
        self.ending_reason, self.leaving = reason, leaving
        self._on_changed()

    def end(self, reason: ExitReason) -> None:
        """End the conversation: the turn under way, the queue, the stream. The first end counts."""
        if self.phase is SessionPhase.ENDED:
            return
        self.ending_reason = reason
        self.phase = self.phase.to(SessionPhase.ENDED)
        self.expiry.cancel()
        never_begun = self.prompts.clear()
        self._abort_for(reason)
        self.log.append_shortened(SessionEnd(reason.public_text))
        self.log.close()
        for prompt in never_begun:
            self.end_unbegun(prompt, StopReason(reason.public_text))
        if self.record is not None and reason.kind is ExitKind.DELETED:
            self.record.erase()
        elif self.record is not None:
            self.record.end(reason)
        # Its stream may be replayed for a while; nobody asks for the rest any more.
        self.history.clear()
        self.parts.tools.clear()

    # -- within ------------------------------------------------------------------------------

    def _require_open(self, *, storing: bool = True) -> None:
        if self.dormant:
            self.service.touch(self)
        if storing and self.record is not None and self.ending_reason is None:
            self.record.require_storage()
            if self.unreadable is not None:
                raise NotResumable(self.session_id, problem=self.unreadable)
        if self.ending_reason is not None and not self.leaving:
            raise SessionDead(self.session_id, reason=self.ending_reason)

    def _answer(self, approval_id: str, answer: Approval, api_key: str | None) -> None:
        self._require_open()
        filtered = msgspec.structs.replace(answer, reason=self._filtered(answer.reason))
        if self.parts.approvals.answer(approval_id, filtered):
            self._count_turn_for(api_key)

    def _filtered(self, value: T) -> T:
        return filtered(value, service=self.service, tenant_id=self.tenant_id)

    def _count_turn_for(self, api_key: str | None) -> None:
        """Let what the turn under way uses from now on count for the key that acts on it.

        Nobody can so let another key pay for what it asks for, and a revoked one pays no more.
        """
        if self.turn is not None:
            self.turn.api_key = api_key or self.api_key

    def _on_model_stored(self, event: ModelSwitched) -> None:
        if self.record is not None:
            self.record.change(model=event.to_model)
        self._append_to_turn(event)

    @property
    def options(self) -> StoredOptions:
        """Return what its next agent needs to know beside its messages."""
        tools, took = self.parts.tools, self._took
        return StoredOptions(
            context=self.context,
            tools=tools.attached(),
            tool_keys=tools.keys(),
            inherited=0 if took is None else took.inherited,
            restarts=self.restarts,
            left_for=self.left_for,
        )

    def _on_tools_changed(self, event: ToolAttached | ToolDetached) -> None:
        if self.record is not None:
            self.record.change(options=self.options)
        self._append_to_turn(event)
        if self.turn is not None:
            self.turn.on_tools_changed()

    def _on_reader_closed(self) -> None:
        self._readers -= 1
        self._idle_if_unused()
