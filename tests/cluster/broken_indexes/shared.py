"""Indexes that break a law of what is shared besides sessions, or of the log."""

from frontdesk.cluster.index import ClusterIndex, micros
from frontdesk.cluster.index.windows import Claims


class ClaimsAreStolen(ClusterIndex):
    """The last one who claims has it."""

    def claim(self, at, incarnation, slot, *, digest, ttl_s):
        self._claims = Claims()
        return super().claim(at, incarnation, slot, digest=digest, ttl_s=ttl_s)


class ClaimsLastForEver(ClusterIndex):
    """A claim does not run out."""

    def claim(self, at, incarnation, slot, *, digest, ttl_s):
        return super().claim(at, incarnation, slot, digest=digest, ttl_s=600_000.0)


class ClaimsOfTheDead(ClusterIndex):
    """A claim stays its node's when that is dead."""

    def claim(self, at, incarnation, slot, *, digest, ttl_s):
        _, now = self._begin(at)
        there = self._claims.find(slot, now)
        return there or super().claim(at, incarnation, slot, digest=digest, ttl_s=ttl_s)


class FixedWindows(ClusterIndex):
    """A rate begins anew when its window has filled up, all at once."""

    def take(self, at, counted, *, limit, window_s):
        _, now = self._begin(at)
        began = now - now % micros(window_s)
        return self._rates.take(f"{counted} {began}", now, limit=limit, window_us=micros(window_s))


class TheRefusedCount(ClusterIndex):
    """What a rate refuses counts as well, so whoever asks on is never let in."""

    def take(self, at, counted, *, limit, window_s):
        taken = super().take(at, counted, limit=limit, window_s=window_s)
        if not taken.allowed:
            super().take(at, counted, limit=limit + 10**5, window_s=window_s)
        return taken


class TotalsOfTheLiving(ClusterIndex):
    """What a node published goes with its lease."""

    def totals(self, at, topic):
        names = {one.node.name for one in self.nodes(at)}
        return {name: value for name, value in super().totals(at, topic).items() if name in names}


class OneTopic(ClusterIndex):
    """Totals of all topics are one."""

    def publish(self, at, topic, name, totals):
        super().publish(at, "", name, totals)

    def totals(self, at, topic):
        return super().totals(at, "")


class GapsAreNotTold(ClusterIndex):
    """A reader from another era is given what there is."""

    def follow_rows(self, at, after, *, era, limit=1000):
        held, _ = self._begin(at)
        after = min(max(after, held.log.oldest - 1), held.log.head)
        return super().follow_rows(at, after, era=held.epoch.era, limit=limit)


class RatesRunOver(ClusterIndex):
    """One more than the limit is let through."""

    def take(self, at, counted, *, limit, window_s):
        return super().take(at, counted, limit=limit + 1, window_s=window_s)


CAUGHT_BY = {
    ClaimsAreStolen: "a-claim-is-the-first-ones",
    ClaimsLastForEver: "a-claim-is-the-first-ones",
    ClaimsOfTheDead: "a-dead-nodes-claim-is-void",
    FixedWindows: "a-window-moves",
    TheRefusedCount: "a-window-moves",
    TotalsOfTheLiving: "totals-are-what-was-published-last",
    OneTopic: "totals-are-what-was-published-last",
    GapsAreNotTold: "who-cannot-be-told-all-is-told-so",
    RatesRunOver: "a-rate-is-counted-over-all-nodes",
}
