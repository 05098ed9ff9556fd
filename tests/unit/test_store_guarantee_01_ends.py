"""Guarantee 1: an agent's end removes every entry it is registered under: once each, with the
reason, in one batch. Kills of real processes are in tests/chaos.
"""

import asyncio
import concurrent.futures
import logging
import threading

import pytest

from frontdesk import ExitReason, SessionNotFound
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, end_of, in_threads, next_changes, parked_thread, told
from support.leftovers import nothing_left

MANY = 10_000


def test_the_end_of_one_agent_under_ten_thousand_ids_removes_them_all(store):
    agent = concurrent.futures.Future()
    for number in range(MANY):
        store.create(f"s{number}", agent, tenant_id=f"t{number % 10}")
    agent.set_exception(LookupError("gone"))
    assert store.count() == len(store.list()) == 0
    assert nothing_left(store)
    reasons = {store.ended(f"s{number}").reason for number in range(MANY)}
    assert reasons == {ExitReason.crashed(LookupError("gone"))}


def test_an_agent_has_one_callback_whatever_the_number_of_its_sessions(store):
    agent = FakeAgent()
    for number in range(100):
        store.create(f"s{number}", agent)
    assert agent.watched_by == 1
    for number in range(99):
        store.delete(f"s{number}")
    assert agent.watched_by == 1
    store.delete("s99")
    assert agent.watched_by == 0


def test_an_asyncio_agent_has_one_callback_whatever_becomes_of_its_sessions(store):
    async def main():
        agent = asyncio.get_running_loop().create_future()
        for _ in range(50):
            store.create("a", agent)
            store.create("b", agent)
            store.delete("a")
            store.delete("b")
        assert len(agent._callbacks) == 1

    asyncio.run(main())


def test_all_sessions_of_an_agent_end_in_one_batch_whoever_else_writes(store, eager_switches):
    agents = [concurrent.futures.Future() for _ in range(40)]
    for number in range(400):
        store.create(f"s{number}", agents[number % 40])
    with store.watch() as watch:
        watch.next(timeout_s=0)
        in_threads(lambda: end_all(agents), lambda: churn(store), lambda: churn(store, "other"))
        store.close()
        ends = [item for item in watch if item.kind == "ended" and item.session.session_id in OWN]
    assert len(ends) == 400
    for number in range(40):
        batch = ends[number * 10 : number * 10 + 10]
        revisions = [end.revision for end in batch]
        assert revisions == list(range(revisions[0], revisions[0] + 10))
        fences = [end.session.fence for end in batch]
        assert fences == sorted(fences)


OWN = {f"s{number}" for number in range(400)}


def end_all(agents):
    for agent in agents:
        agent.set_result(None)


def churn(store, name="churn"):
    for _ in range(200):
        store.create(name, FakeAgent())
        store.delete(name)


@pytest.mark.parametrize("number_of_readers", [3])
def test_ten_thousand_agents_end_at_once_while_lookups_go_on(store, number_of_readers):
    over, looked = threading.Event(), threading.Semaphore(0)
    tasks, wrong = [], []

    def look_up():
        while not over.is_set():
            for number in (3, 5_003, 9_993):
                finished = tasks[number].done()  # asked first: what has ended then is not found
                try:
                    found = store.get(f"s{number}").agent
                except SessionNotFound:
                    found = None
                if found not in ((None,) if finished else (None, tasks[number])):
                    wrong.append(("get", number))
                listed = store.list_by_tenant("t3") if number == 3 else ()
                if finished and tasks[number] in {session.agent for session in listed}:
                    wrong.append(("list", number))
            if not 0 <= store.count() <= MANY:
                wrong.append(("count", store.count()))
            looked.release()

    async def live_and_end():
        start = asyncio.Event()
        tasks.extend(asyncio.create_task(wait_for(start)) for _ in range(MANY))
        for number, task in enumerate(tasks):
            store.create(f"s{number}", task, tenant_id=f"t{number % 10}")
        for reader in readers:
            reader.start()
        for _ in range(2 * number_of_readers):
            assert await asyncio.to_thread(looked.acquire, timeout=BOUND_S)
        start.set()
        await asyncio.gather(*tasks)
        assert store.list() == []
        await asyncio.sleep(0)

    readers = [threading.Thread(target=look_up) for _ in range(number_of_readers)]
    try:
        asyncio.run(live_and_end())
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    tasks.clear()
    assert nothing_left(store)


async def wait_for(event):
    await event.wait()


INT_OF_FOUR = "invalid literal for int() with base 10: 'four'"


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (lambda: None, ExitReason.of("normal")),
        (lambda: asyncio.current_task().cancel(), ExitReason.of("cancelled")),
        (lambda: int("four"), ExitReason.crashed(ValueError(INT_OF_FOUR))),
    ],
    ids=["returned", "cancelled", "crashed"],
)
def test_a_task_ends_with_its_reason(store, finish, expected, caplog):
    caplog.set_level(logging.CRITICAL)

    async def live():
        finish()
        await asyncio.sleep(0)
        if expected.kind == "normal":
            return
        await asyncio.sleep(10)

    async def main():
        store.create("s", asyncio.create_task(live()))
        async with store.watch() as watch:
            await anext(watch)
            change = await asyncio.wait_for(anext(watch), 30)
        assert (change.kind, change.reason) == ("ended", expected)

    asyncio.run(main())
    assert store.ended("s").reason == expected


def test_the_end_of_a_thread_is_told_as_unknown(store):
    with parked_thread() as thread, store.watch() as watch:
        store.create("s", thread)
        watch.next(timeout_s=0)
        thread.release()
        assert end_of(watch, "s").reason == ExitReason.of("unknown")
    assert nothing_left(store)


def test_a_thread_under_many_ids_takes_them_all_along(store):
    with store.watch() as watch, parked_thread() as thread:
        watch.next(timeout_s=0)
        for number in range(100):
            store.create(f"s{number}", thread)
        next_changes(watch, 100)
        thread.release()
        ends = next_changes(watch, 100)
    assert [end.session.session_id for end in ends] == [f"s{number}" for number in range(100)]


def test_an_end_is_told_once_even_if_it_is_found_and_told(store):
    async def main():
        agent = asyncio.get_running_loop().create_future()
        store.create("s", agent)
        with store.watch() as watch:
            agent.set_result(None)
            store.delete("s")
            store.ended("s")
            for _ in range(5):
                await asyncio.sleep(0)
            assert told(watch) == [("ended", "s", "normal")]

    asyncio.run(main())


def test_a_crash_is_logged_once_with_its_traceback(store, caplog):
    async def main():
        task = asyncio.create_task(crash())
        store.create("s", task)
        store.create("t", task)
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(main())
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "crashed" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("find", ["delete", "ended", "create", "create elsewhere", "close"])
def test_a_crash_that_was_found_is_logged_as_well(store, caplog, find):
    agent = asyncio.new_event_loop()
    future = agent.create_future()
    store.create("s", future)
    future.set_exception(ZeroDivisionError("why"))
    {
        "delete": lambda: store.delete("s"),
        "ended": lambda: store.ended("s"),
        "create": lambda: store.create("s", FakeAgent()),
        "create elsewhere": lambda: store.create("t", future),
        "close": store.close,
    }[find]()
    agent.run_until_complete(asyncio.sleep(0))
    agent.close()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info[0] is ZeroDivisionError


async def crash():
    await asyncio.sleep(0)
    raise ZeroDivisionError("why")


def test_the_change_and_the_memory_of_ends_agree(store):
    agent = FakeAgent()
    store.create("s", agent)
    with store.watch() as watch:
        agent.end(ExitReason.exited(3))
        change = end_of_first(watch)
    ended = store.ended("s")
    assert (ended.revision, ended.reason, ended.session) == (
        change.revision,
        change.reason,
        change.session,
    )


def end_of_first(watch):
    watch.next(timeout_s=0)
    return watch.next(timeout_s=30)


def test_the_memory_of_ends_is_bounded_and_keeps_the_latest(make_store):
    store = make_store(ends_capacity=100)
    for number in range(1000):
        store.create(f"s{number}", FakeAgent())
        store.delete(f"s{number}")
    for number in range(900, 1000):
        assert store.ended(f"s{number}").reason == ExitReason.of("deleted")
    known = sum(is_known(store, f"s{number}") for number in range(1000))
    assert 100 <= known <= 200


def is_known(store, session_id):
    try:
        store.ended(session_id)
    except SessionNotFound:
        return False
    return True


def test_the_text_of_an_error_is_kept_to_five_hundred_characters(store):
    agent = concurrent.futures.Future()
    store.create("s", agent)
    agent.set_exception(ValueError("x" * 10_000))
    assert len(store.ended("s").reason.text) == 500
