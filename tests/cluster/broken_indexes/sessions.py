"""Indexes that break a law of sessions: who gets an id, what is listed, what ends."""

from dataclasses import replace

from frontdesk.cluster.index import ClusterIndex
from frontdesk.cluster.index.leases import Standing
from frontdesk.cluster.records import IndexLimits, Selection
from frontdesk.records import ExitKind, ExitReason


class LastWriteWins(ClusterIndex):
    """A second create takes the id from its live holder."""

    def create(self, at, entry, *, limits):
        held, _ = self._begin(at)
        there = held.entries.get(entry.session_id)
        if there is not None and there.entry.token != entry.token:
            held.end(there, ExitReason.of("superseded"), ended_at=at.wall_ms)
        return super().create(at, entry, limits=limits)


class TokensAreNotLookedAt(ClusterIndex):
    """A create that is asked again is refused, as if it were another's."""

    def create(self, at, entry, *, limits):
        held, _ = self._begin(at)
        if entry.session_id in held.entries:
            entry = replace(entry, token="f" * 16)
        return super().create(at, entry, limits=limits)


class SuspectsAreDead(ClusterIndex):
    """The id of a node that has not renewed is given away at once."""

    def create(self, at, entry, *, limits):
        held, now = self._begin(at)
        there = held.entries.get(entry.session_id)
        owner = None if there is None else held.leases[there.entry.incarnation]
        if owner is not None and owner.standing(now) is Standing.SUSPECT:
            owner.gone = ExitKind.LOST
        return super().create(at, entry, limits=limits)


class TheDeadKeepTheirIds(ClusterIndex):
    """An id is free only when its dead node was buried."""

    def create(self, at, entry, *, limits):
        held, now = self._begin(at)
        there = held.entries.get(entry.session_id)
        if (
            there is not None
            and held.leases[there.entry.incarnation].standing(now) is Standing.DEAD
        ):
            held.leases[there.entry.incarnation].deadline_us = now
        return super().create(at, entry, limits=limits)


class NoLeaseIsNeeded(ClusterIndex):
    """A node creates though its lease ran out."""

    def create(self, at, entry, *, limits):
        held, now = self._begin(at)
        if entry.incarnation in held.leases:
            lease = held.leases[entry.incarnation]
            lease.deadline_us = max(lease.deadline_us, now + 1)
        return super().create(at, entry, limits=limits)


class FencesAreForgotten(ClusterIndex):
    """An end or an update is for whatever has the id now."""

    def end(self, at, incarnation, ends):
        held, _ = self._begin(at)
        super().end(at, incarnation, [self._of_now(held, one) for one in ends])

    def _of_now(self, held, end):
        there = held.entries.get(end.session_id)
        return end if there is None else replace(end, fence=there.fence)


class AnybodyUpdates(ClusterIndex):
    """An entry is changed by whichever node names its fence."""

    def update(self, at, incarnation, session_id, **changes):
        held, _ = self._begin(at)
        there = held.entries.get(session_id)
        owner = incarnation if there is None else there.entry.incarnation
        return super().update(at, owner, session_id, **changes)


class UpdatesAreNotCounted(ClusterIndex):
    """A session stays counted under the blueprint that it was created with."""

    def update(self, at, incarnation, session_id, **changes):
        held, _ = self._begin(at)
        before = dict(held._used)
        revision = super().update(at, incarnation, session_id, **changes)
        held._used.clear()
        held._used.update(before)
        return revision


class NextTokensAreForgotten(ClusterIndex):
    """A restart gives the id free."""

    def end(self, at, incarnation, ends):
        super().end(at, incarnation, [replace(one, next_token=None) for one in ends])


class EndsAreNotLogged(ClusterIndex):
    """Nobody is told of an end, though its revision is counted."""

    def follow_rows(self, at, after, *, era, limit=1000):
        page = super().follow_rows(at, after, era=era, limit=limit)
        told = [one for one in page.rows if one.kind != "ended"]
        return type(page)(page.era, page.head, told, page.gap)


class PagesOverlap(ClusterIndex):
    """A page of a list begins with the last entry of the one before."""

    def list(self, at, selection, *, after=0, limit=1000):
        return super().list(at, selection, after=max(after - 1, 0), limit=limit)


class DisplacedInPart(ClusterIndex):
    """An entry of a dead node is taken over in place: its end is told to nobody."""

    def create(self, at, entry, *, limits):
        held, now = self._begin(at)
        there = held.entries.get(entry.session_id)
        dead = there is not None and held.leases[there.entry.incarnation]
        if dead and dead.standing(now) is Standing.DEAD:
            revision = held.epoch.revision
            held.end(there, ExitReason.of("lost"), ended_at=at.wall_ms)
            held.log.restart(revision)
            held.epoch.revision = revision
        return super().create(at, entry, limits=limits)


class DisplacedAndAlive(ClusterIndex):
    """A node whose id was given away goes on as if nothing had happened."""

    def create(self, at, entry, *, limits):
        held, _ = self._begin(at)
        there = held.entries.get(entry.session_id)
        fence = super().create(at, entry, limits=limits)
        if there is not None and there.entry.incarnation in held.leases:
            held.leases[there.entry.incarnation].gone = None
        return fence


class SelectsByTenantAlone(ClusterIndex):
    """A list by key or by node has everything."""

    def list(self, at, selection, *, after=0, limit=1000):
        selection = Selection(tenant_id=selection.tenant_id)
        return super().list(at, selection, after=after, limit=limit)


class PidsAreForgotten(ClusterIndex):
    """Everybody but the owner reads another pid."""

    def read(self, at, session_id):
        there = super().read(at, session_id)
        return there and replace(there, entry=replace(there.entry, pid=0))


class FencesAreCounted(ClusterIndex):
    """Fences are numbers of their own, and not revisions."""

    def create(self, at, entry, *, limits):
        held, _ = self._begin(at)
        if entry.session_id not in held.entries:
            held.log.restart(held.epoch.revision + 1)
            held.epoch.revision += 1
        return super().create(at, entry, limits=limits)


class LimitsOfANode(ClusterIndex):
    """Each node has the limits for itself."""

    def create(self, at, entry, *, limits):
        held, _ = self._begin(at)
        mine = self.count(at, Selection(incarnation=entry.incarnation))
        over = len(held.entries) + len(held.reservations) - mine
        raised = {
            name: None if limit is None else limit + over
            for name, limit in (
                ("per_tenant", limits.per_tenant),
                ("per_api_key", limits.per_api_key),
                ("per_blueprint", limits.per_blueprint),
            )
        }
        return super().create(at, entry, limits=IndexLimits(**raised))


class EndsKeepTheirPlace(ClusterIndex):
    """A counter goes up with every create and never down."""

    def end(self, at, incarnation, ends):
        held, _ = self._begin(at)
        before = dict(held._used)
        super().end(at, incarnation, ends)
        held._used.update(before)


CAUGHT_BY = {
    LastWriteWins: "a-live-owner-keeps-its-id",
    TokensAreNotLookedAt: "the-same-token-gets-the-same-fence",
    SuspectsAreDead: "a-suspect-owner-keeps-its-id",
    TheDeadKeepTheirIds: "a-dead-owner-is-displaced",
    DisplacedInPart: "a-dead-owner-is-displaced",
    DisplacedAndAlive: "a-displaced-owner-is-dead",
    NoLeaseIsNeeded: "a-lease-is-needed-to-create",
    FencesAreForgotten: "only-the-matching-entry-changes",
    AnybodyUpdates: "only-the-matching-entry-changes",
    UpdatesAreNotCounted: "an-update-changes-what-it-names",
    NextTokensAreForgotten: "the-next-token-keeps-the-id",
    EndsAreNotLogged: "an-end-is-told",
    PagesOverlap: "lists-go-by-fence",
    SelectsByTenantAlone: "lists-go-by-fence",
    PidsAreForgotten: "what-one-creates-every-other-finds",
    FencesAreCounted: "fences-are-the-revisions-of-creations",
    LimitsOfANode: "limits-hold-over-all-nodes",
    EndsKeepTheirPlace: "an-end-frees-its-place",
}
