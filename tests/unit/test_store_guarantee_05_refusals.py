"""Guarantee 5: a create that is refused leaves no entry, no index residue, no monitor, no
descriptor.

Every way to be refused, and after each the store, the agent and the process are as before.
"""

import asyncio
import multiprocessing
import subprocess
import sys
import textwrap
import threading

import pytest

from frontdesk import (
    AgentNotStarted,
    FrontdeskError,
    InvalidArgument,
    InvalidType,
    Limits,
    ProcessRef,
    SessionAlreadyExists,
    SessionLimitExceeded,
    StoreClosed,
    UnknownAgentKind,
)
from frontdesk.testing import FakeAgent
from support.agents import parked_thread, process, start_time, told
from support.leftovers import (
    assert_indexes_agree,
    descriptors,
    earlier_watchers_ended,
    leftovers,
    nothing_left,
)

ATTRIBUTES = {"tenant_id": "new-tenant", "api_key": "new-key"}


class Refusal:
    """Compare everything before and after."""

    def __init__(self, store):
        self._store, self._watch = store, store.watch()
        self._watch.next(timeout_s=0)
        earlier_watchers_ended(store)
        self._before = leftovers(store), store.revision, descriptors()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            return
        assert (leftovers(self._store), self._store.revision, descriptors()) == self._before
        assert told(self._watch) == []
        assert_indexes_agree(self._store)
        self._watch.close()


@pytest.fixture
def full_store(make_store):
    """A store with one place, which `holder` has."""
    store = make_store(limits=Limits(total=1))
    store.create("holder", FakeAgent())
    return store


def test_a_refused_intruder_is_not_monitored(store):
    holder = store.create("s", FakeAgent())
    intruder = FakeAgent()
    with Refusal(store), pytest.raises(SessionAlreadyExists) as refused:
        store.create("s", intruder, **ATTRIBUTES)
    assert refused.value.holder is holder
    assert intruder.watched_by == 0


def test_a_refused_future_has_no_callback(store):
    store.create("s", FakeAgent())

    async def main():
        intruder = asyncio.get_running_loop().create_future()
        with pytest.raises(SessionAlreadyExists):
            store.create("s", intruder, **ATTRIBUTES)
        assert not intruder._callbacks

    asyncio.run(main())


def test_a_process_refused_because_of_its_id_costs_no_descriptor(store):
    store.create("s", FakeAgent())
    with process() as warm_up, process() as child:
        store.create("warm-up", warm_up)
        with Refusal(store), pytest.raises(SessionAlreadyExists):
            store.create("s", child, **ATTRIBUTES)


def test_a_thread_refused_by_a_limit_costs_no_descriptor(full_store):
    with parked_thread() as thread, Refusal(full_store), pytest.raises(SessionLimitExceeded):
        full_store.create("s", thread, **ATTRIBUTES)


def test_an_agent_refused_by_a_limit_is_not_monitored(full_store):
    agent = FakeAgent()
    with Refusal(full_store), pytest.raises(SessionLimitExceeded) as refused:
        full_store.create("s", agent, **ATTRIBUTES)
    assert (refused.value.scope, refused.value.limit) == ("total", 1)
    assert agent.watched_by == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session_id", ""),
        ("session_id", "x" * 513),
        ("session_id", "tab\tbed"),
        ("session_id", "\x85"),
        ("session_id", "\ud800"),
        ("tenant_id", ""),
        ("tenant_id", "x" * 513),
        ("api_key", ""),
        ("api_key", "line\nbreak"),
        ("model", "x" * 513),
    ],
)
def test_an_impossible_value_is_refused_by_name(store, name, value):
    agent = FakeAgent()
    given = {"session_id": "s", "agent": agent, name: value}
    with Refusal(store), pytest.raises(InvalidArgument) as refused:
        store.create(**given)
    assert refused.value.name == name
    assert refused.value.expected
    assert agent.watched_by == 0
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("name", ["session_id", "tenant_id", "api_key", "blueprint", "model"])
def test_a_wrong_type_is_refused_by_name(store, name):
    given = {"session_id": "s", "agent": FakeAgent(), name: 7}
    with Refusal(store), pytest.raises(InvalidType) as refused:
        store.create(**given)
    assert (refused.value.name, refused.value.got) == (name, "int")
    assert isinstance(refused.value, TypeError)


def test_an_id_of_five_hundred_and_twelve_characters_is_fine(store):
    store.create("x" * 512, FakeAgent(), tenant_id="ü ö", api_key="🔑")
    assert store.count_by_api_key("🔑") == store.count_by_tenant("ü ö") == 1


@pytest.mark.parametrize("agent", [None, 7, "agent", object(), FakeAgent, asyncio.sleep])
def test_what_no_monitor_knows_is_refused(store, agent):
    with Refusal(store), pytest.raises(UnknownAgentKind) as refused:
        store.create("s", agent, **ATTRIBUTES)
    assert refused.value.got == type(agent).__name__


def test_a_thread_that_was_not_started_is_refused(store):
    with Refusal(store), pytest.raises(AgentNotStarted):
        store.create("s", threading.Thread(target=int), **ATTRIBUTES)


def test_a_process_that_was_not_started_is_refused(store):
    child = multiprocessing.get_context("spawn").Process(target=int)
    with Refusal(store), pytest.raises(AgentNotStarted):
        store.create("s", child, **ATTRIBUTES)


def test_an_agent_whose_monitor_cannot_be_made_is_refused(make_store):
    class Odd:
        pass

    def monitor(agent, on_exit):
        raise ConnectionError("the actor does not answer")

    store = make_store(monitors={Odd: monitor})
    with Refusal(store), pytest.raises(ConnectionError):
        store.create("s", Odd(), **ATTRIBUTES)


def test_an_agent_that_cannot_say_its_pid_leaves_no_gap_in_the_revisions(store):
    class Nameless(FakeAgent):
        @property
        def pid(self):
            raise ConnectionError("the actor does not answer")

    agent = Nameless()
    with Refusal(store), pytest.raises(ConnectionError):
        store.create("s", agent, **ATTRIBUTES)
    assert agent.watched_by == 0


def test_an_agent_with_a_strange_pid_leaves_no_gap_in_the_revisions(store):
    class Strange(FakeAgent):
        pid = "not a number"

    agent = Strange()
    with Refusal(store), pytest.raises((TypeError, ValueError)):
        store.create("s", agent, **ATTRIBUTES)
    assert agent.watched_by == 0


def test_an_update_with_a_wrong_type_changes_nothing(store):
    store.create("s", FakeAgent(), model="old")
    with Refusal(store), pytest.raises(InvalidType):
        store.update("s", model=7)
    with Refusal(store), pytest.raises(InvalidArgument):
        store.update("s", blueprint="x" * 513)
    assert store.get("s").model == "old"


def test_a_watch_that_is_refused_leaves_nothing(store):
    for scope in ({"tenant_id": 7}, {"api_key": ""}, {"tenant_id": "\n"}):
        with Refusal(store), pytest.raises(FrontdeskError):
            store.watch(**scope)


def test_a_closed_store_refuses_everything_and_monitors_nobody(make_store):
    store = make_store()
    store.close()
    agent = FakeAgent()
    for refused in (
        lambda: store.create("s", agent),
        lambda: store.get_or_create("s", lambda: agent),
        lambda: store.get("s"),
        lambda: "s" in store,
        lambda: store.delete("s"),
        lambda: store.update("s", model="m"),
        lambda: store.ended("s"),
        store.list,
        lambda: list(store),
        lambda: store.list_by_tenant("t"),
        lambda: store.list_by_api_key("k"),
        store.count,
        lambda: len(store),
        lambda: store.count_by_tenant("t"),
        lambda: store.count_by_api_key("k"),
        store.watch,
    ):
        with pytest.raises(StoreClosed) as error:
            refused()
        assert not error.value.forked
    assert agent.watched_by == 0
    assert store.closed


def test_a_factory_that_fails_leaves_nothing(store):
    with Refusal(store), pytest.raises(ConnectionError):
        store.get_or_create("s", failing, **ATTRIBUTES)


def failing():
    raise ConnectionError("no such model")


def test_a_made_agent_that_is_refused_is_not_monitored(full_store):
    agent = FakeAgent()
    with Refusal(full_store), pytest.raises(SessionLimitExceeded):
        full_store.get_or_create("s", lambda: agent, **ATTRIBUTES)
    assert agent.watched_by == 0


def test_a_process_of_another_start_time_costs_no_descriptor(store):
    with process() as warm_up, process() as child:
        store.create("warm-up", warm_up)
        before = descriptors()
        store.create("s", ProcessRef(child.pid, start_time(child.pid) + 1))
        assert descriptors() == before


NO_DESCRIPTORS = """
    import asyncio, atexit, os, resource, subprocess, sys, threading
    sys.path.insert(0, {tests!r})
    from conftest import new_watcher
    from frontdesk import Limits, MonitorFailed, SessionStore
    from frontdesk.testing import FakeAgent
    from support.leftovers import leftovers

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    store = SessionStore(watcher=new_watcher())
    loop = asyncio.new_event_loop()
    children = [subprocess.Popen(["sleep", "100"], stdout=-3, stderr=-3) for _ in range(2)]
    atexit.register(lambda: [(child.kill(), child.wait()) for child in children])
    held = threading.Event()
    thread = threading.Thread(target=held.wait, daemon=True)
    thread.start()
    {warm_up}
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    before, revision = leftovers(store), store.revision
    refused = []
    for name, agent in (("p", children[0]), ("t", thread), ("f", loop.create_future())):
        try:
            session = store.create(name, agent, tenant_id="new", api_key="new")
        except MonitorFailed as error:
            refused.append((name, error.errno))
            assert leftovers(store) == before, leftovers(store)
            assert store.revision == revision
            assert name not in store
        else:
            assert store.get(name) is session
            store.delete(name)
            revision = store.revision
            before = leftovers(store)
    for number in taken:
        os.close(number)
    # And with descriptors to spare everything goes on as if nothing had been.
    watch = store.watch()
    watch.next(timeout_s=0)
    for name, agent in (("p", children[0]), ("t", thread)):
        store.create(name, agent)
        assert watch.next(timeout_s=30).kind == "created"
    children[0].kill()
    assert watch.next(timeout_s=30).reason.signal == 9
    held.set()
    assert watch.next(timeout_s=30).session.session_id == "t"
    future = loop.create_future()
    store.create("f", future)
    loop.close()
    store.count()
    assert "f" not in store
    print(refused)
    store.close()
"""


@pytest.mark.parametrize(
    "warm_up", ["", 'store.create("warm-up", children[1])'], ids=["cold", "warm"]
)
def test_without_descriptors_the_refusal_is_typed_and_nobody_goes_unmonitored(warm_up):
    tests = __file__.rpartition("/unit/")[0]
    program = textwrap.dedent(NO_DESCRIPTORS).format(tests=tests, warm_up=warm_up)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    from conftest import USE_PIDFD

    if USE_PIDFD is None:
        assert "('p', 24)" in done.stdout, done.stdout


@pytest.mark.parametrize("returned", [None, object()])
def test_an_agent_whose_monitor_function_returns_no_monitor_is_refused(make_store, returned):
    class Kind:
        pass

    store = make_store(monitors={Kind: lambda agent, on_exit: returned})
    with Refusal(store), pytest.raises(InvalidType) as refused:
        store.create("s", Kind())
    assert (refused.value.name, refused.value.got) == ("monitor", type(returned).__name__)


def test_a_future_that_nobody_can_refer_to_weakly_is_deleted_like_any_other(store):
    class Strange:
        """Something with the methods of a future, and slots for little else."""

        __slots__ = ("_asyncio_future_blocking", "_loop", "callbacks")

        def __init__(self, loop):
            self._loop, self._asyncio_future_blocking, self.callbacks = loop, False, []

        def done(self):
            return False

        def get_loop(self):
            return self._loop

        def add_done_callback(self, callback, *, context=None):
            self.callbacks.append(callback)

    async def main():
        agent = Strange(asyncio.get_running_loop())
        for _ in range(2):
            store.create("s", agent)
            store.delete("s")
            assert "s" not in store

    asyncio.run(main())
    assert nothing_left(store)
