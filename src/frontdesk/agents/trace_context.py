"""The trace that a turn is part of, in the process of its agent.

It comes as text with the turn. Where the agent's program uses OpenTelemetry, spans that it begins
in the turn belong to that trace; where it does not, nothing is imported.
"""

from __future__ import annotations

import sys
from contextvars import Context, copy_context


def traced_context(traceparent: str | None) -> Context | None:
    """Return a copy of this context in which a turn's span is the current one.

    None where there is no trace, or nobody who would see it.
    """
    if traceparent is None or "opentelemetry.trace" not in sys.modules:
        return None
    # Late: the agent's program has imported it.
    from opentelemetry.context import attach
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = copy_context()
    found = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    context.run(attach, found)
    return context
