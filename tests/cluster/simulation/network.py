"""What is said between a process and the server, and between processes: late, lost, or cut.

A process has several connections to the server. What goes over one of them stays in its order. One
that somebody has waited on in vain is given up and opened anew: what was under way on it may still
arrive, after what was sent later.
"""

from frontdesk.cluster.errors import EngineUnavailable

LATE_S = (0.1, 0.6), (0.6, 4.0)
"""Late, and later than anybody waits for a call."""


class Path:
    """One direction between two that talk: whether it is open, how often it loses or is late."""

    def __init__(self):
        self.open = True
        self.loss = self.late = 0.0


class Connection:
    """What goes over one connection, in its order; answers come on the loop that opened it."""

    def __init__(self, name, loop):
        self.name, self.loop = name, loop
        self.request_at = self.reply_at = 0.0


class Network:
    """Carry calls, with delays drawn from the world's random numbers."""

    def __init__(self, clockwork, random, server):
        self._clockwork, self._random, self._server = clockwork, random, server
        self.paths = {}

    def add(self, name):
        """Let a process in: it has a path to the server, one back, and one to other processes."""
        for path in ("to server", "from server", "nodes"):
            self.paths[name, path] = Path()

    def _delay(self, name, path):
        """Draw how long a message takes; None for one that is lost."""
        path = self.paths[name, path]
        if not path.open or (path.loss and self._random.random() < path.loss):
            return None
        if path.late and self._random.random() < path.late:
            return self._random.uniform(*self._random.choice(LATE_S))
        return self._random.uniform(0.0002, 0.003)

    def call(self, connection, work, done):
        """Bring a request to the server, let it `work`, bring back what came of it.

        `work` is given a function that takes the answer; `done` gets a value and an error, once or
        never.
        """
        delay = self._delay(connection.name, "to server")
        if delay is not None:
            now = self._clockwork.now
            connection.request_at = max(now + delay, connection.request_at)
            self._clockwork.after(connection.request_at - now, self._arrive, connection, work, done)

    def _arrive(self, connection, work, done):
        def answer(value, error=None):
            delay = self._delay(connection.name, "from server")
            if delay is not None:
                connection.reply_at = max(self._clockwork.now + delay, connection.reply_at)
                connection.loop.call_at(connection.reply_at, done, value, error)

        if self._server.up:
            work(answer)
        elif self._server.refuses:
            answer(None, EngineUnavailable("the connection was refused"))

    def hop(self, asker, owner, work, done):
        """Bring a request from one process to another, and its answer back; never, where lost."""
        there, back = self._delay(asker.name, "nodes"), self._delay(owner.name, "nodes")
        if there is not None and back is not None:
            loop, now = asker.loop, self._clockwork.now
            owner.loop.call_at(
                now + there, lambda: loop.call_at(self._clockwork.now + back, done, work())
            )
