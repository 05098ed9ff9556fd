"""One line a request: what was asked, by which key, how it was answered. Never a secret.

Below the front. The path is logged without its query, which may hold a key. A line is written when
a request is over: that of a stream when it ends.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from frontdesk.gateway.request_context import RequestContext

LONGEST = 500
QUIET = frozenset({"/healthz", "/readyz"})


class Writer(Protocol):
    """What takes a line: a structlog logger does."""

    def info(self, event: str, **facts: Any) -> Any: ...


class AccessLog:
    """Write the line of each request. Health checks leave none."""

    __slots__ = ("_writer",)

    def __init__(self, writer: Writer | None) -> None:
        self._writer = writer

    def line(self, passage: RequestContext) -> None:
        """Write a passage's line."""
        if self._writer is None or passage.path in QUIET:
            return
        # A disk that is full under the log, or a reader that has gone, must not break requests.
        with suppress(OSError):
            self._write(self._writer, passage)

    def _write(self, writer: Writer, passage: RequestContext) -> None:
        key = passage.key
        writer.info(
            "request",
            method="WS" if passage.websocket else passage.method,
            path=_shown(passage.path),
            status=passage.status,
            duration_ms=passage.duration_ms,
            client=passage.client,
            session=_shown(passage.session_id),
            tenant=key.tenant_id if key else None,
            key=key.key_id if key else None,
        )


def _shown(text: str | None) -> str | None:
    # Paths are the client's to write: no line feed of theirs begins a line of ours.
    if text is None:
        return None
    return (text if text.isprintable() else repr(text))[:LONGEST]
