"""Whether processes are alive, as the kernel sees it: what the tests of processes look at.

A zombie is dead: an init that does not reap leaves `/proc/<pid>` and a pid that can be signalled.
"""

import os
import select
import signal
from contextlib import contextmanager

from frontdesk.keeper.procfs import children_of, pids, stat_of, tag_of, untag

PATIENCE_S = 30


class Life:
    """One process, told apart from any later one of its pid."""

    def __init__(self, pid):
        state = stat_of(pid)
        assert state is not None, f"there is no process {pid}"
        self.pid, self.start_time = pid, state.start_time

    @property
    def over(self):
        state = stat_of(self.pid)
        return state is None or state.over or state.start_time != self.start_time

    def await_end(self):
        """Wait for the kernel to say that it is over; fail after PATIENCE_S."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.over:
                waiting = select.poll()
                waiting.register(descriptor, select.POLLIN)
                assert waiting.poll(PATIENCE_S * 1000), f"{self} is still alive"
        finally:
            os.close(descriptor)

    def kill(self, number=signal.SIGKILL):
        if not self.over:
            os.kill(self.pid, number)

    def __repr__(self):
        return f"<Life {self.pid} {stat_of(self.pid)}>"


def descendants(pid):
    """Return the processes below one that there are now: keeper, fork servers, agents."""
    return [each for child in children_of(pid) for each in (child, *descendants(child))]


def lives(text):
    """Return the processes whose pids are named in what an agent printed."""
    return [Life(int(word)) for word in text.split()]


def alive_of_run(run):
    """Return the pids of all living processes that descend from a keeper's run."""
    found = []
    for pid in pids():
        tag = tag_of(pid)
        state = stat_of(pid)
        if tag is not None and untag(tag)[0] == run and state is not None and not state.over:
            found.append(pid)
    return found


@contextmanager
def put_to_rest(*known):
    """End these at the end of the test, whatever it proved."""
    known = list(known)
    try:
        yield known
    finally:
        for life in known:
            life.kill()
