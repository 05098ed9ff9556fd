"""Indexes that break a law of reservations: what is held, for whom, and for how long."""

from frontdesk.cluster.index import ClusterIndex
from frontdesk.cluster.index.contents import Contents
from frontdesk.cluster.index.leases import Standing


class ReservationsAreNotCounted(ClusterIndex):
    """Limits look at entries alone."""

    def _begin(self, at, *, known=0):
        held, now = super()._begin(at, known=known)
        held.__class__ = _CountsEntriesAlone
        return held, now


class _CountsEntriesAlone(Contents):
    def reserve(self, entry, *, deadline_us):
        super().reserve(entry, deadline_us=deadline_us)
        self._count(entry, -1)

    def unreserve(self, session_id):
        self._count(self.reservations[session_id].entry, 1)
        super().unreserve(session_id)


class ACreateTakesASecondPlace(ClusterIndex):
    """A create of a reserved session is held against the limits like any other."""

    def create(self, at, entry, *, limits):
        held, _ = self._begin(at)
        reserved = held.reservations.get(entry.session_id)
        if reserved is not None and reserved.entry.token == entry.token:
            held.check(entry, limits)
        return super().create(at, entry, limits=limits)


class AnyTokenReleases(ClusterIndex):
    """A reservation is given back by whoever asks."""

    def release(self, at, incarnation, session_id, *, token):
        held, _ = self._begin(at)
        if session_id in held.reservations:
            held.unreserve(session_id)


class ReservationsLastForEver(ClusterIndex):
    """Nothing that is reserved runs out."""

    def reserve(self, at, entry, *, limits, ttl_s):
        super().reserve(at, entry, limits=limits, ttl_s=600_000.0)


class RenewedReservationsRunOut(ClusterIndex):
    """A reservation that is asked for again does not last any longer."""

    def reserve(self, at, entry, *, limits, ttl_s):
        held, now = self._begin(at)
        there = held.reservations.get(entry.session_id)
        if there is None or there.ran_out(now) or there.entry.token != entry.token:
            super().reserve(at, entry, limits=limits, ttl_s=ttl_s)


class ReservationsOutliveTheirNode(ClusterIndex):
    """A burial leaves what its node had reserved."""

    def bury(self, at, incarnation, *, proven):
        held, _ = self._begin(at)
        kept = held._reserved_by.pop(incarnation, None)
        buried = super().bury(at, incarnation, proven=proven)
        if kept is not None:
            held._reserved_by[incarnation] = kept
        return buried


class CountsReservations(ClusterIndex):
    """A count has what is only reserved."""

    def count(self, at, selection):
        held, _ = self._begin(at)
        reserved = [one.entry for one in held.reservations.values()]
        mine = [one for one in reserved if one.tenant_id == selection.tenant_id]
        return super().count(at, selection) + len(mine)


class ReservationsOfSuspectsAreFree(ClusterIndex):
    """What a suspect node has reserved is given away at once."""

    def create(self, at, entry, *, limits):
        held, now = self._begin(at)
        there = held.reservations.get(entry.session_id)
        owner = None if there is None else held.leases.get(there.entry.incarnation)
        if owner is not None and owner.standing(now) is Standing.SUSPECT:
            held.unreserve(entry.session_id)
        return super().create(at, entry, limits=limits)


class ReservationsHaveTheLastWord(ClusterIndex):
    """A session is created as it was reserved."""

    def create(self, at, entry, *, limits):
        held, _ = self._begin(at)
        there = held.reservations.get(entry.session_id)
        mine = there is not None and there.entry.token == entry.token
        return super().create(at, there.entry if mine else entry, limits=limits)


CAUGHT_BY = {
    ReservationsAreNotCounted: "a-reservation-is-counted-once",
    ACreateTakesASecondPlace: "a-reservation-is-counted-once",
    AnyTokenReleases: "a-reservation-is-given-back",
    ReservationsLastForEver: "a-reservation-runs-out",
    RenewedReservationsRunOut: "a-reservation-runs-out",
    ReservationsOutliveTheirNode: "burying-takes-the-reservations",
    CountsReservations: "a-reservation-holds-the-id-unlisted",
    ReservationsOfSuspectsAreFree: "a-reservation-goes-with-its-node",
    ReservationsHaveTheLastWord: "the-create-has-the-last-word",
}
