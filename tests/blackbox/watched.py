"""A gateway whose loop is watched: `python -m blackbox.watched`, else it is `frontdesk serve`.

At a SIGUSR1 it writes to the file `turns` how long turns of its event loop took since the last one,
in the processor's time of the loop's own thread: what the machine does besides is not in it. Where
the working directory has a file `planted`, the faults of `planting.py` are built in.
"""

import asyncio
import json
import signal
import time
from collections import deque
from pathlib import Path

from blackbox.planting import SWITCH, plant_all
from frontdesk.cli import main
from frontdesk.gateway.server import GatewayServer

TURNS = "turns"
LOOKS_S = 0.001
STEPS = 5
"""Turns that a request takes: a connection is accepted, made and read from, the request started
and answered."""


class TurnWatch:
    """Look at the loop every millisecond: what its thread computed since is at least its turn."""

    def __init__(self, loop):
        self._loop = loop
        self._since = time.thread_time()
        self._forget()
        loop.add_signal_handler(signal.SIGUSR1, self._tell)
        self._look()

    def _forget(self):
        self._turn_s = self._wait_s = 0.0
        self._latest = deque(maxlen=STEPS)

    def _look(self):
        now = time.thread_time()
        took, self._since = now - self._since, now
        self._latest.append(took)
        self._turn_s = max(self._turn_s, took)
        self._wait_s = max(self._wait_s, sum(self._latest))
        self._loop.call_later(LOOKS_S, self._look)

    def _tell(self):
        told = {"turn_s": self._turn_s, "wait_s": self._wait_s}
        unfinished = Path(f"{TURNS}.new")
        unfinished.write_text(json.dumps(told), encoding="utf-8")
        unfinished.rename(TURNS)
        self._forget()


def watch():
    """Have the server watch its loop from its start on."""
    startup = GatewayServer.startup

    async def started(server, sockets=None):
        await startup(server, sockets)
        server.turn_watch = TurnWatch(asyncio.get_running_loop())

    GatewayServer.startup = started


if __name__ == "__main__":
    watch()
    if Path(SWITCH).exists():
        import blackbox.planted
        import blackbox.unfair  # noqa: F401 - they plant themselves

        plant_all()
    main()
