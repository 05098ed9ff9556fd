"""What a node decides: pure functions, so these are tables of facts and what follows from them."""

from dataclasses import replace

import pytest

from frontdesk.cluster.decisions import (
    PATIENT_MISMATCHES,
    Fate,
    NodeAction,
    NodeCondition,
    RenewalOutcome,
    Standing,
    after_renewal,
    burials_due,
    condition,
    differences,
    fate_of,
    isolation_due,
    must_end_itself,
    stall_s,
)
from frontdesk.cluster.records import (
    IndexEntry,
    LoggedChange,
    NewEntry,
    NodeRecord,
    NodeState,
    NodeStatus,
    Renewed,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import Created, Ended, ExitReason

TERMS = LeaseTerms(lease_s=10, isolation_grace_s=20, kill_grace_s=5, stalled_exit_s=60)
JOINED = Standing(joined=True, era=7, lease_until_s=110.0)


def condition_at(now_s, standing=JOINED, *, stalled_for_s=0.0):
    return condition(standing, now_s=now_s, stalled_for_s=stalled_for_s, terms=TERMS)


def answered(*, sent_s=105.0, at_s=105.1, era=7, matches=True):
    return RenewalOutcome(sent_s, at_s, Renewed(era, 1000, matches))


def decide(outcome, standing=JOINED, *, quiet=True):
    return after_renewal(standing, outcome, quiet=quiet, terms=TERMS)


def entry(session_id, fence, *, version=None, model=None, incarnation="me"):
    new = NewEntry(
        session_id, incarnation, f"{fence:016x}", "t", None, 0, None, model, 1, minted=False
    )
    return IndexEntry(new, fence, fence if version is None else version)


# -- condition -------------------------------------------------------------------------------------


def test_a_node_is_joined_until_a_lease_after_the_renewal_was_sent():
    assert condition_at(109.9) is NodeCondition.JOINED
    assert condition_at(110.0) is NodeCondition.CUT_OFF


def test_a_node_whose_loop_or_listener_has_not_moved_for_a_lease_is_stalled_whatever_its_lease():
    assert condition_at(100.0, stalled_for_s=9.9) is NodeCondition.JOINED
    assert condition_at(100.0, stalled_for_s=10.0) is NodeCondition.STALLED
    assert condition_at(200.0, stalled_for_s=10.0) is NodeCondition.STALLED


def test_a_node_that_was_told_dead_is_rejoining_and_one_that_has_left_has_left():
    assert condition_at(100.0, replace(JOINED, rejoining=True)) is NodeCondition.REJOINING
    assert condition_at(100.0, replace(JOINED, joined=False)) is NodeCondition.LEFT


def test_an_answered_renewal_extends_the_lease_from_when_it_was_sent():
    standing, actions = decide(answered(sent_s=108.0, at_s=110.4))
    assert (standing.lease_until_s, actions) == (118.0, ())


def test_an_answer_that_is_late_takes_nothing_from_a_longer_lease():
    standing, _ = decide(answered(sent_s=90.0, at_s=109.0))
    assert standing.lease_until_s == 110.0


def test_a_renewal_that_was_not_answered_changes_nothing_before_the_grace_is_over():
    for at_s in (105.0, 111.0, 129.9):
        assert decide(RenewalOutcome(at_s - 2, at_s)) == (JOINED, ())


# -- isolation, death ------------------------------------------------------------------------------


def test_after_the_isolation_grace_what_is_chosen_is_stopped_once():
    standing, actions = decide(RenewalOutcome(128.0, 130.0))
    assert actions == (NodeAction.STOP_CHOSEN,)
    assert decide(RenewalOutcome(131.0, 132.0), standing) == (standing, ())


def test_it_is_stopped_before_anybody_else_may_have_the_id():
    """The holder stops by its own clock at most a grace after a lease that began before it did
    at the engine; it is given away a hold after that, which is longer by the kill grace and more.
    """
    stopped_s = JOINED.lease_until_s + TERMS.isolation_grace_s
    gone_s = stopped_s + TERMS.kill_grace_s
    assert isolation_due(JOINED, now_s=stopped_s, terms=TERMS)
    assert gone_s < JOINED.lease_until_s + TERMS.hold_s


def test_a_node_that_is_heard_again_can_be_isolated_again():
    standing, _ = decide(RenewalOutcome(128.0, 130.0))
    standing, _ = decide(answered(sent_s=131.0), standing)
    assert not standing.stopped_chosen
    _, actions = decide(RenewalOutcome(160.0, 161.0), standing)
    assert actions == (NodeAction.STOP_CHOSEN,)


def test_a_node_that_is_told_dead_rejoins_once():
    standing, actions = decide(RenewalOutcome(105.0, 105.1, lost=True))
    assert actions == (NodeAction.REJOIN,)
    assert standing.rejoining
    assert decide(RenewalOutcome(106.0, 106.1, lost=True), standing) == (standing, ())


def test_a_node_that_cannot_rejoin_stops_what_is_chosen_too():
    dead = replace(JOINED, rejoining=True)
    standing, actions = decide(RenewalOutcome(130.0, 130.1, lost=True), dead)
    assert actions == (NodeAction.STOP_CHOSEN,)
    assert standing.stopped_chosen


def test_a_node_that_has_left_decides_nothing():
    left = Standing()
    for outcome in (answered(), RenewalOutcome(1.0, 2.0), RenewalOutcome(1.0, 2.0, lost=True)):
        assert decide(outcome, left) == (left, ())


# -- eras, mismatches ------------------------------------------------------------------------------


def test_another_era_asks_the_node_to_restore_once():
    standing, actions = decide(answered(era=9, matches=False))
    assert (standing.era, actions) == (9, (NodeAction.RESTORE,))
    assert decide(answered(era=9), standing)[1] == ()


def test_a_mismatch_is_reconciled_at_once_while_nothing_is_under_way():
    assert decide(answered(matches=False))[1] == (NodeAction.RECONCILE,)


def test_a_busy_node_is_reconciled_when_it_has_not_matched_for_a_lease():
    standing, seen = JOINED, []
    for _ in range(PATIENT_MISMATCHES):
        standing, actions = decide(answered(matches=False), standing, quiet=False)
        seen += actions
    assert seen == [NodeAction.RECONCILE]
    assert standing.mismatches == 0


def test_a_match_in_between_begins_the_count_anew():
    standing = JOINED
    for matches in (False, False, True, False, False):
        standing, actions = decide(answered(matches=matches), standing, quiet=False)
        assert actions == ()
    assert standing.mismatches == 2


# -- stalls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moved_s", "ran_since_s", "stalled_s"),
    [(100.0, 0.0, 50.0), (149.0, 0.0, 1.0), (100.0, 149.5, 0.5), (151.0, 0.0, 0.0)],
    ids=["hangs", "moves", "the whole process stood still", "moved after it was asked"],
)
def test_a_loop_is_stalled_only_while_its_watcher_ran(moved_s, ran_since_s, stalled_s):
    assert stall_s(moved_s=moved_s, ran_since_s=ran_since_s, now_s=150.0) == stalled_s


def test_a_process_ends_itself_after_a_minute_of_stall():
    assert not must_end_itself(59.9, terms=TERMS)
    assert must_end_itself(60.0, terms=TERMS)


# -- burials ---------------------------------------------------------------------------------------


def node(incarnation, lease_left_s):
    state = NodeState.ALIVE if lease_left_s > 0 else NodeState.SUSPECT
    record = NodeRecord(incarnation, f"host/{incarnation}", "unix:/", 1, "0", "")
    return NodeStatus(record, state, lease_left_s, 0, False)


def test_nobody_is_buried_before_the_hold_is_over():
    nodes = [node("a", 5.0), node("b", -1.0), node("c", -TERMS.hold_s + 0.01)]
    assert burials_due(nodes, incarnation="me", terms=TERMS) == ()


def test_every_node_buries_at_the_latest_a_quarter_of_a_lease_after_the_hold():
    nodes = [node("a", -TERMS.hold_s - TERMS.renew_s)]
    for mine in map(str, range(50)):
        assert burials_due(nodes, incarnation=mine, terms=TERMS) == ("a",)


def test_not_all_nodes_begin_at_once():
    begins = set()
    for mine in map(str, range(20)):
        overdue_s = next(
            tenths / 10
            for tenths in range(int(TERMS.renew_s * 10) + 2)
            if burials_due([node("a", -TERMS.hold_s - tenths / 10)], incarnation=mine, terms=TERMS)
        )
        begins.add(overdue_s)
    assert len(begins) > 5


def test_a_node_does_not_bury_itself():
    assert burials_due([node("me", -1000.0)], incarnation="me", terms=TERMS) == ()


# -- entries ---------------------------------------------------------------------------------------


def test_what_the_engine_has_too_much_ends_what_it_lacks_is_restored_what_differs_is_updated():
    mine = {
        one.entry.session_id: one
        for one in (entry("a", 1), entry("b", 2), entry("c", 3, model="m"))
    }
    theirs = [entry("a", 1), entry("c", 3), entry("ghost", 4)]
    found = differences(mine, theirs, under_way=())
    assert found.end == (entry("ghost", 4),)
    assert found.restore == (entry("b", 2),)
    assert found.update == (mine["c"],)


def test_another_fence_of_an_id_is_another_entry():
    found = differences({"a": entry("a", 5)}, [entry("a", 1)], under_way=())
    assert (found.end, found.restore) == ((entry("a", 1),), (entry("a", 5),))


def test_what_is_under_way_is_left_alone():
    found = differences({"a": entry("a", 1)}, [entry("b", 2)], under_way={"a", "b"})
    assert (found.end, found.restore, found.update) == ((), (), ())


@pytest.mark.parametrize(
    ("kind", "fence", "incarnation", "fate"),
    [
        ("superseded", 5, "me", Fate.SUPERSEDED),
        ("lost", 5, "me", Fate.LOST),
        ("normal", 5, "me", Fate.NONE),
        ("superseded", 4, "me", Fate.NONE),
        ("superseded", 5, "another", Fate.NONE),
    ],
    ids=["superseded", "lost", "told by this node", "an older one", "another node's"],
)
def test_what_the_log_says_of_an_own_session(kind, fence, incarnation, fate):
    ended = Ended(9, entry("a", fence).metadata, ExitReason.of(kind), 0)
    logged = LoggedChange(ended, incarnation, "")
    assert fate_of(logged, entry("a", 5), incarnation="me") is fate


def test_a_change_that_is_no_end_or_of_no_own_session_is_no_fate():
    created = LoggedChange(Created(5, entry("a", 5).metadata), "me", "")
    assert fate_of(created, entry("a", 5), incarnation="me") is Fate.NONE
    ended = Ended(9, entry("a", 5).metadata, ExitReason.of("superseded"), 0)
    assert fate_of(LoggedChange(ended, "me", ""), None, incarnation="me") is Fate.NONE
