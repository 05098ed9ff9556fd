"""Guarantee 7: a watch misses nothing, repeats nothing and reorders nothing: a snapshot at revision
r, then r+1, r+2, ... filtered. A slow watcher has bounded memory; when it falls behind it receives
a fresh snapshot marked as such, and neither writers nor other watchers wait for it.
"""

import asyncio
import random
import threading

import pytest

from frontdesk import Change, Snapshot, StoreClosed
from frontdesk.feed import Ring
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, in_threads, next_change, next_changes, told
from support.leftovers import collected, leftovers


def churn(store, name, *, cycles=300, tenant_id="default"):
    choice = random.Random(name)
    for number in range(cycles):
        agent = FakeAgent()
        session_id = f"{name}{number % 7}"
        store.create(session_id, agent, tenant_id=tenant_id, api_key=choice.choice([None, "k"]))
        if choice.random() < 0.3:
            store.update(session_id, model=str(number))
        agent.end() if choice.random() < 0.5 else store.delete(session_id)


class Replica:
    """Follow a watch and keep what it says: in the end it equals the store."""

    def __init__(self, watch):
        self.watch = watch
        self.sessions, self.revision, self.resyncs = {}, None, 0

    def take(self, item):
        if isinstance(item, Snapshot):
            assert item.resync == (self.revision is not None)
            self.resyncs += item.resync
            assert self.revision is None or item.revision > self.revision
            self.sessions = {one.session_id: one for one in item.sessions}
        else:
            assert self.resyncs or item.revision > self.revision
            self._apply(item)
        self.revision = item.revision

    def _apply(self, change):
        session = change.session
        present = self.sessions.get(session.session_id)
        if change.kind == "created":
            assert present is None
            assert session.fence == change.revision
            self.sessions[session.session_id] = session
        elif change.kind == "updated":
            assert present.fence == session.fence
            self.sessions[session.session_id] = session
        else:
            assert present == session
            del self.sessions[session.session_id]

    def follow(self):
        for item in self.watch:
            self.take(item)
        return self

    async def follow_async(self):
        async for item in self.watch:
            self.take(item)
        return self


@pytest.mark.parametrize("capacity", [4096 * 16, 16], ids=["roomy", "tight"])
def test_every_watch_in_every_thread_can_replay_the_store(make_store, eager_switches, capacity):
    store = make_store(feed_capacity=capacity)
    for number in range(5):
        store.create(f"before{number}", FakeAgent())
    replicas = [Replica(store.watch()) for _ in range(3)]
    followers = [threading.Thread(target=one.follow, daemon=True) for one in replicas]
    for follower in followers:
        follower.start()
    in_threads(*(lambda name=name: churn(store, name) for name in ("a", "b", "c")))
    last = {one.session_id: one.metadata for one in store.list()}
    revision = store.revision
    check = [Replica(store.watch())]
    store.close()
    for follower in followers:
        follower.join(BOUND_S)
        assert not follower.is_alive()
    check[0].follow()
    assert set(last) == {f"before{number}" for number in range(5)}
    for replica in replicas:
        assert replica.sessions == {}
        assert replica.revision == revision + len(last)
    if capacity > 16:
        assert [one.resyncs for one in replicas] == [0, 0, 0]


def test_revisions_have_no_hole_while_many_write(make_store, eager_switches):
    store = make_store(feed_capacity=100_000)
    with store.watch() as watch:
        snapshot = watch.next(timeout_s=0)
        in_threads(*(lambda name=name: churn(store, name) for name in ("a", "b", "c")))
        store.close()
        revisions = [item.revision for item in watch]
    assert revisions == list(range(snapshot.revision + 1, snapshot.revision + 1 + len(revisions)))
    assert revisions[-1] == store.revision


def test_watches_of_several_loops_and_threads_hear_the_same(make_store):
    store = make_store()
    ready = threading.Barrier(5)
    heard = []

    def in_a_loop():
        async def listen():
            async with store.watch() as watch:
                await anext(watch)
                await asyncio.to_thread(ready.wait, BOUND_S)
                heard.append([item.revision async for item in watch])

        asyncio.run(listen())

    def in_a_thread():
        with store.watch() as watch:
            next(watch)
            ready.wait(BOUND_S)
            heard.append([item.revision for item in watch])

    def write():
        ready.wait(BOUND_S)
        churn(store, "a", cycles=50)
        store.close()

    in_threads(in_a_loop, in_a_loop, in_a_thread, in_a_thread, write)
    assert len(heard) == 4
    assert all(one == heard[0] for one in heard)
    assert heard[0] == list(range(1, store.revision + 1))


def test_a_watch_that_falls_behind_goes_on_with_a_marked_snapshot(make_store):
    store = make_store(feed_capacity=8)
    store.create("kept", FakeAgent())
    with store.watch() as watch:
        watch.next(timeout_s=0)
        churn(store, "a", cycles=20)
        store.create("last", FakeAgent())
        snapshot = watch.next(timeout_s=0)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.resync
        assert [one.session_id for one in snapshot.sessions] == ["kept", "last"]
        assert snapshot.revision == store.revision
        assert told(watch) == []
        store.delete("last")
        change = next_change(watch)
        assert (change.kind, change.revision) == ("ended", snapshot.revision + 1)


def test_a_watch_that_is_as_slow_as_the_feed_allows_misses_nothing(make_store):
    store = make_store(feed_capacity=8)
    with store.watch() as watch:
        watch.next(timeout_s=0)
        for _ in range(20):
            for number in range(4):
                store.create(f"s{number}", FakeAgent())
                store.delete(f"s{number}")
            assert [change.kind for change in next_changes(watch, 8)] == ["created", "ended"] * 4


def test_a_slow_watch_holds_no_more_than_the_feed_does(make_store):
    store = make_store(feed_capacity=8)
    slow, other = store.watch(), store.watch()
    churn(store, "a", cycles=1000)
    assert len(store._core.changes.feed._slots) <= 8
    assert len(slow._ready) <= 1
    assert isinstance(other.next(timeout_s=0), Snapshot)
    slow.close()
    other.close()


def test_a_watch_that_nobody_reads_keeps_no_writer_and_no_watcher_waiting(make_store):
    store = make_store(feed_capacity=4)
    with store.watch(), store.watch() as reader:
        reader.next(timeout_s=0)
        for number in range(100):
            store.create(f"s{number}", FakeAgent())
            assert next_change(reader).session.session_id == f"s{number}"


def test_a_filtered_watch_sees_its_own_and_nobody_elses(make_store):
    store = make_store(feed_capacity=100_000)
    scopes = [{"tenant_id": "red"}, {"api_key": "k"}, {"tenant_id": "red", "api_key": "k"}]
    watches = [store.watch(**scope) for scope in scopes]
    everything = store.watch()
    for watch in (everything, *watches):
        watch.next(timeout_s=0)
    churn(store, "a", tenant_id="red")
    churn(store, "b", tenant_id="blue")
    store.close()
    log = list(everything)
    for scope, watch in zip(scopes, watches, strict=True):
        expected = [
            change
            for change in log
            if all(getattr(change.session, name) == value for name, value in scope.items())
        ]
        assert list(watch) == expected
        assert expected


def test_a_change_is_delivered_to_a_waiting_loop_and_a_waiting_thread(store):
    heard = []
    waiting = threading.Barrier(3)

    def in_a_thread():
        with store.watch() as watch:
            next(watch)
            waiting.wait(BOUND_S)
            heard.append(next_change(watch))

    def in_a_loop():
        async def listen():
            async with store.watch() as watch:
                await anext(watch)
                await asyncio.to_thread(waiting.wait, BOUND_S)
                heard.append(await asyncio.wait_for(anext(watch), BOUND_S))

        asyncio.run(listen())

    def write():
        waiting.wait(BOUND_S)
        store.create("s", FakeAgent())

    in_threads(in_a_thread, in_a_loop, write)
    assert [change.session.session_id for change in heard] == ["s", "s"]


@pytest.mark.parametrize("how", ["refused by a limit", "unknown kind", "same agent"])
def test_who_waits_is_told_of_an_end_that_another_operation_came_upon(make_store, how):
    from frontdesk import FrontdeskError, Limits

    store = make_store(limits=Limits(per_tenant=1))
    store.create("full", FakeAgent(), tenant_id="full")
    loop = asyncio.new_event_loop()
    agent = loop.create_future()
    store.create("s", agent, tenant_id="mine")

    async def main():
        async with store.watch() as watch:
            await anext(watch)
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            agent.set_result(None)
            try:
                if how == "refused by a limit":
                    store.create("s", FakeAgent(), tenant_id="full")
                elif how == "unknown kind":
                    store.create("s", object(), tenant_id="mine")
                else:
                    store.create("t", agent, tenant_id="mine")
            except FrontdeskError:
                assert how != "same agent"
            change = await asyncio.wait_for(waiting, BOUND_S)
        assert (change.kind, change.session.session_id) == ("ended", "s")

    asyncio.run(main())
    loop.close()


def test_a_reader_that_waits_again_at_once_is_not_woken_in_the_place_of_another(store):
    """Two wait; the one that is woken waits again before the other was woken."""
    woken, wakers = [], store._core.changes.wakers

    def wait_again():
        woken.append("quick")
        wakers.add(object(), wait_again)

    wakers.add(object(), lambda: woken.append("patient"))
    again = object()
    wakers.add(again, wait_again)
    wakers.wake_all()
    assert sorted(woken) == ["patient", "quick"]
    wakers.wake_all()  # the one that waits again, and then waits again
    assert len(wakers) == 1


def test_waiting_for_a_change_has_a_bound(store):
    with store.watch() as watch:
        watch.next(timeout_s=0)
        with pytest.raises(TimeoutError):
            watch.next(timeout_s=0)
        with pytest.raises(TimeoutError):
            watch.next(timeout_s=0.01)
        store.create("s", FakeAgent())
        assert watch.next(timeout_s=0).kind == "created"


def test_a_watch_given_up_in_the_middle_of_waiting_loses_nothing(store):
    async def main():
        async with store.watch() as watch:
            await anext(watch)
            for number in range(10):
                waiting = asyncio.ensure_future(anext(watch))
                await asyncio.sleep(0)
                store.create(f"s{number}", FakeAgent())
                # Woken already, and cancelled before it could take what it was woken for.
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert leftovers(store)["waiting"] == 0
                assert (await anext(watch)).session.session_id == f"s{number}"

    asyncio.run(main())


def test_closing_a_watch_ends_who_waits_for_it_in_a_thread(store):
    watch = store.watch()
    watch.next(timeout_s=0)
    ended = threading.Event()

    def wait():
        assert list(watch) == []
        ended.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    watch.close()
    assert ended.wait(BOUND_S)
    waiting.join()


def test_closing_a_watch_ends_who_waits_for_it_in_a_loop(store):
    async def main():
        watch = store.watch()
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        watch.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waiting, BOUND_S)

    asyncio.run(main())


def test_a_closed_watch_delivers_nothing_more(store):
    watch = store.watch()
    watch.next(timeout_s=0)
    for number in range(5):
        store.create(f"s{number}", FakeAgent())
    assert watch.next(timeout_s=0).session.session_id == "s0"
    watch.close()
    watch.close()
    assert list(watch) == []
    assert leftovers(store)["watches"] == 0


def test_a_forgotten_watch_leaves_nothing_in_the_store(store):
    watch = store.watch()
    watch.next(timeout_s=0)
    del watch
    collected()
    assert leftovers(store)["watches"] == 0
    for number in range(100):
        store.create(f"s{number}", FakeAgent())
    assert len(store._core.changes.feed._slots) == 0


def test_a_watch_whose_loop_was_closed_while_it_waited_harms_nobody(store):
    watch = store.watch()

    async def wait_a_little():
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        return waiting

    loop = asyncio.new_event_loop()
    waiting = loop.run_until_complete(wait_a_little())
    loop.close()
    with store.watch() as other:
        other.next(timeout_s=0)
        store.create("s", FakeAgent())
        assert next_change(other).kind == "created"
    waiting._log_destroy_pending = False
    watch.close()


def test_a_watch_can_move_from_a_loop_to_a_thread_and_to_another_loop(store):
    watch = store.watch()
    heard = []

    async def listen():
        heard.append(await anext(watch))

    asyncio.run(listen())
    store.create("a", FakeAgent())
    heard.append(watch.next(timeout_s=BOUND_S))
    store.create("b", FakeAgent())
    asyncio.run(listen())
    assert isinstance(heard[0], Snapshot)
    assert [change.session.session_id for change in heard[1:]] == ["a", "b"]
    watch.close()


def test_closing_the_store_ends_every_session_as_shutdown_and_then_the_watches(make_store):
    store = make_store()
    for name in ("a", "b"):
        store.create(name, FakeAgent())
    watches = [store.watch(), store.watch(tenant_id="default"), store.watch(tenant_id="nobody")]
    store.close()
    for watch, number in zip(watches, (2, 2, 0), strict=True):
        snapshot, *ends = list(watch)
        assert len(snapshot.sessions) == number
        assert [str(end.reason) for end in ends] == ["shutdown"] * number
        with pytest.raises(StopIteration):
            watch.next(timeout_s=0)


def test_a_watch_that_is_behind_when_the_store_is_closed_ends_with_an_empty_snapshot(make_store):
    store = make_store(feed_capacity=4)
    watch = store.watch()
    watch.next(timeout_s=0)
    for number in range(10):
        store.create(f"s{number}", FakeAgent())
    store.close()
    items = list(watch)
    assert items == [Snapshot(store.revision, (), resync=True)]


def test_without_watches_nothing_is_recorded_and_a_later_watch_starts_afresh(store):
    churn(store, "a", cycles=10)
    assert len(store._core.changes.feed._slots) == 0
    with store.watch() as watch:
        assert watch.next(timeout_s=0) == Snapshot(store.revision, ())
        store.create("s", FakeAgent())
        change = next_change(watch)
        assert isinstance(change, Change)
        assert change.revision == store.revision


def test_watches_that_come_and_go_while_others_write_see_no_hole(store, eager_switches):
    over = threading.Event()

    def watch_a_little():
        while not over.is_set():
            with store.watch() as watch:
                revision = watch.next(timeout_s=0).revision
                for item in heard_now(watch):
                    if isinstance(item, Change):
                        assert item.revision == revision + 1
                    revision = item.revision

    def write(name):
        try:
            churn(store, name, cycles=400)
        finally:
            over.set()

    in_threads(watch_a_little, watch_a_little, lambda: write("a"), lambda: write("b"))
    assert leftovers(store)["watches"] == 0


def heard_now(watch):
    while True:
        try:
            yield watch.next(timeout_s=0)
        except TimeoutError:
            return


def test_a_watch_of_a_closed_store_is_refused(make_store):
    store = make_store()
    store.close()
    with pytest.raises(StoreClosed):
        store.watch()


def test_who_hears_of_a_created_session_finds_it_and_of_an_ended_one_does_not(store):
    """A reader that is busy anyway may see a change before the write that made it is over."""
    heard = []

    class Overheard(Ring):
        def append(self, change):
            number = super().append(change)
            name = change.session.session_id
            found = [one.session_id for one in store.list_by_tenant("t")]
            heard.append((change.kind, name in store, name in found))
            return number

    store._core.changes.feed = Overheard(capacity=100)
    with store.watch():
        store.create("s", FakeAgent(), tenant_id="t")
        store.update("s", model="m")
        store.delete("s")
    assert heard == [("created", True, True), ("updated", True, True), ("ended", False, False)]
