"""One line a request: what was asked, by which key, how it was answered. Never a secret.

Below the middleware. The path is logged without its query, which may hold a key. A line is written
when a request is over: that of a stream when it ends.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from frontdesk.gateway.log_events import LogEvent
from frontdesk.gateway.request_context import RequestContext

MAX_SHOWN_CHARACTERS = 500


class Writer(Protocol):
    """What takes a line: a structlog logger does."""

    def info(self, event: str, **fields: Any) -> Any: ...


class AccessLog:
    """Write the line of each request, but for the paths that leave none (`paths.py`)."""

    __slots__ = ("_writer",)

    def __init__(self, writer: Writer | None) -> None:
        self._writer = writer

    def line(self, context: RequestContext) -> None:
        """Write a request's line."""
        if self._writer is None or not context.rule.logged:
            return
        key = context.key
        # A disk that is full under the log, or a reader that has gone, must not break requests.
        with suppress(OSError):
            self._writer.info(
                LogEvent.REQUEST.value,
                tenant=key.tenant_id if key else None,
                session_id=_printable(context.session_id),
                request_id=context.request_id,
                trace_id=context.trace_id,
                method="WS" if context.websocket else context.method,
                path=_printable(context.path),
                status=context.status,
                duration_ms=context.duration_ms,
                client=context.client,
                key_id=key.key_id if key else None,
            )


def _printable(text: str | None) -> str | None:
    # Paths are the client's to write: no line feed of theirs begins a line of ours.
    if text is None:
        return None
    return (text if text.isprintable() else repr(text))[:MAX_SHOWN_CHARACTERS]
