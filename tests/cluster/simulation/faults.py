"""What befalls a cluster: each fault begins at a time, lasts, and is over."""

from cluster import history as h

LENGTHS_S = (0.3, 2.0, 7.0, 12.0, 18.0, 30.0)
"""Shorter than a renewal, than a lease, than the hold, and longer than all of it."""


class Faults:
    """Draw which faults there are in a history, and when; end them all at last."""

    def __init__(self, world):
        self._world, self._random = world, world.random
        self._server, self._paths = world.server, world.network.paths
        self._ends = []

    def plan(self, until, *, count, names=()):
        """Draw so many faults until then, of the kinds that are named, or of any."""
        kinds = [self.kill, self.leave, self.pause, self.hang, self.cut, self.lossy, self.late]
        kinds += [self.late_answers, self.cut_nodes, self.restart, self.silence, self.clock_forward]
        # A server's clock that was set back and then loses everything may give a fence again: the
        # documents say so. No history has both.
        kinds.append(self.clock_back if self._random.random() < 0.3 else self.lose)
        # A few kinds together: what comes of two of them is seldom seen where all are drawn from.
        kinds = self._random.sample(kinds, self._random.choice((1, 2, 2, 3, len(kinds))))
        if names:
            kinds = [getattr(self, name) for name in names]
        for _ in range(count):
            at = self._random.uniform(1.0, until)
            self._world.clockwork.after(at, self._begin, self._random.choice(kinds))

    def _begin(self, kind):
        over = kind()
        if over is not None:
            self._last(over)

    def _last(self, over):
        """Let a fault last for a while."""
        self._ends.append(over)
        self._world.clockwork.after(self._random.choice(LENGTHS_S), self._end, over)

    def _end(self, over):
        if over in self._ends:
            self._ends.remove(over)
            over()

    def end_all(self):
        """End whatever lasts, and start what is dead, or not."""
        for over in list(self._ends):
            self._end(over)
        processes = list(self._world.processes.values())
        if not any(process.alive for process in processes):
            processes[0].boot()  # the dead are buried by somebody

    def _victim(self):
        alive = [p for p in self._world.processes.values() if p.alive and not p.loop.paused]
        return self._random.choice(alive) if alive else None

    # -- of nodes --------------------------------------------------------------------------------

    def kill(self):
        """Kill a process; half of them are started again."""
        if (process := self._victim()) is None:
            return None
        process.kill()
        return self._reboot(process)

    def leave(self):
        """Let a process leave in order."""
        if (process := self._victim()) is None:
            return None
        process.leave()
        return self._reboot(process)

    def _reboot(self, process):
        def over():
            if not process.alive and self._random.random() < 0.7:
                process.boot()

        return over

    def pause(self):
        """Let a process stand still."""
        if (process := self._victim()) is None:
            return None
        process.pause()
        loop = process.loop
        return lambda: process.resume() if process.loop is loop and process.alive else None

    def hang(self):
        """Let a process's event loop stand still."""
        if (process := self._victim()) is None:
            return None
        process.hang()
        loop = process.loop
        return lambda: process.resume() if process.loop is loop and process.alive else None

    def cut(self):
        """Cut a process off from the server, in one direction or both."""
        paths = self._random.choice((["to server"], ["from server"], ["to server", "from server"]))
        return self._disturb(paths, "engine", lambda path: setattr(path, "open", False))

    def lossy(self):
        """Lose half of what a process and the server say to each other."""
        paths = ["to server", "from server"]
        return self._disturb(paths, "engine", lambda path: setattr(path, "loss", 0.5))

    def late(self):
        """Bring some of what a process says to the server long after it gave up."""
        return self._disturb(["to server"], "engine", lambda path: setattr(path, "late", 0.3))

    def late_answers(self):
        """Bring some of the server's answers late, each connection in its own order."""
        return self._disturb(["from server"], "engine", lambda path: setattr(path, "late", 0.5))

    def cut_nodes(self):
        """Cut a process off from the other nodes."""
        return self._disturb(["nodes"], "nodes", lambda path: setattr(path, "open", False))

    def _disturb(self, names, whom, change):
        process = self._random.choice(list(self._world.processes.values()))
        paths = [self._paths[process.name, name] for name in names]
        for path in paths:
            change(path)
        self._world.write(h.Cut, node=process.name, whom=whom)

        def over():
            for path in paths:
                path.open, path.loss, path.late = True, 0.0, 0.0
            # Another fault may still be on the other direction.
            both = ("nodes",) if whom == "nodes" else ("to server", "from server")
            if all(self._is_well(process.name, name) for name in both):
                self._world.write(h.Healed, node=process.name, whom=whom)

        return over

    def _is_well(self, name, path):
        path = self._paths[name, path]
        return path.open and not path.loss and not path.late

    # -- of the engine ---------------------------------------------------------------------------

    def restart(self):
        """Kill the server, and start it with all that it had."""
        return self._down("kept")

    def silence(self):
        """Let the server say nothing for a while, to anybody."""
        if not self._server.up:
            return None
        self._server.stop(refuses=False)
        self._world.write(h.EngineDown, why="silent")
        return self._speak

    def _speak(self):
        self._server.up = True
        self._world.write(h.EngineUp)

    def clock_forward(self):
        """Set the server's clock forward."""
        return self._jump(self._random.choice((0.5, 3.0, 3600.0)))

    def clock_back(self):
        """Set the server's clock back."""
        return self._jump(-self._random.choice((0.5, 3.0, 3600.0)))

    def lose(self):
        """Let the server begin again with less than it knew."""
        how = self._random.choice(("wiped", "remembered", "promoted"))
        if how == "wiped":
            return self._down("wiped")
        self._server.remember()
        lag_s = self._random.choice((0.05, 0.5, 3.0))
        self._world.clockwork.after(lag_s, self._fall_back, how)
        return None

    def _fall_back(self, how):
        if not self._server.up:
            return
        if how == "remembered":
            self._last(self._down("remembered"))
            return
        # A replica takes over at once, with a clock of its own.
        self._server.ahead_s += self._random.uniform(-0.02, 0.02)
        self._server.start(state="remembered")
        self._world.write(h.EngineLost, how="promoted")

    def _down(self, state):
        if not self._server.up:
            return None
        self._server.stop(refuses=self._random.random() < 0.7)
        self._world.write(h.EngineDown)
        return lambda: self._up(state)

    def _up(self, state):
        self._server.start(state=state)
        # Nobody can tell from outside whether a server that was away has lost anything.
        self._world.write(h.EngineUp, lost=True)

    def _jump(self, by_s):
        self._server.ahead_s += by_s
        self._world.write(h.ClockJumped, by_s=by_s)
