"""Indexes with one fault each, and the law that is meant to catch it.

Each fault is one that an author of such an engine, or of its scripts, could make without noticing:
`test_broken_indexes.py` shows that none of them passes.
"""

from dataclasses import replace

from frontdesk.cluster.index import ClusterIndex, Moment, micros
from frontdesk.cluster.index.contents import Contents
from frontdesk.cluster.index.epoch import Epoch
from frontdesk.cluster.index.leases import Standing
from frontdesk.cluster.index.windows import Claims
from frontdesk.cluster.records import BURY_BATCH, Buried, IndexLimits, Renewed, Selection
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


class CountsReservations(ClusterIndex):
    """A count has what is only reserved."""

    def count(self, at, selection):
        held, _ = self._begin(at)
        reserved = [one.entry for one in held.reservations.values()]
        mine = [one for one in reserved if one.tenant_id == selection.tenant_id]
        return super().count(at, selection) + len(mine)


class JoinsAgain(ClusterIndex):
    """An incarnation joins as often as it likes."""

    def join(self, at, node, *, terms, era=None):
        held, _ = self._begin(at)
        before = held.leases.get(node.incarnation)
        if before is not None and before.gone is None:
            return super().join(at, node, terms=terms, era=held.epoch.era - 1)
        return super().join(at, node, terms=terms, era=era)


class TheBuriedJoinAgain(ClusterIndex):
    """An incarnation whose lease is gone is taken for a new one."""

    def join(self, at, node, *, terms, era=None):
        held, _ = self._begin(at)
        if node.incarnation not in held.leases:
            era = None
        return super().join(at, node, terms=terms, era=era)


class AnySchema(ClusterIndex):
    """Whoever comes is let in."""

    def join(self, at, node, *, terms, era=None):
        held, _ = self._begin(at)
        held.epoch.schema = node.schema
        return super().join(at, node, terms=terms, era=era)


class RenewsWithoutALook(ClusterIndex):
    """A renewal never compares."""

    def renew(self, at, renewal):
        return replace(super().renew(at, renewal), matches=True)


class ReservedTokensMatch(ClusterIndex):
    """A renewal compares the count alone."""

    def renew(self, at, renewal):
        held, _ = self._begin(at)
        lease = held.leases.get(renewal.incarnation)
        tokens = 0 if lease is None else lease.tokens
        return super().renew(at, replace(renewal, tokens=tokens))


class TheDeadRenew(ClusterIndex):
    """A node that is being buried comes back with a renewal."""

    def renew(self, at, renewal):
        held, _ = self._begin(at)
        lease = held.leases.get(renewal.incarnation)
        if lease is not None:
            lease.gone = None
        return super().renew(at, renewal)


class StalledForEver(ClusterIndex):
    """A node that has stalled once is shown so for good."""

    def renew(self, at, renewal):
        held, _ = self._begin(at)
        lease = held.leases.get(renewal.incarnation)
        stalled = lease is not None and lease.stalled
        renewed = super().renew(at, renewal)
        held.leases[renewal.incarnation].stalled |= stalled
        return renewed


class ListenersAreNotAsked(ClusterIndex):
    """Only the loop is looked at."""

    def renew(self, at, renewal):
        return super().renew(at, replace(renewal, listener_age_s=0.0))


class DrainsUnseen(ClusterIndex):
    """Nobody is told that a node drains."""

    def renew(self, at, renewal):
        return super().renew(at, replace(renewal, draining=False))


class BuriesSuspects(ClusterIndex):
    """Whose lease ran out is buried, without a hold."""

    def bury(self, at, incarnation, *, proven):
        held, now = self._begin(at)
        lease = held.leases.get(incarnation)
        over = lease is not None and now >= lease.deadline_us
        return super().bury(at, incarnation, proven=proven or over)


class BuriesAtOnce(ClusterIndex):
    """All entries end in one call, and others wait for that."""

    def bury(self, at, incarnation, *, proven):
        ended = 0
        while True:
            buried = super().bury(at, incarnation, proven=proven)
            ended += buried.ended
            if buried.done or not buried.ended:
                return Buried(ended, buried.done)


class TheLeaseGoesFirst(ClusterIndex):
    """A burial begins with the lease, so nobody knows of what is left."""

    def bury(self, at, incarnation, *, proven):
        buried = super().bury(at, incarnation, proven=proven)
        if buried.ended == BURY_BATCH:
            self._contents.leases.pop(incarnation, None)
        return Buried(buried.ended, done=True) if buried.ended == BURY_BATCH else buried


class TheNewestGoFirst(ClusterIndex):
    """A burial begins with the newest entries."""

    def bury(self, at, incarnation, *, proven):
        held, _ = self._begin(at)
        held.__class__ = _NewestFirst
        return super().bury(at, incarnation, proven=proven)


class _NewestFirst(Contents):
    def of_node(self, incarnation, limit):
        return super().of_node(incarnation, 10**6)[::-1][:limit]


class LeavesAsLost(ClusterIndex):
    """What a node leaves behind ends with `lost`."""

    def leave(self, at, incarnation):
        return self.bury(at, incarnation, proven=True)


class LeavesWithAHold(ClusterIndex):
    """A node that leaves is held back like a dead one."""

    def leave(self, at, incarnation):
        return Buried(0, done=True)


class NodesInNoOrder(ClusterIndex):
    """Nodes are listed as they joined."""

    def nodes(self, at):
        held, _ = self._begin(at)
        order = list(held.leases)
        return sorted(super().nodes(at), key=lambda one: order.index(one.node.incarnation))


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


class LateJoinsBeginAnew(ClusterIndex):
    """A join that comes a second time takes back that its node has told all."""

    def join(self, at, node, *, terms, era=None):
        joined = super().join(at, node, terms=terms, era=era)
        self._contents.leases[node.incarnation].restored = era is None
        return joined


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


class SuspectsAreNotForgiven(ClusterIndex):
    """A node whose lease ran out cannot renew it."""

    def renew(self, at, renewal):
        held, now = self._begin(at)
        lease = held.leases.get(renewal.incarnation)
        if lease is not None and now >= lease.deadline_us:
            lease.gone = ExitKind.LOST
        return super().renew(at, renewal)


class RenewsWhatIsNotThere(ClusterIndex):
    """A renewal makes a lease for who has none."""

    def renew(self, at, renewal):
        held, _ = self._begin(at)
        if renewal.incarnation not in held.leases:
            return Renewed(held.epoch.era, held.epoch.revision, matches=True)
        return super().renew(at, renewal)


class BuriesNamesakes(ClusterIndex):
    """A burial takes what its node's tenants have elsewhere."""

    def bury(self, at, incarnation, *, proven):
        held, _ = self._begin(at)
        for one in list(held.entries.values()) if proven else ():
            if one.entry.incarnation != incarnation:
                held.end(one, ExitReason.of("lost"), ended_at=at.wall_ms)
        return super().bury(at, incarnation, proven=proven)


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


class RatesRunOver(ClusterIndex):
    """One more than the limit is let through."""

    def take(self, at, counted, *, limit, window_s):
        return super().take(at, counted, limit=limit + 1, window_s=window_s)


CAUGHT_BY = {
    LastWriteWins: "a-live-owner-keeps-its-id",
    TokensAreNotLookedAt: "the-same-token-gets-the-same-fence",
    SuspectsAreDead: "a-suspect-owner-keeps-its-id",
    TheDeadKeepTheirIds: "a-dead-owner-is-displaced",
    DisplacedInPart: "a-dead-owner-is-displaced",
    DisplacedAndAlive: "a-displaced-owner-is-dead",
    NoLeaseIsNeeded: "a-lease-is-needed-to-create",
    ReservationsAreNotCounted: "a-reservation-is-counted-once",
    ACreateTakesASecondPlace: "a-reservation-is-counted-once",
    AnyTokenReleases: "a-reservation-is-given-back",
    ReservationsLastForEver: "a-reservation-runs-out",
    RenewedReservationsRunOut: "a-reservation-runs-out",
    ReservationsOutliveTheirNode: "burying-takes-the-reservations",
    FencesAreForgotten: "only-the-matching-entry-changes",
    AnybodyUpdates: "only-the-matching-entry-changes",
    UpdatesAreNotCounted: "an-update-changes-what-it-names",
    NextTokensAreForgotten: "the-next-token-keeps-the-id",
    EndsAreNotLogged: "an-end-is-told",
    PagesOverlap: "lists-go-by-fence",
    SelectsByTenantAlone: "lists-go-by-fence",
    CountsReservations: "a-reservation-holds-the-id-unlisted",
    JoinsAgain: "an-incarnation-joins-once",
    TheBuriedJoinAgain: "once-begun-a-node-is-dead",
    AnySchema: "schemas-are-a-step-apart",
    RenewsWithoutALook: "a-renewal-compares-the-entries",
    ReservedTokensMatch: "a-renewal-compares-the-entries",
    TheDeadRenew: "once-begun-a-node-is-dead",
    StalledForEver: "who-does-not-move-is-stalled",
    ListenersAreNotAsked: "who-does-not-move-is-stalled",
    DrainsUnseen: "who-drains-is-shown-so",
    BuriesSuspects: "nobody-is-buried-alive",
    BuriesAtOnce: "the-dead-are-buried-in-batches",
    TheLeaseGoesFirst: "the-dead-are-buried-in-batches",
    TheNewestGoFirst: "the-dead-are-buried-in-batches",
    LeavesAsLost: "who-leaves-is-gone-at-once",
    LeavesWithAHold: "who-leaves-is-gone-at-once",
    NodesInNoOrder: "nodes-are-listed-by-name",
    ClaimsAreStolen: "a-claim-is-the-first-ones",
    ClaimsLastForEver: "a-claim-is-the-first-ones",
    ClaimsOfTheDead: "a-dead-nodes-claim-is-void",
    FixedWindows: "a-window-moves",
    TheRefusedCount: "a-window-moves",
    TotalsOfTheLiving: "totals-are-what-was-published-last",
    OneTopic: "totals-are-what-was-published-last",
    GapsAreNotTold: "who-cannot-be-told-all-is-told-so",
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
    PidsAreForgotten: "what-one-creates-every-other-finds",
    FencesAreCounted: "fences-are-the-revisions-of-creations",
    LimitsOfANode: "limits-hold-over-all-nodes",
    EndsKeepTheirPlace: "an-end-frees-its-place",
    SuspectsAreNotForgiven: "who-does-not-renew-is-suspect",
    RenewsWhatIsNotThere: "no-lease-is-renewed-that-there-is-not",
    BuriesNamesakes: "a-burial-touches-nobody-else",
    ReservationsOfSuspectsAreFree: "a-reservation-goes-with-its-node",
    ReservationsHaveTheLastWord: "the-create-has-the-last-word",
    RatesRunOver: "a-rate-is-counted-over-all-nodes",
    ReservationsStopRestores: "what-is-restored-displaces-a-reservation",
}
"""Each broken index, and the law that says what is wrong with it."""
