"""Logs: JSON in production, readable on a terminal.

The command line sets this up once for its process; a host that runs the application itself has
logging of its own, and nothing here is touched then. Our modules log through the standard library,
the access log through structlog; both end in the same lines on standard error. uvicorn is quiet:
what it would say of a request has the query in it, and a query may hold a key.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog

from frontdesk.gateway.settings import LogSettings

QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx2", "httpcore2", "websockets")


def configure_logs(settings: LogSettings, *, to: TextIO | None = None) -> Any:
    """Send all logs to `to` (standard error) and return the writer of the access log."""
    stream = to or sys.stderr
    readable = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(readable=readable, colors=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    return _access_writer(stream, readable=readable, level=level)


def _formatter(*, readable: bool, colors: bool) -> logging.Formatter:
    last = [_renderer(readable=readable, colors=colors)]
    tracebacks = [] if readable else [structlog.processors.format_exc_info]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *tracebacks,
            *last,
        ],
    )


def _access_writer(stream: TextIO, *, readable: bool, level: int) -> Any:
    # Not through the standard library, bound now, and as JSON in one step: this is one line for
    # every request.
    def line_of(_: Any, level: str, line: MutableMapping[str, Any]) -> str:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return _as_json({**line, "level": level, "timestamp": now.replace("+00:00", "Z")})

    for_people = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _renderer(readable=readable, colors=stream.isatty()),
    ]
    return structlog.wrap_logger(
        structlog.WriteLogger(stream),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=for_people if readable else [line_of],
        cache_logger_on_first_use=True,
    ).bind()


def _renderer(*, readable: bool, colors: bool) -> Any:
    if readable:
        return structlog.dev.ConsoleRenderer(colors=colors)
    return structlog.processors.JSONRenderer(serializer=_as_json)


def _as_json(line: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()
