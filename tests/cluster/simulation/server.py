"""The engine's server: the real index behind a clock that jumps, a process that dies and files.

What it holds may be lost in part: `remember` puts an older state aside, as a file or a replica has
it, and a later start begins with that. Every start is another run.
"""

import copy

from frontdesk.cluster.index import ClusterIndex, Moment

WALL_S = 1_750_000_000.0
"""The wall clock at time 0."""

WRITES = frozenset({"join", "leave", "bury", "create", "restore", "update", "end", "renew"})


class Server:
    """Serve an index. What is asked while it is down is not answered."""

    def __init__(self, clockwork):
        self._clockwork = clockwork
        self.index = ClusterIndex()
        self.ahead_s = 0.0
        """How far its clock is ahead of true time."""
        self.up = True
        self.refuses = True
        """Whether it says so while it is down, or says nothing."""
        self._runs = 1
        self._remembered = None
        self._waiting = []

    def execute(self, verb, known, arguments, options):
        """Do one verb, whole; raises what the index raises."""
        at = self._moment(known)
        answer = getattr(self.index, verb)(at, *arguments, **options)
        if verb in WRITES and self._waiting:
            self._answer_followers()
        return answer

    def follow(self, known, after, era, limit, wait_s, answer):
        """Answer with the next changes, at once or when there are any; call `answer` once."""
        page = self.index.follow(self._moment(known), after, era=era, limit=limit)
        if page.gap or page.changes:
            answer(page)
            return
        follower = (after, era, limit, answer)
        self._waiting.append(follower)
        self._clockwork.after(wait_s, self._give_up, follower)

    def _give_up(self, follower):
        if follower in self._waiting:
            self._waiting.remove(follower)
            after, era, limit, answer = follower
            answer(self.index.follow(self._moment(0), after, era=era, limit=limit))

    def _answer_followers(self):
        waiting, self._waiting = self._waiting, []
        for follower in waiting:
            after, era, limit, answer = follower
            page = self.index.follow(self._moment(0), after, era=era, limit=limit)
            if page.gap or page.changes:
                answer(page)
            else:
                self._waiting.append(follower)

    def _moment(self, known):
        clock_us = int((WALL_S + self._clockwork.now + self.ahead_s) * 1_000_000)
        return Moment(clock_us, f"run{self._runs}", known)

    # -- faults ----------------------------------------------------------------------------------

    def stop(self, *, refuses=True):
        """Go down; what waits here is never answered."""
        self.up, self.refuses = False, refuses
        self._waiting = []

    def start(self, *, state="kept"):
        """Begin another run with what was `kept`, with what was `remembered`, or with nothing."""
        self._runs += 1
        self._waiting = []
        if state == "wiped":
            self.index = ClusterIndex()
        elif state == "remembered" and self._remembered is not None:
            self.index = copy.deepcopy(self._remembered)
        self.up = True

    def remember(self):
        """Put the present state aside, as a file or a replica has it."""
        self._remembered = copy.deepcopy(self.index)

    # -- looking at it ---------------------------------------------------------------------------

    def look(self, verb, *arguments):
        """Ask something that changes nothing, at no cost, for the history."""
        return getattr(self.index, verb)(self._moment(0), *arguments)
