"""A span for each turn: `invoke_agent`, from its `prompt_received` to its end.

The session service begins it (`TurnTracer`) and shows what happens in it (`SessionObserver`). Every
turn that begins ends once, whatever ends it, and its span with it; what is open when the gateway
closes is ended then. Of an agent's text nothing is kept, and nothing is in a span, unless the
setting says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, Tracer, set_span_in_context

from frontdesk.agents.events import (
    AgentAbort,
    AgentEnd,
    AgentStart,
    Error,
    Event,
    MessageStart,
    PromptReceived,
    SessionEnd,
    ThinkingStart,
    ToolCalls,
    ToolExecutionEnd,
    ToolExecutionStart,
)
from frontdesk.agents.ids import registry_key
from frontdesk.gateway.tracing import conventions as names
from frontdesk.gateway.tracing.request_spans import links_to, origin
from frontdesk.gateway.tracing.turn_span import TurnSpan
from frontdesk.records import ExitKind, ExitReason
from frontdesk.sessions.event_log import LoggedEvent

logger: logging.Logger = logging.getLogger("frontdesk.gateway")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")
_FAILED = frozenset({"deadline", "error", "agent_ended", "guardrail"})
_WORDS = _FAILED | {"aborted"} | {kind.value for kind in ExitKind}


class TurnSpans:
    """The spans of the turns that are under way: one a session at most."""

    __slots__ = ("_failed", "_open", "_text", "_tracer")

    def __init__(self, tracer: Tracer, *, text: bool) -> None:
        self._tracer, self._text = tracer, text
        self._open: dict[str, TurnSpan] = {}
        self._failed = False

    def __len__(self) -> int:
        return len(self._open)

    # -- for what runs turns ---------------------------------------------------------------------

    def origin(self) -> object | None:
        """Return the span that a prompt is accepted in."""
        return origin()

    def begin_turn(
        self, conversation: Any, *, origin: object | None, queued_s: float
    ) -> TurnSpan | None:
        """Begin a turn's span, as a child of that in which its prompt was accepted."""
        try:
            span = self._begin(conversation, origin, queued_s)
        except Exception:
            # What an SDK does with a span is its own; no turn is to fail of it.
            if not self._failed:
                self._failed = True
                logger.exception("a trace could not be begun; the turn goes on")
            return None
        key = registry_key(conversation.tenant_id, conversation.session_id)
        former = self._open.pop(key, None)
        if former is not None:
            former.end(names.OTHER, failed=False)
        self._open[key] = span
        return span

    def carrier_of_tool(self, tenant_id: str, session_id: str, call_id: str) -> dict[str, str]:
        """Return the headers that tell a callback tool's server what called it."""
        span = self._open.get(registry_key(tenant_id, session_id))
        return {} if span is None else span.carrier_of_tool(call_id)

    def close(self) -> None:
        """End what is still open."""
        while self._open:
            self._open.popitem()[1].end(ExitKind.SHUTDOWN.value, failed=False)

    def _begin(self, conversation: Any, origin: object | None, queued_s: float) -> TurnSpan:
        blueprint, parent, links = names.attribute_text(conversation.blueprint), Context(), None
        if isinstance(origin, tuple):
            before, linked = origin
            assert isinstance(before, SpanContext), "it is what `origin` returned"
            if linked:
                links = links_to(before)
            else:
                parent = set_span_in_context(NonRecordingSpan(before), parent)
        attributes: dict[str, Any] = {
            names.OPERATION: names.INVOKE_AGENT,
            names.AGENT_NAME: blueprint,
            names.CONVERSATION_ID: names.attribute_text(conversation.session_id),
            names.TENANT: names.attribute_text(conversation.tenant_id),
            names.QUEUE_SECONDS: round(max(0.0, queued_s), 6),
        }
        if conversation.model:
            attributes[names.REQUEST_MODEL] = names.attribute_text(conversation.model)
            if (provider := names.provider_of(conversation.model)) is not None:
                attributes[names.PROVIDER] = provider
        span = self._tracer.start_span(
            f"{names.INVOKE_AGENT} {blueprint}", context=parent, links=links, attributes=attributes
        )
        return TurnSpan(self._tracer, span, parent, conversation=conversation, text=self._text)

    # -- what it sees ----------------------------------------------------------------------------

    def on_started(self, conversation: Any) -> None:
        """See nothing of it: a session has no span."""

    def on_changed(self, conversation: Any) -> None:
        """See nothing of it: a turn has its own end."""

    def on_published(self, conversation: Any) -> None:
        """See nothing of it: it was seen as it happened."""

    def on_dormant(self, conversation: Any, reason: ExitReason) -> None:
        """See nothing of it: its turn has ended before."""

    def on_loaded(self, conversation: Any) -> None:
        """See nothing of it."""

    def on_unloaded(self, conversation: Any) -> None:
        """See nothing of it."""

    def on_recovered(self, *, conversations: int, turns: int) -> None:
        """See nothing of it: the spans of turns that were cut off went with their process."""

    def on_event(self, conversation: Any, event: Event, logged: LoggedEvent) -> None:
        """Follow a turn; most events say nothing that a span tells."""
        see = _SEEN.get(type(event))
        if see is None:
            return
        key = registry_key(conversation.tenant_id, conversation.session_id)
        span = self._open.get(key)
        if span is None or span.conversation is not conversation:
            return
        if see(span, event, logged):
            del self._open[key]


def _on_prompt(span: TurnSpan, event: Any, logged: LoggedEvent) -> None:
    span.set_text(names.INPUT_MESSAGES, "user", event.text)
    span.set_request(logged.request_id)


def _on_start(span: TurnSpan, event: Any, logged: LoggedEvent) -> None:  # noqa: ARG001 - as all
    span.counters = span.conversation.turn.counters


def _on_model(span: TurnSpan, event: Any, logged: LoggedEvent) -> None:  # noqa: ARG001 - as all
    span.on_model_output()


def _on_tool(span: TurnSpan, event: Any, logged: LoggedEvent) -> None:  # noqa: ARG001 - as all
    if isinstance(event, ToolExecutionStart):
        span.begin_tool(event)
    else:
        span.end_tool(event)


def _on_error(span: TurnSpan, event: Any, logged: LoggedEvent) -> None:  # noqa: ARG001 - as all
    # Of an agent it is a text; the last one before an abort is ours, and a type's name.
    span.error = event.reason if _NAME.fullmatch(event.reason) else None


def _on_end(span: TurnSpan, event: Any, logged: LoggedEvent) -> bool:  # noqa: ARG001 - as all
    span.set_text(names.OUTPUT_MESSAGES, "assistant", event.last_message.content)
    span.end(None, failed=False)
    return True


def _on_abort(span: TurnSpan, event: Any, logged: LoggedEvent) -> bool:  # noqa: ARG001 - as all
    # A client may abort with a reason of its own, which is a text: it is `aborted` then.
    reason = event.reason if event.reason in _WORDS else "aborted"
    failed = reason in _FAILED
    span.end(span.error if reason == "error" and span.error else reason, failed=failed)
    return True


def _on_session_end(span: TurnSpan, event: Any, logged: LoggedEvent) -> bool:  # noqa: ARG001 - as all
    span.end(names.OTHER, failed=False)
    return True


_SEEN: dict[type[Event], Callable[[TurnSpan, Any, LoggedEvent], bool | None]] = {
    PromptReceived: _on_prompt,
    AgentStart: _on_start,
    MessageStart: _on_model,
    ThinkingStart: _on_model,
    ToolCalls: _on_model,
    ToolExecutionStart: _on_tool,
    ToolExecutionEnd: _on_tool,
    Error: _on_error,
    AgentEnd: _on_end,
    AgentAbort: _on_abort,
    SessionEnd: _on_session_end,
}
