"""Lines of the log on their way out: nobody waits for whoever reads them.

A collector that has stalled, or a terminal that was stopped, blocks every write to it. So one
thread writes, and what it has not written yet is bounded. Lines beyond that are dropped, counted,
and the log says so as soon as it is read again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TextIO

from frontdesk.background import start_without_signals

MAX_WAITING_CHARACTERS = 1024 * 1024
"""Of lines that nobody has read yet; what comes on top is dropped."""
MAX_WRITTEN_AT_ONCE = 64 * 1024

logger: logging.Logger = logging.getLogger("frontdesk.log")


class LogWriter:
    """A stream for handlers of logs whose `write` never waits, from any thread."""

    dropped: int

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        # One that a signal handler which logs may take a second time.
        self._lock = threading.RLock()
        self._waiting = self._reported = 0
        self.dropped = 0
        self._closing = False
        self._due: tuple[float, Callable[[], None]] | None = None
        writer = threading.Thread(target=self._run, name="frontdesk-log", daemon=True)
        start_without_signals(writer)

    def write(self, text: str) -> None:
        """Take lines to be written, or drop them where too many wait."""
        with self._lock:
            if self._waiting + len(text) > MAX_WAITING_CHARACTERS:
                self.dropped += 1
                return
            self._waiting += len(text)
        self._lines.put(text)

    def isatty(self) -> bool:
        """Tell whether people read it on a terminal."""
        return self._stream.isatty()

    def flush(self) -> None:
        """Do nothing: what was taken is written as soon as the stream takes it."""

    def drain(self, *, timeout_s: float) -> bool:
        """Wait until all that was taken is written. False where the time was too short."""
        written = threading.Event()
        self._lines.put(written)
        return written.wait(timeout_s)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Have something called by the thread, in so many seconds, or at the end.

        Instead of what waits to be called, if anything does.
        """
        with self._lock:
            self._due = time.monotonic() + delay_s, call
        self._lines.put("")  # the thread waits no longer than that from now on

    def close(self, *, timeout_s: float) -> None:
        """Write what was taken, within this time, and end the thread."""
        self._call_due(at_once=True)
        self._closing = True
        self.drain(timeout_s=timeout_s)

    def _run(self) -> None:
        while not self._closing or not self._lines.empty():
            self._call_due()
            text, asked = self._next()
            if text:
                self._put_out(text)
            for each in asked:
                each.set()

    def _call_due(self, *, at_once: bool = False) -> None:
        with self._lock:
            due = self._due
            if due is None or not (at_once or due[0] <= time.monotonic()):
                return
            self._due = None
        due[1]()

    def _next(self) -> tuple[str, list[threading.Event]]:
        """Wait for a line, and take along those behind it."""
        lines: list[str] = []
        asked: list[threading.Event] = []
        size = 0
        due = self._due
        try:
            left_s = None if due is None else max(0.0, due[0] - time.monotonic())
            entry = self._lines.get(timeout=left_s)
        except queue.Empty:
            return "", asked
        while True:
            if isinstance(entry, threading.Event):
                asked.append(entry)
            else:
                lines.append(entry)
                size += len(entry)
            if size >= MAX_WRITTEN_AT_ONCE:
                break
            try:
                entry = self._lines.get_nowait()
            except queue.Empty:
                break
        return "".join(lines), asked

    def _put_out(self, text: str) -> None:
        news = 0
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # its reader has gone, or the stream was closed
            with self._lock:
                self.dropped += text.count("\n")
        else:
            with self._lock:
                news, self._reported = self.dropped - self._reported, self.dropped
        with self._lock:
            self._waiting -= len(text)
        if news:
            logger.warning("%d lines of the log were dropped: nobody read them in time", news)
