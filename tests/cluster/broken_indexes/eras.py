"""Indexes that break a law of eras: engine time, what is lost, what is told again."""

from dataclasses import replace

from frontdesk.cluster.index import ClusterIndex, Moment, micros
from frontdesk.cluster.index.epoch import Epoch


class ClocksAreBelieved(ClusterIndex):
    """Engine time is the server's clock, wherever that goes."""

    def _in_era(self, at, known):
        held = super()._in_era(at, known)
        held.epoch.__class__ = _BelievesClocks
        return held


class _BelievesClocks(Epoch):
    __slots__ = ()

    def time_at(self, at):
        return self.time_us + at.clock_us - self.clock_us


class TimeStandsStill(ClusterIndex):
    """After a jump back, no time passes until the clock is where it was."""

    def _in_era(self, at, known):
        held = super()._in_era(at, known)
        held.epoch.__class__ = _WaitsForTheClock
        return held


class _WaitsForTheClock(Epoch):
    __slots__ = ()

    def move(self, at):
        self.time_us, self.clock_us = self.time_at(at), max(at.clock_us, self.clock_us)


class ErasBeginAtTheClock(ClusterIndex):
    """A new era begins at the clock's microseconds, whatever the callers know."""

    def _in_era(self, at, known):
        return super()._in_era(Moment(at.clock_us, at.run_id), 0)


class RestartsGoUnnoticed(ClusterIndex):
    """Another run of the server is taken for the same."""

    def _in_era(self, at, known):
        return super()._in_era(Moment(at.clock_us, "any", at.known), known)


class NothingRecovers(ClusterIndex):
    """An engine that has lost everything says that unknown ids are free."""

    def __init__(self):
        super().__init__(recovers=False)


class MintedIdsWait(ClusterIndex):
    """While the engine recovers, nothing is created."""

    def create(self, at, entry, *, limits):
        return super().create(at, replace(entry, minted=False), limits=limits)


class RecoveryIsALease(ClusterIndex):
    """Recovery ends with the lease, whoever has not told yet."""

    def _begin(self, at, *, known=0):
        held, now = super()._begin(at, known=known)
        for lease in held.leases.values():
            lease.restored = True
        return held, now


class RecoveryWaitsForNobody(ClusterIndex):
    """Recovery ends as soon as those who have joined have told."""

    def restore(self, at, incarnation, entries, *, complete):
        lost = super().restore(at, incarnation, entries, complete=complete)
        held = self._contents
        held.epoch.recovered |= all(lease.restored for lease in held.leases.values())
        return lost


class RecoveryIsEndless(ClusterIndex):
    """Recovery waits for ever for a node that does not tell."""

    def _begin(self, at, *, known=0):
        held, now = super()._begin(at, known=known)
        restored = all(lease.restored for lease in held.leases.values())
        held.epoch.recovered &= restored
        if not restored:
            held.epoch.began_us = now - micros(30)
        return held, now


class RestoredAnew(ClusterIndex):
    """What is told again gets a new fence."""

    def restore(self, at, incarnation, entries, *, complete):
        held, _ = self._begin(at)
        fresh = [replace(one, fence=held.epoch.revision + 1) for one in entries]
        return super().restore(at, incarnation, fresh, complete=complete)


class FirstToTellWins(ClusterIndex):
    """Of two owners of an id, the one that told first stays."""

    def restore(self, at, incarnation, entries, *, complete):
        held, _ = self._begin(at)
        there = [one for one in entries if one.entry.session_id in held.entries]
        others = [one for one in there if held.entries[one.entry.session_id].fence != one.fence]
        mine = [one for one in entries if one not in others]
        lost = super().restore(at, incarnation, mine, complete=complete)
        return [*lost, *(one.fence for one in others)]


class RestoredInSilence(ClusterIndex):
    """What is told again is told to nobody."""

    def restore(self, at, incarnation, entries, *, complete):
        lost = super().restore(at, incarnation, entries, complete=complete)
        held = self._contents
        held.log.restart(held.epoch.revision)
        return lost


class ReservationsStopRestores(ClusterIndex):
    """What is reserved is not told again."""

    def restore(self, at, incarnation, entries, *, complete):
        held, _ = self._begin(at)
        free = [one for one in entries if one.entry.session_id not in held.reservations]
        return super().restore(at, incarnation, free, complete=complete)


class LateJoinsBeginAnew(ClusterIndex):
    """A join that comes a second time takes back that its node has told all."""

    def join(self, at, node, *, terms, era=None):
        joined = super().join(at, node, terms=terms, era=era)
        self._contents.leases[node.incarnation].restored = era is None
        return joined


CAUGHT_BY = {
    ClocksAreBelieved: "a-clock-that-jumps-makes-nobody-suspect",
    TimeStandsStill: "time-goes-on-after-a-jump",
    ErasBeginAtTheClock: "fences-never-repeat",
    RestartsGoUnnoticed: "a-restart-begins-an-era",
    NothingRecovers: "unknown-ids-may-be-there",
    MintedIdsWait: "unknown-ids-may-be-there",
    RecoveryIsALease: "recovery-ends-when-all-have-told",
    RecoveryWaitsForNobody: "recovery-lasts-for-a-lease",
    RecoveryIsEndless: "recovery-lasts-for-a-minute-at-most",
    RestoredAnew: "what-is-restored-is-as-it-was",
    RestoredInSilence: "what-is-restored-is-as-it-was",
    FirstToTellWins: "the-higher-fence-stays",
    LateJoinsBeginAnew: "a-late-join-takes-nothing-back",
    ReservationsStopRestores: "what-is-restored-displaces-a-reservation",
}
