"""The same error again and again: ten lines of it a minute, then a count.

A filter of the log's handler, from any thread. An error is the same where the same place says it in
the same words, whatever the ids in them, about the same kind of exception. What the list of events
wants a line of each (ends, requests, changes, actions) is not counted.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from frontdesk.gateway.log_events import ONE_BY_ONE, LogEvent, log_event
from frontdesk.lock import InterruptibleLock

MOST = 10
"""Lines of one error in a minute."""
MINUTE_S = 60.0
MAX_DIFFERENT = 500
"""Errors that are told apart in one minute; what comes on top is counted together."""
MAX_WORDS_CHARACTERS = 200
OTHERS = "other errors"

Later = Callable[[float, Callable[[], None]], None]
"""Has something called in so many seconds."""


@dataclass(slots=True)
class _Seen:
    level: int
    logger: str
    message: str
    lines: int = 0
    left_out: int = 0


class RepeatedErrors(logging.Filter):
    """Let ten lines of each error a minute pass, and tell at its end how many did not.

    The minute begins with the first error after the last. `later` has its end told; without it
    that is told with the first error that comes after it, or by `end_minute`.
    """

    def __init__(
        self, later: Later | None = None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._later, self._now = later, now
        self._lock = InterruptibleLock()
        self._seen: dict[Any, _Seen] = {}
        self._until_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record gets a line."""
        event = record.__dict__.get("event")
        if record.levelno < logging.WARNING or event in ONE_BY_ONE:
            return True
        now_s = self._now()
        if self._seen and now_s >= self._until_s:
            self.end_minute()
        with self._lock:
            begins = not self._seen
            if begins:
                self._until_s = now_s + MINUTE_S
            seen = self._of(record)
            passes = seen.lines < MOST
            seen.lines += passes
            seen.left_out += not passes
        if begins and self._later is not None:
            self._later(MINUTE_S, self.end_minute)
        return passes

    def end_minute(self) -> None:
        """End the minute: write how many lines there would have been of each error."""
        with self._lock:
            seen, self._seen = self._seen, {}
        for each in seen.values():
            if each.left_out:
                log_event(
                    LogEvent.REPEATED,
                    level=each.level,
                    error=each.message,
                    count=each.left_out,
                    source=each.logger,
                )

    def _of(self, record: logging.LogRecord) -> _Seen:
        words = _words_of(record)
        error = None if not record.exc_info else record.exc_info[0]
        key = record.name, record.levelno, words, error
        if (seen := self._seen.get(key)) is None:
            if len(self._seen) >= MAX_DIFFERENT:
                return self._seen.setdefault(OTHERS, _Seen(logging.WARNING, "", OTHERS))
            text = words if error is None else f"{words} ({error.__name__})"
            seen = self._seen[key] = _Seen(record.levelno, record.name, text)
        return seen


def _words_of(record: logging.LogRecord) -> str:
    """Return what an error says without what differs from one time to the next, if it is said."""
    template = str(record.msg)
    if record.args and not re.search("[a-z]{3}", re.sub(r"%[-.\d]*[a-z]", "", template)):
        # Nothing but a place for what is said.
        try:
            template = record.getMessage()
        except Exception:  # noqa: BLE001 - its arguments are whoever made them
            return template[:MAX_WORDS_CHARACTERS]
    return template[:MAX_WORDS_CHARACTERS]
