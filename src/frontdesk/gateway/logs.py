"""Logs: JSON in production, readable on a terminal.

The command line sets this up once for its process; a host that runs the application itself has
logging of its own, and nothing here is touched then. What there are lines of is in `log_events.py`,
how they look in `log_lines.py`. Our modules log through the standard library, the access log
without that detour; both end in the same lines on standard error. uvicorn is quiet: what it would
say of a request has the query in it, and a query may hold a key.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from functools import partial
from typing import Any, TextIO

from frontdesk.gateway.log_lines import (
    LineFormatter,
    Render,
    as_json,
    for_people,
    printable_text,
    timestamp,
)
from frontdesk.gateway.log_writer import LogWriter
from frontdesk.gateway.repeated_errors import RepeatedErrors
from frontdesk.gateway.settings import LogSettings

logger: logging.Logger = logging.getLogger("frontdesk.log")

LAST_LINES_S: float = 2.0
"""How long a process that ends waits for its log to be written."""

QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx2", "httpcore2", "websockets")


def configure_logs(
    settings: LogSettings, *, to: TextIO | LogWriter, node: str | None = None
) -> RequestLines:
    """Send all logs to a stream and return the writer of the access log.

    `node` is what each line is to say that it comes from, where there are several.
    """
    stream: Any = to
    readable = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    render = for_people(colors=stream.isatty()) if readable else as_json
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(render, node=node))
    handler.addFilter(RepeatedErrors(to.later if isinstance(to, LogWriter) else None))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    return RequestLines(stream, render, node=node, written=level <= logging.INFO)


class RequestLines:
    """Writes the lines of requests: not through the standard library, which would cost each."""

    def __init__(
        self, stream: TextIO | LogWriter, render: Render, *, node: str | None, written: bool
    ) -> None:
        self._stream, self._render, self._node, self._written = stream, render, node, written

    def info(self, event: str, **fields: Any) -> None:
        """Write the line of a request."""
        if not self._written:
            return
        # In their order already: this is one line for every request.
        line = {"ts": timestamp(time.time()), "level": "info", "event": event, "node": self._node}
        for name, value in fields.items():
            if value is not None:
                line[name] = value if type(value) is not str else printable_text(value)
        if self._node is None:
            del line["node"]
        self._stream.write(self._render(line) + "\n")


def log_stray_errors() -> None:
    """Send into the log what Python would write to standard error itself, where it may wait."""
    logging.captureWarnings(True)
    sys.unraisablehook = partial(_log_stray_error, "an error that nobody could be told")
    threading.excepthook = partial(_log_stray_error, "a thread failed")


def _log_stray_error(what: str, error: Any) -> None:
    if error.exc_type is not SystemExit:  # by which a thread may end
        exc_info = error.exc_type, error.exc_value, error.exc_traceback
        logger.error("%s", what, exc_info=exc_info)


def lines_dropped() -> int:
    """Return how many lines of the log nobody will read, since the start of the process."""
    return sum(each.dropped for each in _writers())


def drain_logs(*, timeout_s: float) -> None:
    """Wait until the lines that there are were written, so long at most: the process ends next."""
    for each in _writers():
        each.drain(timeout_s=timeout_s)


def _writers() -> list[LogWriter]:
    streams = (getattr(each, "stream", None) for each in logging.getLogger().handlers)
    return [each for each in streams if isinstance(each, LogWriter)]
