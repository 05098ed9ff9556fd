"""Lines of the log, from what was logged to the text that is written.

Below `logs.py`, which sends them somewhere. A line is one JSON object, or on a terminal one line of
words; whatever clients and agents wrote into it begins no line of its own and reaches no terminal
as a control. A traceback shows where and what, never the values of local variables: those are keys,
prompts and system prompts. All of it is bounded, and so is what it costs the loop.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from frontdesk.gateway.log_events import FIRST_FIELDS, EventLine, LogEvent
from frontdesk.keeper.stderr import printable

MAX_FRAMES = 20
"""Of each exception, the innermost."""
MAX_IN_GROUP = 5
MAX_TRACEBACK_CHARACTERS = 16_000
MAX_CHAINED = 5
MAX_TEXT_CHARACTERS = 8_000
"""Of any other text of a line."""
MAX_DEPTH = 6
"""Of values within values; what is deeper is shown by its type."""
MAX_VALUES = 1_000
"""Of one list or object in a line."""

Line = dict[str, Any]
Render = Callable[[Line], str]

_OF_EVERY_RECORD = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "event"}
)


class LineFormatter(logging.Formatter):
    """Make lines of what the standard library's `logging` was told."""

    def __init__(self, render: Render, *, node: str | None = None) -> None:
        super().__init__()
        self._render, self._node = render, node

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line."""
        event = record.__dict__.get("event", LogEvent.MESSAGE.value)
        line: Line = {"event": event, "node": self._node}
        if not isinstance(record.msg, EventLine):
            line["message"] = _message_of(record)
            line["logger"] = record.name
        for name, value in record.__dict__.items():
            if name not in _OF_EVERY_RECORD and not name.startswith("_"):
                line[name] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = bounded_traceback(record.exc_info)
        return self._render(finished(line, level=record.levelname.lower(), at_s=record.created))


def finished(line: Line, *, level: str, at_s: float) -> Line:
    """Return a line in its order, with what every line has, and fit to be shown anywhere."""
    line = {"ts": timestamp(at_s), "level": level, "trace_id": trace_id(), **line}
    ordered = {name: line.pop(name, None) for name in FIRST_FIELDS} | line
    return {name: printable_value(each) for name, each in ordered.items() if each is not None}


def timestamp(at_s: float) -> str:
    """Return a time as the log writes it."""
    at = datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None)
    return at.isoformat(timespec="microseconds") + "Z"


def trace_id() -> str | None:
    """Return the id of the trace that is under way here; None where nobody traces."""
    # Whoever traces has imported it; this costs nothing where nobody has.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def printable_value(value: Any, depth: int = 0) -> Any:
    """Return a value as a line may have it: bounded, and its texts without controls."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return printable_text(value)
    if depth < MAX_DEPTH and isinstance(value, dict):
        some = list(value.items())[:MAX_VALUES]
        return {printable_text(str(name)): printable_value(each, depth + 1) for name, each in some}
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [printable_value(each, depth + 1) for each in list(value)[:MAX_VALUES]]
    try:
        return printable_text(repr(value))
    except Exception:  # noqa: BLE001 - the repr is whoever made it
        return f"<{type(value).__name__}>"


def as_json(line: Line) -> str:
    """Return a line as a JSON object."""
    return msgspec.json.encode(line).decode()


def for_people(*, colors: bool) -> Render:
    """Return what makes a line for a terminal: the event, then its facts as `name=value`."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors,
        timestamp_key="ts",
        sort_keys=False,
        # Ours is a text by then. Never the default, which shows the values of local variables.
        exception_formatter=structlog.dev.plain_traceback,
    )

    def render(line: Line) -> str:
        # What was said in words is what one wants to read first. It begins no line of its own.
        line = dict(line)
        message, event = line.pop("message", None), line["event"]
        if message is not None and event == LogEvent.MESSAGE.value:
            event = message
        elif message is not None:
            event = f"{event}: {message}"
        line["event"] = event.replace("\n", "\n    ")
        return str(renderer(None, line["level"], line))

    return render


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
    return _shortened(text, MAX_TRACEBACK_CHARACTERS)


def _sentence(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:MAX_TRACEBACK_CHARACTERS]
    except Exception:  # noqa: BLE001 - the text is whoever made it
        return f"{type(error).__name__}, whose text cannot be had"


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - its arguments are whoever made them
        return f"{record.msg!r}, whose arguments do not fit"


def printable_text(text: str) -> str:
    """Return a text without controls, bounded."""
    if len(text) <= MAX_TEXT_CHARACTERS and text.isprintable():
        return text
    text = _shortened(text, MAX_TRACEBACK_CHARACTERS if "\n" in text else MAX_TEXT_CHARACTERS)
    return "\n".join(printable(part) for part in text.split("\n"))


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"
