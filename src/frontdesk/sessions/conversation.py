"""A conversation: what a client sees of a session: history, prompt queue, event stream.

Above the lifecycle that it inherits, below the desk and the doors. Every verb here is one that a
client may ask for; all are synchronous, quick, and belong to one event loop. It outlives the
registry's entry where a restarted agent takes over. It knows nothing of HTTP.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from frontdesk.agents.errors import CreateFailed, ModelRefused, UnknownTool
from frontdesk.agents.events import ModelSwitched, Steering, ToolAttached, ToolDetached, sayable
from frontdesk.agents.protocol import check
from frontdesk.agents.records import Accepted, Approval, CallbackTool
from frontdesk.sessions import views
from frontdesk.sessions.callback_tools import check_tool
from frontdesk.sessions.errors import (
    Draining,
    GuardrailRefused,
    PromptQueueFull,
    SessionDead,
    SteeringQueueFull,
)
from frontdesk.sessions.event_reader import Beginning, EventReader, after_since, at_prompt
from frontdesk.sessions.lifecycle import Lifecycle
from frontdesk.sessions.queue import Prompt
from frontdesk.sessions.running_turn import StopReason

MAX_REASON_CHARACTERS = 200
"""How much of a client's own reason for an abort goes out."""


class Conversation(Lifecycle):
    """One session as its client sees it. Made by `TenantSessions.create`.

    Verbs that change something raise `SessionDead` once the session has ended, or is ending;
    the views and `subscribe` go on working.
    """

    __slots__ = ()

    def prompt(self, text: str) -> Accepted:
        """Accept a prompt: its turn begins at once, or after those before it.

        Raises `PromptQueueFull`, `SessionDead`, `GuardrailRefused`, `Draining`.
        """
        self._require_open()
        if self.house.draining:
            raise Draining
        text = self._passed(text)
        if self._is_full():
            raise PromptQueueFull(self.session_id, limit=self.house.settings.max_queued_prompts)
        queued = self.busy
        prompt = Prompt(f"req_{secrets.token_hex(8)}", text)
        self._latest_request, self._latest_index = prompt.request_id, None
        self.prompts.put(prompt)
        self.usage.prompts += 1
        self.expiry.busy(used=True)
        self.house.meter.record(tenant_id=self.tenant_id, api_key=self.api_key, prompts=1)
        return Accepted(prompt.request_id, self.session_id, queued)

    def approve(self, approval_id: str, reason: str | None = None) -> str:
        """Let a tool run; return `approved`. `UnknownReference` where nothing waits for it."""
        return self._resolve(approval_id, Approval("approved", reason))

    def reject(self, approval_id: str, reason: str | None = None) -> str:
        """Keep a tool from running; return `rejected`. `UnknownReference` as in `approve`."""
        return self._resolve(approval_id, Approval("rejected", reason))

    def respond(self, ref: str, response: Any) -> str:
        """Answer a question of the agent; return `answered`. `UnknownReference`."""
        self._require_open()
        if isinstance(response, str):
            response = self._passed(response)
        self.questions.answer(ref, response)
        return "answered"

    def abort(self, reason: str | None = None, *, kill_tools: bool = False) -> None:  # noqa: ARG002
        """End the turn under way, if there is one; the session lives on.

        The turn is cancelled, the tools that it runs with it: `kill_tools` is what happens anyway.
        """
        self._require_open()
        stop = StopReason((reason or "aborted")[:MAX_REASON_CHARACTERS])
        if self._turn is not None:
            self._turn.stop(stop)
        elif self.prompts:
            self._stop_next = stop

    def steer(self, text: str) -> None:
        """Add a text that the turn takes into account at its next step.

        Between turns it waits for the next one; what a turn does not take goes with it.
        Raises `SteeringQueueFull`, `GuardrailRefused`, `SessionDead`.
        """
        self._require_open()
        text = self._passed(text)
        limit = self.house.settings.max_steering
        if len(self.steering_texts) >= limit:
            raise SteeringQueueFull(self.session_id, limit=limit)
        self.steering_texts.append(text)
        self.say(Steering(text), request_id=self._request_id())
        if self._turn is not None and self._turn.listener is not None:
            self._turn.listener.steered()

    async def prepare_model(self, model: str) -> None:
        """Load what `switch_model` needs without blocking the loop; refuses like it."""
        self._require_open()
        with self._refusing(model):
            await check(self._rules.recipe, msgspec.structs.replace(self.options, model=model))

    def switch_model(self, model: str) -> None:
        """Answer with another model, from the next model call on. `ModelRefused`, `SessionDead`."""
        self._require_open()
        with self._refusing(model):
            self._rules.recipe.check(msgspec.structs.replace(self.options, model=model))
        former, self.model = self.model, model
        self.house.update_model(self, model)
        self.say(ModelSwitched(former, model), request_id=self._request_id())
        if self._turn is not None and self._turn.listener is not None:
            self._turn.listener.model_switched(model)

    def attach_tool(self, tool: CallbackTool) -> None:
        """Attach a callback tool. `ToolRefused`, `SessionDead`."""
        self._require_open()
        check_tool(tool, owner=self, taken=frozenset(self.options.tools))
        self.callback_tools[tool.name] = tool
        self._tools_changed(ToolAttached(tool.name))

    def detach_tool(self, name: str) -> None:
        """Detach a callback tool. `UnknownTool`, `SessionDead`."""
        self._require_open()
        if self.callback_tools.pop(name, None) is None:
            raise UnknownTool(name)
        self._tools_changed(ToolDetached(name))

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
        prompt, even if that is still to come; with `from_now` after the newest event. `types`
        keeps only these events. Works after the end as well.

        Raises `InvalidArgument` for a `since` that is neither an id nor an index.
        """
        reader = EventReader(
            self.log, self._beginning(since, from_now), types=types, on_close=self._reader_closed
        )
        self._readers += 1
        self.expiry.busy()
        return reader

    def info(self) -> dict[str, Any]:
        """Return the body of `GET /v1/sessions/{id}`."""
        return views.info(self)

    def stats(self) -> dict[str, Any]:
        """Return the body of `GET .../stats`."""
        return views.stats(self)

    def status(self) -> dict[str, Any]:
        """Return the body of `GET .../status`."""
        return views.status(self)

    def messages(self, *, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """Return the body of `GET .../messages`. `InvalidArgument` for a wrong cursor."""
        return self.history.page(limit=limit, after=after)

    # -- within ------------------------------------------------------------------------------

    def _require_open(self) -> None:
        reason = self.ended or self.ending
        if reason is not None:
            raise SessionDead(self.session_id, reason=reason)

    def _is_full(self) -> bool:
        # Where no turn is under way, the first that waits is about to begin: it takes no place.
        about_to_begin = 1 if self._turn is None else 0
        limit = self.house.settings.max_queued_prompts
        return len(self.prompts) >= limit + about_to_begin

    def _passed(self, text: str) -> str:
        text = sayable(text)
        guardrails = self.house.guardrails
        why = guardrails.refuse_input(self.tenant_id, text) if guardrails else None
        if why is not None:
            raise GuardrailRefused(why)
        return text

    def _resolve(self, approval_id: str, answer: Approval) -> str:
        self._require_open()
        self.approvals.answer(approval_id, answer)
        return answer.status

    def _request_id(self) -> str | None:
        return None if self._turn is None else self._turn.request_id

    @contextmanager
    def _refusing(self, model: str) -> Iterator[None]:
        """Refuse a model that clients may not ask for, and one that cannot be."""
        if not self._rules.allows(model):
            raise ModelRefused(model, problem=f"blueprint {self.blueprint!r} does not allow it")
        try:
            yield
        except ModelRefused:
            raise
        except CreateFailed as error:
            raise ModelRefused(model, problem=error.problem) from error

    def _tools_changed(self, event: ToolAttached | ToolDetached) -> None:
        self.say(event, request_id=self._request_id())
        if self._turn is not None and self._turn.listener is not None:
            self._turn.listener.tools_changed()

    def _beginning(self, since: str | None, from_now: bool) -> Beginning:
        if since is not None:
            return after_since(since, self.log)
        if from_now:
            return Beginning(self.log.last_index)
        return at_prompt(self._latest_request, self._latest_index, self.log)

    def _reader_closed(self) -> None:
        self._readers -= 1
        self._settle()
