"""Standard error of agent processes, line by line into the log, within bounds.

An agent that floods its standard error is slowed down by its own full pipe; it costs the gateway a
bounded number of bytes and the log a bounded number of lines a second, and so do all agents
together (`StderrBudget`), however many flood. What it writes reaches the log as text: no control
sequence of an agent's moves the cursor of whoever reads it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re

MAX_LINE_CHARACTERS = 2000
"""Characters of one line that the log gets; the rest of the line is left out."""

MAX_LINES_PER_S = 100
MAX_BYTES_PER_S = 256 * 1024

MAX_TOTAL_LINES_PER_S = 500
MAX_TOTAL_BYTES_PER_S = 2 * 1024 * 1024
"""Of all processes together. Half is for those that have written little in this second, so that who
floods silences nobody else."""

LITTLE_LINES, LITTLE_BYTES = 5, 4 * 1024

_READ_BYTES = 32 * 1024

# Colours and the like, titles and links, and the short ones: ECMA-48, 8.3 and 5.6.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*"
    r"(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]"
)

_logger = logging.getLogger("frontdesk.agents.stderr")


class StderrBudget:
    """What all processes of one keeper may write in a second. Belongs to its event loop."""

    __slots__ = ("_left_out", "_timer", "bytes", "lines")
    bytes: int
    lines: int

    def __init__(self) -> None:
        self.lines = self.bytes = 0
        self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None

    def may_log(self, own_lines: int) -> bool:
        """Say whether a process may log a line, which is its `own_lines`th in this second."""
        self._begin_second()
        limit = MAX_TOTAL_LINES_PER_S // (1 if own_lines <= LITTLE_LINES else 2)
        if self.lines >= limit:
            return False
        self.lines += 1
        return True

    def may_read(self, own_bytes: int) -> bool:
        """Say whether a process of which so much was read in this second may be read from."""
        self._begin_second()
        limit = MAX_TOTAL_BYTES_PER_S // (1 if own_bytes < LITTLE_BYTES else 2)
        return self.bytes < limit

    def leave_out(self, lines: int) -> None:
        """Count lines about which there is no line of their own; said at the end of the second."""
        self._begin_second()
        self._left_out += lines

    def end_second(self) -> None:
        """Say what was left out, and let the next second begin with the next line."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left_out:
            _logger.warning("%d more lines of agents left out", self._left_out)
        self.lines = self.bytes = self._left_out = 0

    def _begin_second(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.0, self.end_second)


class StderrLog:
    """Log what comes out of a pipe until it ends or `close` is called; owns the descriptor.

    Lines go to the logger `frontdesk.agents.stderr` with the attribute `session` set to the label.
    `budget` is what it shares with others.
    """

    __slots__ = (
        *("_budget", "_bytes", "_fd", "_label", "_left_out"),
        *("_lines", "_loop", "_tail", "_timer"),
    )

    def __init__(self, descriptor: int, *, label: str, budget: StderrBudget | None = None) -> None:
        os.set_blocking(descriptor, False)
        self._fd, self._label = descriptor, label
        self._budget = budget or StderrBudget()
        self._loop = asyncio.get_running_loop()
        self._tail = b""
        self._bytes = self._lines = self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(descriptor, self._read)

    def close(self) -> None:
        """Log what is still in the pipe, and close it. Idempotent."""
        # Without asking the budget: it is a pipe full at most, and would be lost.
        while self._fd >= 0 and self._take():
            pass
        self._shut()

    def _read(self) -> None:
        if self._budget.may_read(self._bytes):
            self._take()
        else:
            self._rest()

    def _take(self) -> bool:
        try:
            chunk = os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        if not chunk:
            self._shut()
            return False
        self._count(len(chunk))
        *lines, tail = (self._tail + chunk).split(b"\n")
        for line in lines:
            self._log(line)
        # Of a line without end only what the log would hold is kept.
        self._tail = tail[: MAX_LINE_CHARACTERS * 4]
        return self._bytes < MAX_BYTES_PER_S

    def _count(self, size: int) -> None:
        self._bytes += size
        self._budget.bytes += size
        if self._bytes >= MAX_BYTES_PER_S:
            self._rest()
        else:
            self._time()

    def _rest(self) -> None:
        """Read no more in this second."""
        self._loop.remove_reader(self._fd)
        self._time()

    def _time(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._next_second)

    def _next_second(self) -> None:
        self._timer = None
        self._report_left_out()
        self._bytes = self._lines = 0
        self._loop.add_reader(self._fd, self._read)

    def _log(self, line: bytes) -> None:
        self._lines += 1
        if self._lines > MAX_LINES_PER_S or not self._budget.may_log(self._lines):
            self._left_out += 1
            return
        # Cut before it is worked on, and after: an escaped character is longer than it was.
        text = line[: MAX_LINE_CHARACTERS * 4].decode(errors="replace").rstrip("\r")
        text = printable(text[:MAX_LINE_CHARACTERS])[:MAX_LINE_CHARACTERS]
        _logger.info("%s: %s", self._label, text, extra={"session": self._label})

    def _report_left_out(self) -> None:
        left_out, self._left_out = self._left_out, 0
        if left_out and self._budget.may_log(1):
            _logger.warning(
                "%s: %d more lines left out", self._label, left_out, extra={"session": self._label}
            )
        elif left_out:
            self._budget.leave_out(left_out)

    def _shut(self) -> None:
        if self._fd < 0:
            return
        if self._tail:
            self._log(self._tail)
        self._report_left_out()
        self._loop.remove_reader(self._fd)
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._fd)
        self._fd = -1


def printable(text: str) -> str:
    """Return a line of text as it may be shown: without control sequences, the rest escaped.

    >>> printable("\\x1b[31mred\\x1b[0m and \\x00")
    'red and \\\\x00'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\t" else ascii(character)[1:-1]
        for character in _SEQUENCE.sub("", text)
    )
