"""A stream of a session's events, as a client reads it while something breaks."""

import threading
import time

import httpx

from support.cluster_nodes import PATIENCE_S
from support.waiting import eventually


class Following:
    """A stream that is read in a thread, until it ends however."""

    def __init__(self, desk, session_id, at, **options):
        self.events, self.ended_at, self.broke = [], None, None
        self._open = threading.Event()
        self._thread = threading.Thread(
            target=self._follow, args=(desk, session_id, at, options), daemon=True
        )
        self._thread.start()
        assert self._open.wait(PATIENCE_S)

    def _follow(self, desk, session_id, at, options):
        try:
            with desk.events(session_id, at, **options) as stream:
                self._open.set()
                for event in stream:
                    self.events.append(event)
        except httpx.HTTPError as error:  # the connection broke, which is an end too
            self.broke = error
        finally:
            self.ended_at = time.monotonic()
            self._open.set()

    def reached(self, number):
        """Wait until so many events have come."""
        eventually(lambda: len(self.events) >= number, within_s=PATIENCE_S)

    def ends(self, within_s=PATIENCE_S):
        """Wait until it has ended; return what came."""
        self._thread.join(within_s)
        assert not self._thread.is_alive(), "the stream does not end"
        return self.events
