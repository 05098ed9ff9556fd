"""How long the others wait: what the loop of a running gateway is busy with in one turn."""

import gc
import time

LONGEST_TURN_S = 0.1
"""What another caller may wait for at most, whatever one does."""


class LongestTurn:
    """The longest that a loop was busy in one turn, while it watches."""

    def __init__(self, gateway):
        self.gateway, self.longest_s = gateway, 0.0

    def __enter__(self):
        # As `serve` does: what a thousand tests have left is not what the gateway made, and a full
        # collection of it takes the loop 400 ms.
        gc.freeze()
        self.gateway.call(self._watch)
        return self

    def _watch(self):
        self._since = time.thread_time()
        self._handle = self.gateway.loop.call_soon(self._look)

    def _look(self):
        # The thread's own time: what other programs take of the machine is not the loop's.
        now = time.thread_time()
        self.longest_s = max(self.longest_s, now - self._since)
        self._since = now
        self._handle = self.gateway.loop.call_soon(self._look)

    def __exit__(self, *exc_info):
        self.gateway.call(lambda: self._handle.cancel())
        gc.unfreeze()
