"""Logs: JSON in production, readable on a terminal.

The command line sets this up once for its process; a host that runs the application itself has
logging of its own, and nothing here is touched then. Our modules log through the standard library,
the access log through structlog; both end in the same lines on standard error. uvicorn is quiet:
what it would say of a request has the query in it, and a query may hold a key.

A traceback shows where and what, never the values of local variables: those are keys, prompts and
system prompts. It is bounded, and so is what it costs the loop. Control characters reach no
terminal: what clients and agents write is part of many lines.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

import msgspec
import structlog

from frontdesk.gateway.log_writer import LogWriter
from frontdesk.gateway.settings import LogSettings
from frontdesk.keeper.stderr import printable

MAX_FRAMES = 20
"""Of each exception, the innermost."""
MAX_IN_GROUP = 5
MAX_TRACEBACK_CHARACTERS = 16_000
MAX_CHAINED = 5

logger: logging.Logger = logging.getLogger("frontdesk.log")

QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx2", "httpcore2", "websockets")


def configure_logs(
    settings: LogSettings, *, to: TextIO | LogWriter, node: str | None = None
) -> Any:
    """Send all logs to a stream and return the writer of the access log.

    `node` is what each line is to say that it comes from, where there are several.
    """
    stream: Any = to
    readable = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(readable=readable, colors=stream.isatty(), node=node))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    writer = _access_writer(stream, readable=readable, level=level)
    return writer if node is None else writer.bind(node=node)


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
    streams = (getattr(each, "stream", None) for each in logging.getLogger().handlers)
    return sum(each.dropped for each in streams if isinstance(each, LogWriter))


def _formatter(*, readable: bool, colors: bool, node: str | None) -> logging.Formatter:
    last = [_renderer(readable=readable, colors=colors)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if node is None else [_named(node)]),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(bounded_traceback),
            _without_control_characters,
            *last,
        ],
    )


def _named(node: str) -> Any:
    def add(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["node"] = node
        return line

    return add


def _access_writer(stream: Any, *, readable: bool, level: int) -> Any:
    # Not through the standard library, bound now, and as JSON in one step: this is one line for
    # every request.
    def line_of(_: Any, level: str, line: MutableMapping[str, Any]) -> str:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return _as_json({**line, "level": level, "timestamp": now.replace("+00:00", "Z")})

    for_people = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_control_characters,
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
        # Ours is a text by then. Never the default, which shows the values of local variables.
        plain = structlog.dev.plain_traceback
        return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
    return structlog.processors.JSONRenderer(serializer=_as_json)


def _as_json(line: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()


def bounded_traceback(exc_info: Any) -> str:
    """Return a traceback without values; of a long one, the parts that matter most."""
    error: BaseException | None = exc_info[1]
    parts: list[str] = []
    # By hand: the library's own takes in every exception of every group and of the whole chain
    # before it leaves any out.
    while error is not None and len(parts) < MAX_CHAINED:
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES))
        parts.append(f"Traceback (most recent call last):\n{''.join(frames)}{_sentence(error)}")
        if isinstance(error, BaseExceptionGroup):
            parts[-1] += "".join(f"\n  {_sentence(e)}" for e in error.exceptions[:MAX_IN_GROUP])
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    text = "\n".join(reversed(parts))
    if len(text) <= MAX_TRACEBACK_CHARACTERS:
        return text
    half = MAX_TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"


def _sentence(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:MAX_TRACEBACK_CHARACTERS]
    except Exception:  # noqa: BLE001 - the text is whoever made it
        return f"{type(error).__name__}, whose text cannot be had"


def _without_control_characters(
    _: Any, __: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            line[name] = "\n".join(printable(part) for part in value.split("\n"))
    return line
