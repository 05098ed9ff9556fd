"""Indexes that break a law of nodes: joins, leases, burials."""

from dataclasses import replace

from frontdesk.cluster.index import ClusterIndex
from frontdesk.cluster.index.contents import Contents
from frontdesk.cluster.records import BURY_BATCH, Buried, Renewed
from frontdesk.records import ExitKind, ExitReason


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


class _TellsOtherwise(ClusterIndex):
    """What its log says of nodes that are gone is another's word."""

    @staticmethod
    def says_gone(told):
        raise NotImplementedError

    def follow(self, at, after, *, era, limit=1000):
        page = super().follow(at, after, era=era, limit=limit)
        changes = tuple(replace(one, node_gone=self.says_gone(one)) for one in page.changes)
        return replace(page, changes=changes)


def _kind(told):
    return getattr(getattr(told.change, "reason", None), "kind", None)


class GoneNodesAreNotTold(_TellsOtherwise):
    """A death is told of session by session, and not as what it is."""

    @staticmethod
    def says_gone(told):
        return False


class LostAgentsTakeTheirNodeAlong(_TellsOtherwise):
    """Whatever ended as a dead node's sessions do is held to be one."""

    @staticmethod
    def says_gone(told):
        return _kind(told) in {ExitKind.LOST, ExitKind.SHUTDOWN}


class SupersededNodesAreGone(_TellsOtherwise):
    """A node that lost one id to another is held to be gone."""

    @staticmethod
    def says_gone(told):
        return told.node_gone or _kind(told) is ExitKind.SUPERSEDED


class TakersTellOneEnd(_TellsOtherwise):
    """Who takes a dead node's id tells of that session, and not of the node."""

    @staticmethod
    def says_gone(told):
        return told.node_gone and told.change.session.session_id != "taken"


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


CAUGHT_BY = {
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
    GoneNodesAreNotTold: "ends-with-their-node-say-so",
    LostAgentsTakeTheirNodeAlong: "ends-with-their-node-say-so",
    TakersTellOneEnd: "ends-with-their-node-say-so",
    SupersededNodesAreGone: "who-is-superseded-is-not-gone",
    LeavesAsLost: "who-leaves-is-gone-at-once",
    LeavesWithAHold: "who-leaves-is-gone-at-once",
    NodesInNoOrder: "nodes-are-listed-by-name",
    SuspectsAreNotForgiven: "who-does-not-renew-is-suspect",
    RenewsWhatIsNotThere: "no-lease-is-renewed-that-there-is-not",
    BuriesNamesakes: "a-burial-touches-nobody-else",
}
