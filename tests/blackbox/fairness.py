"""What one caller's worst costs the others: turns of the loop, answers, and the gateway's memory.

A caller of `callers.py` does its worst in a process of its own. Meanwhile the gateway's loop is
watched (`watched.py`), and another tenant asks for its own session in a steady rhythm, on a
connection that it keeps and on new ones: that it is answered is seen from there. How long it waits
in real time depends on the machine; how long the loop makes it wait does not.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from blackbox.callers import Caller
from blackbox.watched import TURNS
from gateway.command import START_S, TESTS
from support.waiting import eventually

EVERY_S = 0.02
"""The rhythm in which the other tenant asks."""
LASTS_S = 1.0
WAIT_S = 0.1
"""What another's request may wait for, in the loop's own time."""
PATIENT_S = 100.0
"""In real time: new connections wait behind all that a flood has left in the kernel's queue."""
ADDRESSES = itertools.count(2)


@dataclass
class Measured:
    """What another tenant met with, and what the process took."""

    before_bytes: int
    most_bytes: int = 0
    asked: int = 0
    longest_s: float = 0.0
    """The longest that an answer took in real time, for the record."""
    unanswered: list[str] = field(default_factory=list)
    turn_s: float = 0.0
    """The longest turn of the loop, in its thread's processor time."""
    wait_s: float = 0.0
    """The longest that as many turns in a row took as a request needs."""

    @property
    def grown_bytes(self):
        return self.most_bytes - self.before_bytes

    def broken(self, most_mib):
        """Return the bounds that were not kept, with what was measured."""
        measured = {
            "answers": (self.unanswered, bool(self.unanswered)),
            "wait": (self.wait_s, self.wait_s > WAIT_S),
            "memory": (self.grown_bytes, self.grown_bytes > most_mib * 2**20),
        }
        return {part: value for part, (value, over) in measured.items() if over}

    def __str__(self):
        return (
            f"a wait of {self.wait_s * 1000:.1f} ms, a turn of {self.turn_s * 1000:.1f} ms,"
            f" {self.grown_bytes / 2**20:.0f} MiB more; of {self.asked} answers the longest took"
            f" {self.longest_s * 1000:.0f} ms in all, missing: {self.unanswered}"
        )


def measure(box, name, *, lasts_s=LASTS_S):
    """Measure what a caller's worst does to another."""
    culprit, other = box.tenants(2)
    asking = Caller(*box.address, other.key, tls=box.url.startswith("https"), timeout_s=PATIENT_S)
    path = asking.open("own")
    measured = Measured(before_bytes=box.resident_bytes)
    turns_of(box)
    with calling(box, name, key=culprit.key), asking.connect() as kept:
        until = time.monotonic() + lasts_s
        while time.monotonic() < until:
            look(asking, path, kept, measured)
            measured.most_bytes = max(measured.most_bytes, box.resident_bytes)
            time.sleep(EVERY_S)
    turns = turns_of(box)
    measured.turn_s, measured.wait_s = turns["turn_s"], turns["wait_s"]
    return measured


def look(asking, path, kept, measured):
    """Ask twice, on the connection that is kept and on a new one."""
    for connection in (kept, None):
        begun = time.monotonic()
        try:
            answer = asking.ask("GET", path, connection=connection)
        except OSError as error:
            answer = repr(error).encode()
        measured.asked += 1
        measured.longest_s = max(measured.longest_s, time.monotonic() - begun)
        if not answer.startswith(b"HTTP/1.1 200"):
            measured.unanswered.append(answer[:100].decode("latin-1"))


def turns_of(box):
    """Return what the loop's turns took since this was asked before."""
    told = box.directory / TURNS
    told.unlink(missing_ok=True)
    os.kill(box.pid, signal.SIGUSR1)
    eventually(told.exists, within_s=START_S)
    return json.loads(told.read_text(encoding="utf-8"))


@contextmanager
def calling(box, name, *, key):
    """Run a caller until the block is left."""
    host, port = box.address
    # What has no key, or a wrong one, is counted by address: each caller has one of its own.
    address = f"127.0.0.{next(ADDRESSES)}"
    process = subprocess.Popen(
        [sys.executable, "-m", "blackbox.callers", name, host, str(port), key, address],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    try:
        assert process.stdout.readline() == b"begun\n", name
        yield
    finally:
        process.kill()
        process.wait(START_S)
        process.stdout.close()
