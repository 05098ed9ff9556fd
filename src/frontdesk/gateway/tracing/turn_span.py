"""One turn's span, and those below it: what the model was asked, which tools ran.

No span an event: a tool has one from its start to its end; a model one for each time that it was
its turn, from the turn's begin or the end of the last tool to the next tool or the turn's end. That
it was asked is known by what came of it. All of it ends with the turn, whatever ends that.
"""

from __future__ import annotations

import time
from contextvars import Context as TaskContext
from contextvars import copy_context
from typing import Any

import msgspec
from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from frontdesk.agents.events import ToolExecutionEnd, ToolExecutionStart
from frontdesk.agents.records import NO_USAGE, TokenUsage
from frontdesk.agents.values import json_value
from frontdesk.gateway.tracing import conventions as names
from frontdesk.gateway.tracing.request_spans import W3C

MAX_OPEN_TOOLS = 64
"""Of one turn at a time; what runs beside them has no span."""

MAX_TEXT_CHARACTERS = 8_000
"""Of each text, where there are texts at all."""


class TurnSpan:
    """The span of one turn, as what runs it (`TurnTrace`) and what sees it need it."""

    __slots__ = (
        "_above",
        "_asked",
        "_began_ns",
        "_below",
        "_model",
        "_span",
        "_text",
        "_tokens_before",
        "_tools",
        "_tracer",
        "carrier",
        "conversation",
        "counters",
        "error",
    )

    def __init__(
        self, tracer: Tracer, span: Span, parent: Context, *, conversation: Any, text: bool
    ) -> None:
        self._tracer, self._span, self._text = tracer, span, text
        self._above = set_span_in_context(span, parent)
        self.conversation: Any = conversation
        self.counters: Any = None
        """What the turn has used; None before it is known."""
        self.error: str | None = None
        """The last error that was own."""
        self.carrier: dict[str, str] = {}
        W3C.inject(self.carrier, self._above)
        self._tools: dict[str, Span] = {}
        self._model: str = conversation.model
        session_id = names.attribute_text(conversation.session_id)
        self._below = {names.CONVERSATION_ID: session_id}
        self._tokens_before, self._began_ns, self._asked = NO_USAGE, time.time_ns(), False

    # -- for what runs it ------------------------------------------------------------------------

    @property
    def context(self) -> TaskContext:
        """In which its agent runs: this span is the current one there."""
        inner = copy_context()
        inner.run(attach, self._above)
        return inner

    @property
    def traceparent(self) -> str | None:
        """What its agent's process is own."""
        return self.carrier.get("traceparent")

    @property
    def trace_id(self) -> str | None:
        """What the log calls the trace."""
        own = self._span.get_span_context()
        return f"{own.trace_id:032x}" if own.is_valid else None

    def carrier_of_tool(self, call_id: str) -> dict[str, str]:
        """Return the headers that tell a tool's server of its span; of the turn's, where none."""
        span = self._tools.get(call_id)
        if span is None:
            return self.carrier
        carrier: dict[str, str] = {}
        W3C.inject(carrier, set_span_in_context(span, self._above))
        return carrier

    # -- what is seen of it ----------------------------------------------------------------------

    def on_model_output(self) -> None:
        """Note that the model was asked: something came of it."""
        self._asked = True

    def begin_tool(self, event: ToolExecutionStart) -> None:
        """Begin a tool's span. What asked for it was the model."""
        if not self._tools:
            self._asked = True
            self._end_model()
        if len(self._tools) >= MAX_OPEN_TOOLS or event.call_id in self._tools:
            return
        name = names.attribute_text(event.tool_name)
        span = self._tools[event.call_id] = self._tracer.start_span(
            f"{names.EXECUTE_TOOL} {name}",
            context=self._above,
            attributes={
                **self._below,
                names.OPERATION: names.EXECUTE_TOOL,
                names.TOOL_NAME: name,
                names.TOOL_CALL_ID: names.attribute_text(event.call_id),
            },
        )
        if self._text:
            span.set_attribute(names.TOOL_ARGUMENTS, as_text(event.args))

    def end_tool(self, event: ToolExecutionEnd) -> None:
        """End a tool's span. After the last one it is the model's turn again."""
        span = self._tools.pop(event.call_id, None)
        if span is not None:
            if self._text:
                span.set_attribute(names.TOOL_RESULT, as_text(event.result))
            _end(span, None if event.status == "ok" else event.status)
        if not self._tools:
            self._began_ns, self._asked = time.time_ns(), False
            self._tokens_before = self._tokens

    def end(self, error: str | None, *, failed: bool) -> None:
        """End it and all below it; `error` names what ended it where it did not end well."""
        for span in self._tools.values():
            _end(span, error or names.OTHER)
        if not self._tools:
            self._end_model()
        self._tools.clear()
        tokens = self._tokens
        if tokens.total:
            self._span.set_attributes(_usage(tokens))
        if error is not None:
            self._span.set_attribute(names.ERROR_TYPE, error)
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def set_request(self, request_id: str | None) -> None:
        """Set what events and the log call the turn."""
        if request_id is not None:
            self._span.set_attribute(names.REQUEST_ID, request_id)

    def set_text(self, name: str, role: str, text: str) -> None:
        """Set what was said, where traces have that."""
        if self._text:
            part = {"type": "text", "content": text[:MAX_TEXT_CHARACTERS]}
            self._span.set_attribute(name, as_text([{"role": role, "parts": [part]}]))

    # -- within ----------------------------------------------------------------------------------

    @property
    def _tokens(self) -> TokenUsage:
        tokens: TokenUsage = NO_USAGE if self.counters is None else self.counters.tokens
        return tokens

    def _end_model(self) -> None:
        """Make the span of a model call that is over, if there was one."""
        before, now = self._tokens_before, self._tokens
        model, self._model = self._model, self.conversation.model
        if not model or not (self._asked or now.total > before.total):
            return
        attributes: dict[str, Any] = {
            **self._below,
            names.OPERATION: names.CHAT,
            names.REQUEST_MODEL: names.attribute_text(model),
        }
        if (provider := names.provider_of(model)) is not None:
            attributes[names.PROVIDER] = provider
        if now.total > before.total:
            used = TokenUsage(now.prompt - before.prompt, now.completion - before.completion)
            attributes |= _usage(used)
        self._tracer.start_span(
            f"{names.CHAT} {attributes[names.REQUEST_MODEL]}",
            context=self._above,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=self._began_ns,
        ).end()


def as_text(value: Any) -> str:
    """Return a value as an attribute may have it: JSON, bounded."""
    text = msgspec.json.encode(json_value(value)).decode()
    return names.attribute_text(text, limit=2 * MAX_TEXT_CHARACTERS)


def _usage(tokens: TokenUsage) -> dict[str, int]:
    return {names.INPUT_TOKENS: tokens.prompt, names.OUTPUT_TOKENS: tokens.completion}


def _end(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_attribute(names.ERROR_TYPE, error)
        span.set_status(StatusCode.ERROR)
    span.end()
