"""Ways to break the index and the nodes on purpose: the simulation has to find each of them.

A mutation is a name that says what is broken, and where: which attribute of what is replaced by
what. The replacement is made from the original.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest import mock

from frontdesk.cluster import (
    cluster_watch,
    decisions,
    near_cache,
    neighbours,
    node_lease,
    outbox,
    reconciliation,
)
from frontdesk.cluster.index import ClusterIndex, ownership, windows
from frontdesk.cluster.index.contents import Contents
from frontdesk.cluster.index.epoch import Epoch
from frontdesk.cluster.index.fenced import FencedIds
from frontdesk.cluster.index.leases import Lease, Standing
from frontdesk.records import ExitKind, ExitReason, Snapshot


@dataclass(frozen=True)
class Mutation:
    """What is broken. Each change is where, which attribute, and what makes it from the original.

    `kinds` are faults under which it shows soonest; any, unless given. `seed` is one that shows it:
    where the search begins. Without one, two nodes show it.
    """

    name: str
    changes: tuple
    kinds: tuple = ()
    seed: int | None = None


@contextmanager
def applied(mutation):
    """Break it, for a while."""
    with ExitStack() as stack:
        for where, what, broken in mutation.changes:
            replaced = broken(where.__dict__[what])
            stack.enter_context(mock.patch.object(where, what, replaced))
        yield


def answers(value):
    """Replace a function by one that always answers the same."""
    return lambda original: lambda *arguments, **options: value


def _no_hold(original):
    def standing(self, now):
        return Standing.LIVE if now < self.deadline_us else Standing.DEAD

    return standing


def _short_hold(original):
    def standing(self, now):
        if self.gone is None and now < self.deadline_us + self.grace_us // 4:
            return original(self, now)
        return Standing.DEAD

    return standing


def _never_dead(original):
    def standing(self, now):
        found = original(self, now)
        return Standing.SUSPECT if found is Standing.DEAD and self.gone is None else found

    return standing


def _fence_unseen(original):
    return lambda there, incarnation, fence: there.entry.incarnation == incarnation


def _token_unseen(original):
    return lambda held, entry: None


def _new_fences(original):
    return lambda self, entry, *, fence=None: original(self, entry)


def _uncounted_end(original):
    def end(self, held, reason, *, ended_at):
        original(self, held, reason, ended_at=ended_at)
        lease = self.leases.get(held.entry.incarnation)
        if lease is not None:
            lease.tokens ^= int(held.entry.token, 16)

    return end


def _index_kept(original):
    def remove(self, fence, session_id):
        self._length -= 1

    return remove


def _length_kept(original):
    def remove(self, fence, session_id):
        original(self, fence, session_id)
        self._length += 1

    return remove


def _unbounded(original):
    return lambda self, at: self.time_us + max(at.clock_us - self.clock_us, 0)


def _back_too(original):
    return lambda self, at: self.time_us + min(at.clock_us - self.clock_us, self.lease_us // 2)


def _lower_wins(original):
    return lambda there, again: there.fence < again.fence


def _unasked(original):
    return lambda self, at, incarnation, *, proven: original(self, at, incarnation, proven=True)


def _at_once(original):
    def burials_due(nodes, *, incarnation, terms):
        return tuple(
            one.node.incarnation
            for one in nodes
            if one.node.incarnation != incarnation and one.lease_left_s < 0
        )

    return burials_due


def _live_displaced(original):
    def make_room(held, at, now, entry, limits):
        there = held.entries.get(entry.session_id)
        if there is not None:
            held.end(there, ExitReason.of(ExitKind.LOST), ended_at=at.wall_ms)
        original(held, at, now, entry, limits)

    return make_room


def _log_kept(original):
    def begin_era(self, at):
        before = self.epoch.revision
        original(self, at)
        self.epoch.era = self.epoch.revision = before

    return begin_era


def _ends_ignored(original):
    def apply(self, logged):
        if logged.change.kind != "ended":
            original(self, logged)

    return apply


def _without(action):
    def broken(original):
        def after_renewal(standing, outcome, *, quiet, terms):
            after, actions = original(standing, outcome, quiet=quiet, terms=terms)
            return after, tuple(one for one in actions if one is not action)

        return after_renewal

    return broken


def _without_ends(original):
    return lambda *arguments, **options: replace(original(*arguments, **options), end=())


def _told_once(original):
    async def send_ends(self, number):
        self._ends.clear()

    return send_ends


def _updates_dropped(original):
    async def send_updates(self, names):
        self._updates.clear()

    return send_updates


def _no_resync(original):
    def snapshot(revision, sessions, resync=False):
        return Snapshot(revision, sessions)

    return snapshot


RESTORE, RECONCILE, REJOIN, STOP_CHOSEN = (
    decisions.NodeAction.RESTORE,
    decisions.NodeAction.RECONCILE,
    decisions.NodeAction.REJOIN,
    decisions.NodeAction.STOP_CHOSEN,
)


def _stale_snapshot(original):
    return lambda pages, changes: original(pages, ())


def _not_at_all(original):
    async def rejoin(self):
        pass

    return rejoin


def _fresh_for_ever(original):
    def end_read(self, read, entry):
        read.floor = 0
        original(self, read, entry)

    return end_read


def _raises(original):
    def end_read(self, read, entry):
        raise LookupError("an error that no caller expects")

    return end_read


def _forgets(original):
    def take(self, counted, now, *, limit, window_us):
        self._windows.pop(counted, None)
        return original(self, counted, now, limit=limit, window_us=window_us)

    return take


def both(what, broken):
    """Change a decision where the node imports it, and where the small nodes find it."""
    where = {"after_renewal": node_lease, "burials_due": neighbours, "differences": reconciliation}
    return ((where[what], what, broken), (decisions, what, broken))


MUTATIONS = [
    # -- of the index
    Mutation("there is no hold", ((Lease, "standing", _no_hold),)),
    Mutation("the hold is a quarter as long", ((Lease, "standing", _short_hold),), seed=114),
    Mutation("nobody is ever dead", ((Lease, "standing", _never_dead),), seed=23),
    Mutation("an end is for whatever fence", ((ownership, "is_entry", _fence_unseen),), ("late",)),
    Mutation("the token of a create is not compared", ((ownership, "own_entry", _token_unseen),)),
    Mutation("restored entries get new fences", ((Contents, "enter", _new_fences),)),
    Mutation("an ended entry counts in its node's tokens", ((Contents, "end", _uncounted_end),)),
    Mutation("an ended entry stays in its lists", ((FencedIds, "remove", _index_kept),), seed=0),
    Mutation("a count is not decremented", ((FencedIds, "remove", _length_kept),)),
    Mutation("another run is no new era", ((Epoch, "is_over", answers(value=False)),), ("lose",)),
    Mutation("an era is not raised", ((Contents, "begin_era", _log_kept),), ("lose",), seed=4),
    Mutation("engine time follows the clock", ((Epoch, "time_at", _unbounded),)),
    Mutation(
        "engine time goes back", ((Epoch, "time_at", _back_too),), ("clock_back", "kill"), seed=1
    ),
    Mutation("there is no recovery", ((ownership, "recovery_left_us", answers(0)),)),
    Mutation("of two owners the lower fence wins", ((ownership, "outranks", _lower_wins),)),
    Mutation("a live owner is displaced", ((ownership, "make_room", _live_displaced),)),
    Mutation("limits hold nobody", ((Contents, "check", answers(None)),), seed=2),
    Mutation("a rate forgets what it counted", ((windows.Rates, "take", _forgets),), seed=8),
    Mutation("who asks has the claim", ((windows.Claims, "find", answers(None)),), seed=0),
    Mutation(
        "claims are for nobody", ((ownership, "standing_of", answers(Standing.DEAD)),), seed=0
    ),
    Mutation(
        "burials need no deadline",
        ((ClusterIndex, "bury", _unasked), *both("burials_due", _at_once)),
    ),
    # -- of nodes
    Mutation("nodes restore nothing", both("after_renewal", _without(RESTORE)), seed=38),
    Mutation(
        "nodes compare nothing", both("after_renewal", _without(RECONCILE)), ("late", "lossy")
    ),
    Mutation(
        "nodes do not join anew",
        ((reconciliation.Reconciliation, "rejoin", _not_at_all),),
        ("pause",),
        seed=112,
    ),
    Mutation("chosen ids are not stopped", both("after_renewal", _without(STOP_CHOSEN)), ("cut",)),
    Mutation("nobody buries", both("burials_due", answers(())), seed=23),
    Mutation("untold ends stay", both("differences", _without_ends)),
    Mutation("updates are dropped", ((outbox.Outbox, "_send_updates", _updates_dropped),), seed=0),
    Mutation("ends are dropped", ((outbox.Outbox, "_send_ends", _told_once),), seed=0),
    Mutation(
        "the cache is not emptied",
        ((near_cache.NearCache, "clear", answers(None)),),
        ("lose", "pause"),
        seed=23,
    ),
    Mutation(
        "the cache hears of no end", ((near_cache.NearCache, "apply", _ends_ignored),), seed=0
    ),
    Mutation(
        "the cache stores what is old",
        ((near_cache.NearCache, "end_read", _fresh_for_ever),),
        ("late_answers",),
        seed=0,
    ),
    Mutation(
        "a lookup raises what it must not", ((near_cache.NearCache, "end_read", _raises),), seed=0
    ),
    Mutation("a snapshot does not say resync", ((cluster_watch, "Snapshot", _no_resync),), seed=8),
    Mutation(
        "a snapshot is from before",
        ((cluster_watch, "brought_up", _stale_snapshot),),
        ("pause", "late"),
        seed=30,
    ),
]
