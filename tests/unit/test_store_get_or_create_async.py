"""`get_or_create_async`: one awaited factory, however many callers race, on asyncio and on trio.

The factory runs for all who wait: one who is cancelled takes nothing away from the others, and the
last one's cancellation ends it.
"""

import asyncio
import contextvars
import sys
import threading

import anyio
import pytest

from frontdesk import (
    AgentFactoryFailed,
    InvalidArgument,
    InvalidType,
    Limits,
    RecursiveCreate,
    SessionBusy,
    SessionLimitExceeded,
    SessionNotFound,
    SessionStore,
    StoreClosed,
)
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S
from support.leftovers import leftovers, nothing_left

LIBRARIES = ("asyncio", "trio")
on_each_library = pytest.mark.parametrize("library", LIBRARIES)


class Gate:
    """An async factory that stands still until it is let through."""

    def __init__(self, make=FakeAgent, *, cleanup=None):
        self._make, self._cleanup = make, cleanup
        self.entered, self.open = anyio.Event(), anyio.Event()
        self.calls = self.cancelled = 0

    async def __call__(self):
        self.calls += 1
        self.entered.set()
        try:
            await self.open.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            if self._cleanup is not None:
                with anyio.CancelScope(shield=True):
                    await self._cleanup.wait()
            raise
        return self._make()


def failing():
    raise ConnectionError("no such model")


async def async_failing():
    raise ConnectionError("no such model")


async def make_agent():
    return FakeAgent()


def run(library, function, *arguments):
    async def bounded():
        with anyio.fail_after(BOUND_S):
            return await function(*arguments)

    return anyio.run(bounded, backend=library)


class Caller:
    """A call in a task group; `answer` is the session, the error, or None where cancelled."""

    def __init__(self, group, store, factory, **given):
        self.answer = None
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self._call = lambda: store.get_or_create_async("s", factory, **given)
        group.start_soon(self._run)

    async def _run(self):
        try:
            with self.scope:
                self.answer = await self._call()
        except Exception as error:
            self.answer = error
        finally:
            self.done.set()

    async def answered(self):
        await self.done.wait()
        return self.answer


async def until(true):
    """Wait until something holds that other tasks bring about."""
    while not true():
        await anyio.lowlevel.checkpoint()


def first_and_others(callers, kind):
    """Return the error of who asked first, and what the others were told; trio starts any first."""
    (first,) = (caller.answer for caller in callers if isinstance(caller.answer, kind))
    others = [caller.answer for caller in callers if caller.answer is not first]
    assert {type(each) for each in others} == {AgentFactoryFailed}
    return first, others


def waiting(store):
    """Return how many callers wait for the construction under way."""
    (build,) = store._pending._under_way.values()
    return build._waiting


@on_each_library
def test_a_hundred_callers_get_one_session_and_the_factory_runs_once(store, library):
    async def main():
        made = []

        async def factory():
            await anyio.lowlevel.checkpoint()
            made.append(FakeAgent())
            return made[-1]

        async with anyio.create_task_group() as group:
            callers = [Caller(group, store, factory, tenant_id="t", model="m") for _ in range(100)]
        assert len(made) == 1
        assert {caller.answer.fence for caller in callers} == {1}
        assert store.get("s").metadata.tenant_id == "t"
        assert made[0].watched_by == 1
        made[0].end()

    run(library, main)
    assert nothing_left(store)


@on_each_library
def test_a_live_session_is_returned_and_no_factory_runs(store, library):
    holder = store.create("s", FakeAgent(), tenant_id="t")
    asked = run(library, lambda: store.get_or_create_async("s", async_failing, tenant_id="other"))
    assert asked is holder


@on_each_library
@pytest.mark.parametrize("cancelled", [0, 2])
def test_a_caller_that_is_cancelled_takes_nothing_away_from_the_others(store, library, cancelled):
    async def main():
        gate = Gate()
        async with anyio.create_task_group() as group:
            callers = [Caller(group, store, gate) for _ in range(4)]
            await until(lambda: gate.calls and waiting(store) == 4)
            one = callers.pop(cancelled)
            one.scope.cancel()
            assert await one.answered() is None
            gate.open.set()
        assert {caller.answer for caller in callers} == {store.get("s")}
        assert (gate.calls, gate.cancelled) == (1, 0)

    run(library, main)
    assert leftovers(store)["builds"] == 0


@on_each_library
def test_the_last_cancellation_ends_the_factory_and_nothing_is_registered(store, library):
    async def main():
        gate = Gate()
        async with anyio.create_task_group() as group:
            callers = [Caller(group, store, gate) for _ in range(4)]
            await until(lambda: gate.calls and waiting(store) == 4)
            for caller in callers:
                assert gate.cancelled == 0
                caller.scope.cancel()
                await caller.answered()
            assert gate.cancelled == 1
        assert len(store) == 0
        assert (await store.get_or_create_async("s", make_agent)).agent.alive
        store.get("s").agent.end()

    run(library, main)
    assert nothing_left(store)


@on_each_library
def test_who_is_cancelled_before_the_factory_has_begun_begins_nothing(store, library):
    async def main():
        gate = Gate()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.get_or_create_async("s", gate)
        assert scope.cancelled_caught
        await anyio.lowlevel.checkpoint()
        assert len(store) == 0

    run(library, main)
    assert leftovers(store)["builds"] == 0


@on_each_library
def test_who_asks_while_a_withdrawn_factory_ends_waits_and_begins_anew(store, library):
    async def main():
        cleanup = anyio.Event()
        gate = Gate(cleanup=cleanup)
        async with anyio.create_task_group() as group:
            first = Caller(group, store, gate)
            await gate.entered.wait()
            first.scope.cancel()
            await until(lambda: gate.cancelled)
            second = Caller(group, store, make_agent)
            await anyio.lowlevel.checkpoint()
            assert second.answer is None
            cleanup.set()
        assert second.answer is store.get("s")

    run(library, main)


def test_the_last_caller_waits_until_the_factory_that_it_began_has_ended(store):
    async def main():
        cleanup = anyio.Event()
        gate = Gate(cleanup=cleanup)
        asking = asyncio.create_task(store.get_or_create_async("s", gate))
        await gate.entered.wait()
        asking.cancel()
        await until(lambda: gate.cancelled)
        await anyio.lowlevel.checkpoint()
        assert not asking.done()
        cleanup.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert leftovers(store)["builds"] == 0

    run("asyncio", main)


@on_each_library
def test_a_failure_is_told_to_all_and_the_next_may_try(store, library):
    async def main():
        gate = Gate(failing)
        async with anyio.create_task_group() as group:
            callers = [Caller(group, store, gate) for _ in range(4)]
            await until(lambda: gate.calls and waiting(store) == 4)
            gate.open.set()
        error, others = first_and_others(callers, ConnectionError)
        assert {(each.session_id, each.error) for each in others} == {("s", error)}
        assert leftovers(store)["builds"] == 0
        assert (await store.get_or_create_async("s", make_agent)).session_id == "s"

    run(library, main)


@on_each_library
def test_a_refused_agent_is_the_callers_and_limits_hold(library):
    made = []

    async def main(store):
        store.create("other", FakeAgent())
        gate = Gate(lambda: made.append(FakeAgent()) or made[-1])
        async with anyio.create_task_group() as group:
            callers = [Caller(group, store, gate) for _ in range(3)]
            await until(lambda: gate.calls and waiting(store) == 3)
            gate.open.set()
        first, others = first_and_others(callers, SessionLimitExceeded)
        assert first.agent is made[0]
        assert {each.error for each in others} == {first}
        assert (len(made), len(store), made[0].watched_by) == (1, 1, 0)

    with SessionStore(limits=Limits(total=1)) as store:
        run(library, main, store)


@on_each_library
def test_a_store_that_is_closed_meanwhile_refuses_the_agent(store, library):
    async def main():
        gate = Gate()
        async with anyio.create_task_group() as group:
            caller = Caller(group, store, gate)
            await gate.entered.wait()
            store.close()
            gate.open.set()
        assert isinstance(caller.answer, StoreClosed)
        assert caller.answer.agent.alive

    run(library, main)


@on_each_library
def test_the_factory_that_asks_for_its_own_session_is_refused(store, library):
    async def main():
        async def factory():
            return (await store.get_or_create_async("s", factory)).agent

        async def plain_within():
            return store.get_or_create("s", FakeAgent).agent

        for each in (factory, plain_within):
            with pytest.raises(RecursiveCreate):
                await store.get_or_create_async("s", each)
        assert (await store.get_or_create_async("s", make_agent)).session_id == "s"

    run(library, main)


@on_each_library
def test_a_plain_call_on_the_loop_is_told_that_it_would_have_to_wait(store, library):
    async def main():
        gate = Gate()
        async with anyio.create_task_group() as group:
            caller = Caller(group, store, gate)
            await gate.entered.wait()
            with pytest.raises(SessionBusy) as refused:
                store.get_or_create("s", FakeAgent)
            assert refused.value.waited_s == 0
            gate.open.set()
        assert caller.answer is store.get("s")

    run(library, main)


@on_each_library
def test_who_waits_for_anothers_factory_waits_so_long_and_no_longer(store, library):
    async def main():
        gate = Gate()
        async with anyio.create_task_group() as group:
            caller = Caller(group, store, gate, timeout_s=0)
            await gate.entered.wait()
            with pytest.raises(SessionBusy) as refused:
                await store.get_or_create_async("s", make_agent, timeout_s=0.01)
            assert refused.value.waited_s == 0.01
            gate.open.set()
        # The first has no such bound: it waits for its own factory.
        assert caller.answer is store.get("s")

    run(library, main)


@on_each_library
@pytest.mark.parametrize("other", [*LIBRARIES, "thread"])
def test_one_factory_runs_for_several_loops_and_threads(store, library, other):
    async def main():
        gate = Gate()
        async with anyio.create_task_group() as group:
            first = Caller(group, store, gate)
            await gate.entered.wait()
            elsewhere = threading.Thread(target=ask)
            elsewhere.start()
            await until(lambda: waiting(store) == 2)
            gate.open.set()
        await anyio.to_thread.run_sync(elsewhere.join)
        assert answers == [first.answer]
        assert gate.calls == 1

    answers = []

    def ask():
        if other == "thread":
            answers.append(store.get_or_create("s", failing, timeout_s=BOUND_S))
        else:
            ask = lambda: store.get_or_create_async("s", async_failing, timeout_s=BOUND_S)  # noqa: E731
            answers.append(run(other, ask))

    run(library, main)


@on_each_library
def test_a_plain_factory_in_a_thread_is_waited_for(store, library):
    entered, go_on = threading.Event(), threading.Event()
    sessions = []

    def slow():
        entered.set()
        assert go_on.wait(BOUND_S)
        return FakeAgent()

    async def main():
        assert entered.wait(BOUND_S)
        async with anyio.create_task_group() as group:
            caller = Caller(group, store, async_failing)
            (build,) = store._pending._under_way.values()
            await until(lambda: len(build.wakers))
            go_on.set()
        assert caller.answer is store.get("s")

    maker = threading.Thread(target=lambda: sessions.append(store.get_or_create("s", slow)))
    maker.start()
    run(library, main)
    maker.join(BOUND_S)
    assert sessions == [store.get("s")]


@pytest.mark.parametrize("other", LIBRARIES)
def test_who_waits_on_another_loop_tries_itself_when_the_first_loop_ends(store, other):
    entered, answers = threading.Event(), []

    async def never_ready():
        entered.set()
        await asyncio.sleep(BOUND_S)

    async def leave():
        asking = asyncio.ensure_future(store.get_or_create_async("s", never_ready))
        while not (entered.is_set() and waiting(store) == 2):
            await asyncio.sleep(0)
        del asking  # asyncio.run cancels it, and the factory's task, in whatever order

    def elsewhere():
        assert entered.wait(BOUND_S)
        answers.append(run(other, lambda: store.get_or_create_async("s", make_agent)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    asyncio.run(leave())
    thread.join(BOUND_S)
    assert answers == [store.get("s")]


def test_a_construction_whose_loop_was_closed_under_it_keeps_no_id(store):
    loop = asyncio.new_event_loop()
    never_ready = lambda: asyncio.sleep(BOUND_S)  # noqa: E731
    asking = loop.create_task(store.get_or_create_async("s", never_ready))
    loop.run_until_complete(asyncio.sleep(0))
    held = [asking, *asyncio.all_tasks(loop)]
    loop.close()
    assert run("asyncio", lambda: store.get_or_create_async("s", make_agent)).session_id == "s"
    for task in held:
        task._log_destroy_pending = False
        task.get_coro().close()


@on_each_library
def test_the_factory_has_the_first_callers_context(store, library):
    request = contextvars.ContextVar("request")

    async def main():
        async def factory():
            return FakeAgent(request.get())

        request.set("the first")
        assert (await store.get_or_create_async("s", factory)).agent.name == "the first"

    run(library, main)


def test_a_factory_that_fails_with_a_cancellation_of_its_own_has_failed(store):
    async def factory():
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await store.get_or_create_async("s", factory)
        assert asyncio.current_task().cancelling() == 0
        assert (await store.get_or_create_async("s", make_agent)).session_id == "s"

    run("asyncio", main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_it_works_where_tasks_are_eager(store):
    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        asked = [store.get_or_create_async("s", make_agent) for _ in range(10)]
        assert len(set(await asyncio.gather(*asked))) == 1

        async def recursive():
            return (await store.get_or_create_async("r", recursive)).agent

        with pytest.raises(RecursiveCreate):
            await store.get_or_create_async("r", recursive)

    run("asyncio", main)


def test_an_agent_that_is_made_in_place_of_a_coroutine_is_refused_and_the_callers(store):
    async def main():
        agent = asyncio.get_running_loop().create_future()
        with pytest.raises(InvalidType, match="must be a coroutine function") as refused:
            await store.get_or_create_async("s", lambda: agent)
        assert refused.value.agent is agent
        with pytest.raises(SessionNotFound):
            store.get("s")

    run("asyncio", main)


@pytest.mark.parametrize(
    ("session_id", "factory", "given", "error"),
    [
        ("", make_agent, {}, InvalidArgument),
        ("s", None, {}, InvalidType),
        ("s", make_agent, {"timeout_s": -1}, InvalidArgument),
        ("s", make_agent, {"tenant_id": 1}, InvalidType),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(store, session_id, factory, given, error):
    with pytest.raises(error):
        run("asyncio", lambda: store.get_or_create_async(session_id, factory, **given))
    assert nothing_left(store)


def test_a_closed_store_says_so(store):
    store.close()
    with pytest.raises(StoreClosed):
        run("asyncio", lambda: store.get_or_create_async("s", make_agent))
