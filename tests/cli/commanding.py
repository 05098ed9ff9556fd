"""Commands of `frontdesk` as processes of their own: into pipes, and on a real terminal."""

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import ioctl

BOUND_S = 60
COMMAND = (sys.executable, "-m", "frontdesk.cli")


def environment(url=None, key=None, **more):
    """Return what a command is given, without what the test run itself may have of it."""
    # Also the width that a test runner gives its own output.
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FRONTDESK_") and name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    ours |= {"TERM": "xterm-256color", "TZ": "UTC", **more}
    if url is not None:
        ours["FRONTDESK_URL"] = url
    if key is not None:
        ours["FRONTDESK_KEY"] = key
    return ours


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


def run(*arguments, url=None, key=None, said="", cwd=None, **more):
    """Run a command without a terminal, to its end."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
        cwd=cwd,
        env=environment(url, key, **more),
        start_new_session=True,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class Terminal:
    """A command on a terminal of its own, which a test reads and types on."""

    def __init__(self, pid, descriptor):
        self.pid, self._descriptor, self._code = pid, descriptor, None
        self.output = ""

    def read_until(self, text, *, within_s=BOUND_S):
        """Read on until the terminal has shown a text."""
        deadline = time.monotonic() + within_s
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} did not come: {self.output!r}"
            if not self._read():
                raise AssertionError(f"ended before {text!r}: {self.output!r}")
        return self.output

    def type(self, text):
        os.write(self._descriptor, text.encode())

    def interrupt(self):
        self.type("\x03")

    def wait(self, *, within_s=BOUND_S):
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + within_s
        while self._read():
            assert time.monotonic() < deadline, f"did not end: {self.output!r}"
        _, status = os.waitpid(self.pid, 0)
        self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def _read(self):
        """Read what is there; false at the end."""
        ready, _, _ = select.select([self._descriptor], [], [], 0.2)
        if not ready:
            return True
        try:
            read = os.read(self._descriptor, 65536)
        except OSError:  # so a terminal says that nobody has it open any more
            return False
        self.output += read.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(read)

    def close(self):
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._descriptor)


@contextmanager
def on_terminal(*arguments, url=None, key=None, columns=200, cwd=None, **more):
    """Run a command on a terminal; killed at the end if it still runs."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *COMMAND[1:], *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cwd,
        env=environment(url, key, **more),
        start_new_session=True,
    )
    os.close(slave)
    process.returncode = 0  # it is waited for here
    terminal = Terminal(process.pid, master)
    try:
        yield terminal
    finally:
        terminal.close()


TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes the terminal the one that Ctrl-C comes from."""

VARYING = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "URL"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?( UTC)?"), "TIME"),
    (re.compile(r'("(?:\w+At|at|uptimeMs|leaseLeftMs|durationMs)": ?)\d+'), r"\1 0"),
    (re.compile(r'("(?:fence|requestId|incarnation|configDigest|logId)": ?")[^"]+'), r"\1X"),
    (re.compile(r"\b(apr|ask|key|req)_[0-9a-f]{8,}"), r"\1_X"),
    (re.compile(r"\bfd_[\w-]{20,}"), "SECRET"),
    (re.compile(r"\talive\t\d+\t"), "\talive\tMS\t"),
    (re.compile(r"\b[0-9a-f]{16,}\b"), "HEX"),
    (re.compile(r"\b\d+(d\d+h|h\d+m|m\d+s)\b|\b\d+[dhms]\b"), "AGE"),
    (re.compile(r"\b\d+ ms\b"), "N ms"),
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), lambda found: found[0].replace("\x1b", "ESC")),
    (re.compile(r"[ ]+$", re.MULTILINE), ""),
)


def normalised(text):
    """Return an output without what differs from run to run."""
    for pattern, stands_for in VARYING:
        text = pattern.sub(stands_for, text)
    return text
