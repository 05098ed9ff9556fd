"""Whether there are traces, and everything that the gateway has of them.

There are where an SDK was set up before the gateway is opened: by `opentelemetry-instrument`, or by
the host of the application. Else there is none, and each place that could begin a span looks at
one attribute.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from frontdesk._version import __version__

if TYPE_CHECKING:
    # Late: it is imported by whoever traces, and by nobody else.
    from frontdesk.gateway.tracing.request_spans import RequestSpans
    from frontdesk.gateway.tracing.turn_spans import TurnSpans

logger: logging.Logger = logging.getLogger("frontdesk.gateway")

WANTED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables that nobody sets who wants no traces."""


class Tracing:
    """The spans of one gateway: `requests` for its middleware, `turns` for its sessions."""

    requests: RequestSpans
    turns: TurnSpans

    def __init__(self, requests: RequestSpans, turns: TurnSpans) -> None:
        self.requests, self.turns = requests, turns

    @classmethod
    def find(cls, *, text: bool, route: Callable[[str], str]) -> Tracing | None:
        """Return it where somebody set up an SDK, else None.

        `text` has it tell what is said; `route` says which route a path is of.
        """
        trace = sys.modules.get("opentelemetry.trace")
        if trace is None or isinstance(
            trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider
        ):
            _warn_who_expects_some(os.environ)
            return None
        from frontdesk.gateway.tracing.request_spans import RequestSpans
        from frontdesk.gateway.tracing.turn_spans import TurnSpans

        tracer = trace.get_tracer("frontdesk", __version__)
        return cls(RequestSpans(tracer, route=route), TurnSpans(tracer, text=text))


def _warn_who_expects_some(environment: Mapping[str, str]) -> None:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    for name in WANTED_BY:
        if environment.get(name):
            logger.warning(
                "there are no traces: %s is set, but no OpenTelemetry SDK was set up: start it by "
                "`opentelemetry-instrument -- frontdesk serve`",
                name,
            )
            return
