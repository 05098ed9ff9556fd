"""The index's parts: ids by fence, the log's bound, eras at odd clocks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.engine_laws.members import TERMS, record
from frontdesk.cluster.index import ClusterIndex, Moment, micros
from frontdesk.cluster.index.fenced import FencedIds
from frontdesk.cluster.records import LOG_ENTRIES, IndexLimits, NewEntry, Selection
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import ExitReason

START_US = 1_700_000_000_000_000

items = st.tuples(st.integers(1, 40), st.sampled_from("abc"))


@given(steps=st.lists(items, max_size=80), after=st.integers(0, 41), limit=st.integers(1, 50))
def test_ids_by_fence_are_a_sorted_set(steps, after, limit):
    ids, expected = FencedIds(chunk=4), set()
    for item in steps:
        if item in expected:
            ids.remove(*item)
        else:
            ids.add(*item)
        expected ^= {item}
        assert len(ids) == len(expected)
        assert list(ids) == [session_id for _, session_id in sorted(expected)]
    above = [item for item in sorted(expected) if item[0] > after]
    assert ids.page(after, limit) == above[:limit]


@given(there=st.sets(items, min_size=1, max_size=80), data=st.data())
def test_a_run_of_ids_goes_as_each_of_them_would(there, data):
    ids = FencedIds(chunk=4)
    for item in there:
        ids.add(*item)
    gone = data.draw(st.sets(st.sampled_from(sorted(there))))
    left = sorted(there - gone)
    assert ids.remove_run(sorted(gone)) is (not left)
    assert (len(ids), ids.page(0, 100)) == (len(left), left)
    for fence, session_id in left:
        ids.remove(fence, session_id)
    assert len(ids) == 0


@given(sessions=st.lists(st.tuples(*(st.sampled_from("ab"),) * 3), max_size=30))
def test_ends_all_at_once_are_as_one_after_the_other(sessions):
    indexes, at = (ClusterIndex(), ClusterIndex()), Moment(START_US, "run")
    nodes = {name: record(f"h/{name}") for name in "ab"}
    for index in indexes:
        for node in nodes.values():
            index.join(at, node, terms=TERMS)
        for n, (name, tenant, key) in enumerate(sessions):
            entry = replace(
                entry_of(nodes[name], f"s{n}"),
                token=f"{n + 1:016x}",
                tenant_id=tenant,
                api_key=key if tenant == "a" else None,
                blueprint=key,
            )
            index.create(at, entry, limits=IndexLimits())
    at_once, in_turn = (index._contents for index in indexes)
    dead, reason = nodes["a"].incarnation, ExitReason.of("lost")
    at_once.end_all(at_once.of_node(dead, 100), reason, ended_at=5)
    for one in in_turn.of_node(dead, 100):
        in_turn.end(one, reason, ended_at=5, node_gone=True)
    first, second = (
        (
            held.entries,
            held.epoch,
            held.leases,
            held._used,
            held.log.read(held.log.oldest - 1),
            [{name: list(ids) for name, ids in lists.items()} for lists in lists_of(held)],
        )
        for held in (at_once, in_turn)
    )
    assert first == second


def lists_of(held):
    return held._of_tenant, held._of_key, held._of_node


@pytest.mark.parametrize("order", [1, -1])
def test_ids_that_come_in_order_fill_their_chunks(order):
    """Oldest first, as they are created, or last first: neither leaves chunks of one or two."""
    ids = FencedIds(chunk=100)
    for fence in range(1000)[::order]:
        ids.add(fence, "s")
    assert len(ids._chunks) <= 21
    assert [fence for fence, _ in ids.above(-1)] == list(range(1000))


def joined(index, at):
    node = record("h/1")
    return node, index.join(at, node, terms=TERMS)


def entry_of(node, session_id):
    return NewEntry(
        session_id, node.incarnation, "0" * 16, "acme", None, 1, None, None, 1, minted=True
    )


def test_the_log_holds_so_many_changes_and_who_is_behind_them_begins_anew():
    index, at = ClusterIndex(), Moment(START_US, "run")
    node, start = joined(index, at)
    fence = index.create(at, entry_of(node, "s"), limits=IndexLimits())
    for n in range(LOG_ENTRIES):
        index.update(at, node.incarnation, "s", fence=fence, model=f"m{n}")
    page = index.follow(at, fence, era=start.era)
    assert (page.gap, page.changes[0].change.revision) == (False, fence + 1)
    page = index.follow(at, fence - 1, era=start.era)
    assert (page.gap, page.changes) == (True, ())
    assert index.list(at, Selection()).entries[0].entry.model == f"m{LOG_ENTRIES - 1}"


@pytest.mark.parametrize("clock_us", [0, 1, START_US, 2**53 - 10**6])
def test_an_era_begins_above_what_is_known_at_any_clock(clock_us):
    known = START_US + 5
    index = ClusterIndex()
    _, start = joined(index, Moment(clock_us, "run", known))
    assert start.era == start.revision == max(clock_us, known + 1)


def test_engine_time_moves_by_half_a_lease_of_the_node_that_joined_last():
    index = ClusterIndex(recovers=False)
    at = Moment(START_US, "run")
    index.join(at, record("h/1"), terms=LeaseTerms(lease_s=100.0))
    index.join(at, record("h/2"), terms=LeaseTerms(lease_s=8.0))
    first, _ = index.nodes(Moment(START_US + micros(1000), "run"))
    assert first.lease_left_s == 96.0
    # Who only looks moves nothing: it would be the same again.
    first, _ = index.nodes(Moment(START_US + micros(1000), "run"))
    assert first.lease_left_s == 96.0


def test_a_recovery_of_very_long_leases_lasts_for_a_minute_all_the_same():
    index = ClusterIndex()
    terms = LeaseTerms(lease_s=600.0)
    at = Moment(START_US, "run")
    assert index.join(at, record("h/1"), terms=terms).recovering_s == 60.0
    assert index.list(Moment(START_US + micros(59.9), "run"), Selection()).partial
    assert not index.list(Moment(START_US + micros(60), "run"), Selection()).partial
