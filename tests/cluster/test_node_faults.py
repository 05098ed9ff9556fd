"""A node in trouble: cut off, told dead, its engine empty, its loop or its process standing still.

Time is the tests' own where it decides: a node's by `move`, the engine's by the server's clock.
"""

import asyncio
import threading
from unittest.mock import patch

import pytest

from cluster.open_nodes import BOUND_S, NO_LIMITS, TERMS, eventually, on_loop, open_nodes
from frontdesk.cluster import node, outbox
from frontdesk.cluster.decisions import NodeCondition
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.lease_thread import LeaseThread, RenewalSource
from frontdesk.cluster.membership import new_token
from frontdesk.cluster.records import NewEntry, NodeState, Renewal, Renewed, Selection
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.conversation_database import standing_in
from frontdesk.records import ExitReason
from frontdesk.testing import FakeAgent

STOPPED_HERE = "session s is another node's: it is stopped here"
NOBODYS = {"tenant_id": "default", "api_key": None, "blueprint": None, "model": None}


def said_of_another(caplog):
    """Return what the log says of sessions that are another node's."""
    said = [each.getMessage() for each in caplog.records]
    return [each for each in said if "another node's" in each]


def ids_in(server):
    page = server.call("list", 0, Selection())
    return [one.entry.session_id for one in page.entries]


async def move_engine(server, duration_s):
    """Let time pass for the engine, which goes on by half a lease a call at most."""
    for _ in range(round(duration_s)):
        server.skew_s += 1
        server.call("claim_time", 0) if False else server.call(
            "take", 0, "time", limit=1, window_s=1
        )


async def renewed(server, opened):
    """Have a node renew its lease now, and wait for the answer."""
    number = server.calls.count("renew")
    opened.node._lease.renew_soon()
    await eventually(lambda: server.calls.count("renew") > number)


async def bury(server, incarnation):
    """End a node, as whoever knows for sure that it is dead does."""
    while not server.call("bury", 0, incarnation, proven=True).done:
        pass


# -- what is told of it ----------------------------------------------------------------------------


@on_loop
async def test_a_node_tells_of_each_renewal_repair_and_era():
    async with open_nodes("a", "b") as (server, a, b):
        for number in range(3):
            await a.create(f"s{number}")
        await renewed(server, a)
        await eventually(lambda: a.renewals and a.renewals[-1].renewed is not None)
        assert (a.repairs, a.eras) == ([], [])
        await bury(server, a.node.incarnation)
        await eventually(lambda: a.repairs == ["rejoin"])
        await eventually(lambda: not a.node._own.homeless)
        assert any(each.lost for each in a.renewals)
        assert a.eras == []
        server.wipe()
        await eventually(lambda: len(ids_in(server)) == 3)
        await eventually(lambda: a.eras and b.eras)
        await eventually(lambda: "restore" in a.repairs and "restore" in b.repairs)
        assert (len(a.eras), len(b.eras)) == (1, 1)


@on_loop
async def test_a_lease_that_is_not_renewed_is_of_an_age():
    async with open_nodes("a") as (server, a):
        assert a.node.lease_age_s < TERMS.renew_s
        server.down = True
        a.now_s += 7
        assert 7 <= a.node.lease_age_s < 7 + TERMS.renew_s


# -- cut off ---------------------------------------------------------------------------------------


@on_loop
async def test_a_node_that_is_cut_off_creates_nothing_and_its_sessions_go_on():
    async with open_nodes("a") as (server, a):
        agent = FakeAgent()
        await a.create("lives", agent)
        a.engine.cut = True
        await a.move(TERMS.lease_s)
        assert a.node.condition is NodeCondition.CUT_OFF
        with pytest.raises(EngineUnavailable, match="has not heard of its lease"):
            await a.create("new")
        assert a.store.get("lives").agent is agent
        assert (await a.node.find("lives")).entry.fence == a.node.fence("lives")
        a.engine.cut = False
        await eventually(lambda: a.node.condition is NodeCondition.JOINED)
        await a.create("new")
        assert ids_in(server) == ["lives", "new"]


@on_loop
async def test_what_ended_while_it_was_cut_off_is_told_when_it_is_heard_again():
    async with open_nodes("a") as (server, a):
        agent = FakeAgent()
        await a.create("s", agent)
        a.engine.cut = True
        agent.end(ExitReason.exited(5))
        with patch.object(outbox, "FLUSH_S", 0.1), pytest.raises(EngineUnavailable):
            await a.node.flush()
        assert ids_in(server) == ["s"]
        a.engine.cut = False
        await eventually(lambda: not ids_in(server))
        await a.node.read_all()
        assert a.node.ended("s").ended.reason == ExitReason.exited(5)


@on_loop
async def test_others_sessions_are_found_in_memory_while_the_engine_is_gone():
    async with open_nodes("a", "b") as (_, a, b):
        await a.create("s")
        await b.node.find("s")
        b.engine.cut = True
        await eventually(lambda: not b.node._near.connected)
        located = await b.node.find("s")
        assert (located.node.node.name, located.confirmed) == ("a", False)


@on_loop
async def test_the_owners_word_counts_while_the_engine_is_gone():
    async with open_nodes("a", "b", "c") as (_, a, b, c):
        await a.create("s")
        b.engine.cut = True
        await eventually(lambda: not b.node._near.connected)
        b.owners = {"a": a}  # c does not answer
        located = await b.node.find("s")
        assert (located.node.node.name, located.confirmed) == ("a", False)
        assert located.entry.fence == a.node.fence("s")
        with pytest.raises(EngineUnavailable, match="no node that was known last"):
            await b.node.find("nobody's")
        assert set(b.asked) == {"a", "c"}
        assert c.node.condition is NodeCondition.JOINED


@on_loop
async def test_after_the_isolation_grace_agents_under_chosen_ids_stop_and_minted_ones_live_on():
    async with open_nodes("a") as (_, a):
        chosen = await a.create("chosen")
        await a.create("minted", minted=True)
        a.engine.cut = True
        await a.move(TERMS.lease_s + TERMS.isolation_grace_s - 0.1)
        await eventually(lambda: not a.node._near.connected)
        assert a.isolated == []
        await a.move(0.2)
        await eventually(lambda: a.isolated)
        await a.move(5)
        await a.move(5)
        assert a.isolated == [("chosen", chosen.fence)]
        assert "minted" in a.store


@on_loop
async def test_a_watch_goes_on_without_a_gap_after_the_engine_was_gone():
    async with open_nodes("a", "b") as (_, a, b):
        watch = await b.node.watch().begin()
        first = await anext(watch)
        b.engine.cut = True
        await a.create("s")
        await a.create("t")
        await eventually(lambda: not b.node._near.connected)
        b.engine.cut = False
        async with asyncio.timeout(BOUND_S):
            changes = [await anext(watch), await anext(watch)]
        assert [change.revision - first.revision for change in changes] == [1, 2]
        assert await eventually(lambda: b.node._near.connected)


# -- told dead -------------------------------------------------------------------------------------


@on_loop
async def test_a_node_that_was_buried_joins_anew_and_creates_its_sessions_again():
    async with open_nodes("a", "b") as (server, a, b):
        sessions = [await a.create(f"s{number}", minted=number % 2 == 0) for number in range(150)]
        before = a.node.incarnation, a.node.fence("s0")
        await bury(server, a.node.incarnation)
        assert ids_in(server) == []
        await eventually(lambda: len(ids_in(server)) == 150)
        await eventually(lambda: a.node.condition is NodeCondition.JOINED)
        await eventually(lambda: not a.node._own.homeless)
        assert a.node.incarnation != before[0]
        assert a.node.fence("s0") > before[1]
        assert all(a.store.get(each.session_id) is each for each in sessions)
        found = await b.node.find("s0")
        assert (found.entry.entry.incarnation, found.entry.fence) == (
            a.node.incarnation,
            a.node.fence("s0"),
        )
        assert found.entry.entry.minted
        assert a.superseded == []
        assert a.node._own.totals.count == 150


@on_loop
async def test_an_answer_that_no_node_should_give_is_logged_once_and_others_still_count(caplog):
    async with open_nodes("a", "b", "c", "d") as (_, a, b, *_rest):
        await a.create("s")
        b.engine.cut = True
        await eventually(lambda: not b.node._near.connected)
        # d does not answer, which is nothing new.
        b.owners = {"a": a, "c": ValueError("half an entry")}
        for number in range(3):
            with pytest.raises(EngineUnavailable, match="no node that was known last"):
                await b.node.find(f"nobody's-{number}")
        assert (await b.node.find("s")).node.node.name == "a"
    (line,) = [each for each in caplog.records if "should not have" in each.getMessage()]
    assert line.getMessage() == "node c answered what it should not have"
    assert "half an entry" in caplog.text


@on_loop
async def test_an_id_that_somebody_took_meanwhile_is_stopped_where_it_was(caplog):
    async with open_nodes("a", "b") as (server, a, b):
        old = await a.create("s")
        await a.create("mine")
        a.engine.cut = True
        await bury(server, a.node.incarnation)
        await b.create("s")
        a.engine.cut = False
        await eventually(lambda: a.superseded)
        assert a.superseded == [("s", old.fence)]
        assert b.superseded == []
        await eventually(lambda: a.node.fence("mine"))
        assert a.node.fence("s") is None
        assert (await a.node.find("s")).node.node.name == "b"
    assert said_of_another(caplog) == [STOPPED_HERE]


@on_loop
async def test_what_ended_before_it_joined_anew_is_not_created_again():
    async with open_nodes("a") as (server, a):
        agent = FakeAgent()
        await a.create("s", agent)
        await a.create("t")
        a.engine.cut = True
        await bury(server, a.node.incarnation)
        agent.end()
        a.engine.cut = False
        await eventually(lambda: ids_in(server) == ["t"])
        await a.node.flush()
        assert a.node._own.homeless == {}


@on_loop
async def test_a_lease_that_ran_out_is_renewed_and_costs_nothing():
    async with open_nodes("a") as (server, a):
        await a.create("s")
        incarnation, fence = a.node.incarnation, a.node.fence("s")
        await move_engine(server, 2 * TERMS.lease_s)
        await eventually(lambda: a.node.condition is NodeCondition.JOINED)
        await eventually(lambda: a.node._lease.renew_soon() or _is_alive(server))
        await a.create("t")
        assert (a.node.incarnation, a.node.fence("s")) == (incarnation, fence)
        assert a.superseded == []


def _is_alive(server):
    return all(one.state is NodeState.ALIVE for one in server.call("nodes", 0))


@on_loop
async def test_a_node_that_vanished_is_buried_by_another_and_its_sessions_are_lost():
    async with open_nodes("b") as (server, b), open_nodes("a", server=server) as (_, a):
        await a.create("s")
        watch = await b.node.watch().begin()
        await anext(watch)
        a.kill()
        waiting = asyncio.create_task(anext(watch))
        for _ in range(round(2 * (TERMS.lease_s + TERMS.hold_s + TERMS.renew_s))):
            await move_engine(server, 1)
            await renewed(server, b)
        async with asyncio.timeout(BOUND_S):
            ended = await waiting
        assert (ended.session.session_id, str(ended.reason)) == ("s", "lost")
        await renewed(server, b)
        await b.create("s")
        assert [one.node.name for one in await b.engine.nodes()] == ["b"]


# -- an engine that lost something -----------------------------------------------------------------


@on_loop
async def test_an_engine_that_lost_everything_is_told_again_with_the_same_fences():
    async with open_nodes("a", "b") as (server, a, b):
        for number in range(120):
            await (a, b)[number % 2].create(f"s{number}")
        fences = {
            f"s{number}": (a, b)[number % 2].node.fence(f"s{number}") for number in range(120)
        }
        incarnations = a.node.incarnation, b.node.incarnation
        server.wipe()
        await eventually(lambda: len(ids_in(server)) == 120)
        page = server.call("list", 0, Selection())
        assert {one.entry.session_id: one.fence for one in page.entries} == fences
        assert (a.node.incarnation, b.node.incarnation) == incarnations
        assert (a.superseded, b.superseded) == ([], [])
        assert (await b.node.find("s0")).entry.fence == fences["s0"]


@pytest.mark.slow
@on_loop
async def test_who_is_not_heard_of_may_live_until_all_had_time_to_join_a_new_era():
    async with open_nodes("a", "b") as (server, a, b):
        standing_of = standing_in(a.node)
        assert standing_of("b/1") == "lives"
        assert (standing_of("a/0"), standing_of("c/1")) == ("dead", "unknown")
        a.engine.cut = b.engine.cut = True
        server.wipe()
        a.engine.cut = False
        await eventually(lambda: a.eras and len(a.node.nodes()) == 1)
        await eventually(lambda: a.node._log.era == a.node._membership.standing.era)
        assert (standing_of("b/1"), standing_of("c/1")) == ("lives", "lives")
        await a.move(TERMS.lease_s - 0.1)
        assert standing_of("b/1") == "lives"
        b.engine.cut = False
        await eventually(lambda: len(a.node.nodes()) == 2)
        await a.move(0.2)
        await eventually(lambda: a.node.knows_all_nodes)
        assert (standing_of("b/1"), standing_of("c/1")) == ("lives", "unknown")
        a.engine.cut = True
        await a.move(TERMS.lease_s + 0.1)
        assert standing_of("c/1") == "lives"
        a.engine.cut = False


@on_loop
async def test_a_watch_begins_anew_in_a_new_era():
    async with open_nodes("a") as (server, a):
        await a.create("s")
        watch = await a.node.watch().begin()
        await anext(watch)
        server.wipe()
        async with asyncio.timeout(BOUND_S):
            while True:
                # As much of the restored as it is told of comes first or after: what counts is
                # that it says so, and that nothing is missing in the end.
                item = await anext(watch)
                if getattr(item, "resync", False):
                    break
        assert item.revision > a.node.fence("s")
        assert [one.session_id for one in item.sessions] == ["s"]


@on_loop
async def test_an_entry_that_the_engine_lost_is_restored():
    async with open_nodes("a") as (server, a):
        await a.create("s")
        await a.create("lost")
        fence = a.node.fence("lost")
        contents = server.index._contents
        contents.end(contents.entries["lost"], ExitReason.of("unknown"), ended_at=0)
        await eventually(lambda: sorted(ids_in(server)) == ["lost", "s"])
        assert a.node.fence("lost") == fence
        assert server.call("read", 0, "lost").fence == fence


@on_loop
async def test_an_entry_that_the_node_does_not_have_is_ended():
    async with open_nodes("a") as (server, a):
        await a.create("s")
        late = NewEntry(
            "ghost", a.node.incarnation, new_token(), "t", None, 0, None, None, 1, minted=False
        )
        server.call("create", 0, late, limits=NO_LIMITS)
        await eventually(lambda: ids_in(server) == ["s"])


@on_loop
async def test_a_create_that_is_given_up_is_undone():
    async with open_nodes("a") as (server, a):
        a.engine.lose_replies = 1000
        with patch.object(node, "CREATE_S", 0.2), pytest.raises(EngineUnavailable):
            await a.create("s")
        assert "s" not in a.store
        assert ids_in(server) == ["s"]
        a.engine.lose_replies = 0
        await eventually(lambda: ids_in(server) == [])
        await a.create("s")


@on_loop
async def test_a_create_at_an_engine_that_says_nothing_is_refused_within_two_seconds():
    assert node.CREATE_S == 2.0
    async with open_nodes("a") as (_, a):
        a.engine.hangs = True
        with patch.object(node, "CREATE_S", 0.1):
            with pytest.raises(EngineUnavailable, match=r"within 0\.1 s"):
                await a.create("s")
            with pytest.raises(EngineUnavailable, match=r"within 0\.1 s"):
                await a.node.reserve("t", minted=False, limits=NO_LIMITS, **NOBODYS)
        assert "s" not in a.store
        a.engine.hangs = False
        await eventually(lambda: not a.node._own.unreleased)


@on_loop
async def test_what_a_node_that_is_cut_off_refuses_leaves_nothing_to_give_back():
    async with open_nodes("a") as (_, a):
        a.engine.cut = True
        await a.move(TERMS.lease_s)
        for number in range(20):
            with pytest.raises(EngineUnavailable):
                await a.node.reserve(f"s{number}", minted=False, limits=NO_LIMITS, **NOBODYS)
        assert a.node._own.unreleased == {}


@on_loop
async def test_a_session_that_the_log_says_is_superseded_is_stopped_here(caplog):
    async with open_nodes("a") as (server, a):
        session = await a.create("s")
        contents = server.index._contents
        contents.end(contents.entries["s"], ExitReason.of("superseded"), ended_at=0)
        server.changed.set()
        await eventually(lambda: a.superseded)
        assert a.superseded == [("s", session.fence)]
        assert a.node.fence("s") is None
        with pytest.raises(SessionNotFound):
            await a.node.find("s")
    assert said_of_another(caplog) == [STOPPED_HERE]


@on_loop
async def test_of_two_owners_after_a_loss_the_one_with_the_higher_fence_stays():
    async with open_nodes("a", "b") as (server, a, b):
        await a.create("s")
        contents = server.index._contents
        a.engine.cut = True
        contents.end(contents.entries["s"], ExitReason.of("unknown"), ended_at=0)
        await b.create("s")
        a.engine.cut = False
        await eventually(lambda: a.superseded)
        assert [which[0] for which in a.superseded] == ["s"]
        assert b.superseded == []
        assert server.call("read", 0, "s").fence == b.node.fence("s")


# -- standing still --------------------------------------------------------------------------------


class Hanging:
    """What a lease thread sees of a process whose loop has stopped at 100 s."""

    def __init__(self, *, answer=None):
        self.now = 100.0
        self.renewals, self.outcomes, self.ended = [], [], threading.Event()
        self.answer = answer or Renewed(1, 1, True)
        self.source = RenewalSource(
            connect=lambda: self,
            renewal=lambda age_s: Renewal("me", 0, 0, age_s),
            report=self.outcomes.append,
            moved_s=lambda: 100.0,
            now_s=lambda: self.now,
            end_process=self.ended.set,
        )

    def renew(self, renewal):
        self.renewals.append(renewal)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self):
        pass


def test_a_hanging_loop_is_told_with_the_renewal_that_goes_on():
    process = Hanging()
    thread = LeaseThread(process.source, terms=TERMS)
    process.now = 109.0
    outcome = thread.renew_once()
    assert outcome.renewed == process.answer
    assert process.renewals[-1].loop_age_s == 9.0


def test_no_answer_and_a_lost_lease_are_two_outcomes():
    gone = Hanging(answer=EngineUnavailable("down"))
    assert LeaseThread(gone.source, terms=TERMS).renew_once().renewed is None
    lost = Hanging(answer=LeaseLost("me"))
    outcome = LeaseThread(lost.source, terms=TERMS).renew_once()
    assert (outcome.renewed, outcome.lost) == (None, True)
    broken = Hanging(answer=ValueError("ours"))
    assert LeaseThread(broken.source, terms=TERMS).renew_once().renewed is None


def test_a_process_whose_loop_hangs_for_a_minute_ends_itself(capfd):
    process = Hanging()
    thread = LeaseThread(process.source, terms=TERMS)
    process.now = 100.0 + TERMS.stalled_exit_s
    thread.start()
    try:
        assert process.ended.wait(BOUND_S)
    finally:
        thread.end()
        thread.join()
    assert "_end_hung_process" in capfd.readouterr().err  # the stacks of all threads


def test_a_process_that_stood_still_as_a_whole_does_not_end_itself():
    process = Hanging()
    thread = LeaseThread(process.source, terms=TERMS)
    renewed = threading.Event()
    process.source = None

    def report(outcome):
        process.outcomes.append(outcome)
        if len(process.outcomes) == 1:
            process.now = 1000.0  # it was stopped while it waited
        if len(process.outcomes) == 3:
            renewed.set()

    object.__setattr__(thread._source, "report", report)
    thread.start()
    try:
        thread.renew_soon()
        while not renewed.wait(0.05):
            thread.renew_soon()
    finally:
        thread.end()
        thread.join()
    assert not process.ended.is_set()
    assert process.renewals[-1].loop_age_s == 0.0


@on_loop
async def test_a_node_whose_listener_does_not_answer_is_stalled_to_all():
    async with open_nodes("a", "b") as (_, a, b):
        age_s = [TERMS.lease_s]
        object.__setattr__(a.node._membership.hooks, "listener_age_s", lambda: age_s[0])
        assert a.node.condition is NodeCondition.STALLED
        with pytest.raises(EngineUnavailable, match="does not move"):
            await a.create("s")
        await eventually(lambda: _state_at(b, a) is NodeState.STALLED)
        age_s[0] = 0.0
        await eventually(lambda: _state_at(b, a) is NodeState.ALIVE)
        await a.create("s")


def _state_at(b, a):
    a.node._lease.renew_soon()
    b.node._lease.renew_soon()
    return b.node.node(a.node.incarnation).state


@on_loop
async def test_a_node_leaves_although_a_task_of_its_engine_loses_a_cancellation():
    async with open_nodes("a") as (_, a):
        follow, deaf = a.engine.follow, asyncio.Event()

        async def following(*args, **kwargs):
            try:
                return await follow(*args, **kwargs)
            except asyncio.CancelledError:
                if deaf.is_set():
                    raise
                deaf.set()
                return await follow(*args, **kwargs)

        a.engine.follow = following
        a.node._log._engine = a.engine
        await a.create("s")  # from here on it is the deaf one that follows
        await a.node.read_all()
    assert deaf.is_set()
