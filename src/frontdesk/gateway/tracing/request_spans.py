"""A span for each request, from its first byte to its last; of a stream, as long as it is open.

It is a child of the span that is current already (of a host that traces), else of the one that the
client names in `traceparent`. Whatever the request is passed on to, another node above all, gets
this span in its place. What happens over a WebSocket, which may stay for days, is no child of it: a
turn that begins there has a trace of its own, with a link.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current, get_value, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from frontdesk.gateway.metrics.bounded_labels import OTHER
from frontdesk.gateway.request_context import RequestContext
from frontdesk.gateway.tracing import conventions as names

LINKED = "frontdesk-linked-span"
"""In a context of OpenTelemetry: the span that what begins there is linked to, and no child of."""

MAX_STATE_CHARACTERS = 512
"""Of `tracestate`, as W3C Trace Context has it; a longer one is left out."""

W3C = TraceContextTextMapPropagator()


class RequestSpan:
    """The span of one request. Ended by whoever began it, in the same task."""

    __slots__ = ("_context", "_span", "_token")

    def __init__(self, context: RequestContext, span: Span, token: Token[Context]) -> None:
        self._context, self._span, self._token = context, span, token

    def end(self) -> None:
        """End it with what was answered."""
        status = self._context.status
        if status:
            self._span.set_attribute(names.STATUS, status)
        if status >= 500:
            self._span.set_attribute(names.ERROR_TYPE, str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        detach(self._token)


class RequestSpans:
    """Begin the spans of requests. `route` says which route a path is of."""

    def __init__(self, tracer: Tracer, *, route: Callable[[str], str]) -> None:
        self._tracer, self._route = tracer, route

    def begin(self, context: RequestContext) -> RequestSpan | None:
        """Begin a request's span; None for paths that leave no line in the log either.

        From here on the span is current, and in the headers of the request.
        """
        if not context.rule.logged:
            return None
        parent = parent_of(context)
        method = context.method if context.method in names.METHODS else names.OTHER
        route = self._route(context.path)
        span = self._tracer.start_span(
            method if route == OTHER else f"{method} {route}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes=_attributes(context, method, route),
        )
        inner = set_span_in_context(span, parent)
        propagate(context, inner)
        passed = span.get_span_context()
        context.trace_id = f"{passed.trace_id:032x}" if passed.is_valid else None
        if context.websocket:
            inner = set_value(LINKED, passed, set_span_in_context(INVALID_SPAN, parent))
        return RequestSpan(context, span, attach(inner))


def parent_of(context: RequestContext) -> Context:
    """Return what a request is part of: what is current, else what its headers name."""
    current = get_current()
    if get_current_span(current).get_span_context().is_valid:
        return current
    carried = {}
    for name in (b"traceparent", b"tracestate"):
        values = [value for header, value in context.scope["headers"] if header == name]
        if len(values) == 1 and len(values[0]) <= MAX_STATE_CHARACTERS:
            carried[name.decode()] = values[0].decode("latin-1")
    return W3C.extract(carried, current)


def propagate(context: RequestContext, inner: Context) -> None:
    """Put a span into the headers of a request, for whoever it is passed on to."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier, inner)
    others = [
        header
        for header in context.scope["headers"]
        if header[0] not in (b"traceparent", b"tracestate")
    ]
    passed = [(name.encode(), value.encode("latin-1")) for name, value in carrier.items()]
    context.scope["headers"] = [*others, *passed]


def origin() -> tuple[SpanContext, bool] | None:
    """Return the span that is current, and whether what begins now is but linked to it."""
    current = get_current()
    linked = get_value(LINKED, current)
    if isinstance(linked, SpanContext):
        return (linked, True) if linked.is_valid else None
    span = get_current_span(current).get_span_context()
    return (span, False) if span.is_valid else None


def links_to(span: SpanContext) -> list[Link]:
    """Return a link."""
    return [Link(span)]


def _attributes(context: RequestContext, method: str, route: str) -> dict[str, Any]:
    scope = context.scope
    attributes = {
        names.METHOD: method,
        names.PATH: names.attribute_text(context.path),
        names.SCHEME: str(scope.get("scheme", "http")),
        names.CLIENT_ADDRESS: context.client,
        names.PROTOCOL_VERSION: str(scope.get("http_version", "1.1")),
    }
    if route != OTHER:
        attributes[names.ROUTE] = route
    return attributes
