"""Monitors of the user's own come before the built-in ones, for futures too. The store asks them
only while it holds no lock: what they wait for may itself wait for the store.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from frontdesk import ExitReason, Limits, SessionNotFound, SessionStore
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S
from support.leftovers import nothing_left


class Job(concurrent.futures.Future):
    """A future of a type that the user watches in a way of their own."""


class JobMonitor:
    alive = True

    def cancel(self):
        self.alive = False


def test_a_monitor_of_the_users_own_comes_before_the_one_of_futures():
    armed = []

    def watch_job(job, on_exit):
        armed.append(on_exit)
        return JobMonitor()

    with SessionStore(monitors={Job: watch_job}) as store:
        store.create("a", Job())
        store.create("b", concurrent.futures.Future())
        assert len(armed) == 1
        armed[0](ExitReason.of("expired"))
        assert [session.session_id for session in store] == ["b"]
        assert str(store.ended("a").reason) == "expired"


class Link:
    """An agent whose monitor, whatever it is asked, first waits for a write of another thread."""

    def __init__(self, store):
        self.store, self.is_alive, self.asked, self.unanswered = store, True, 0, 0

    def wait_for_a_write(self):
        self.asked += 1
        writing = threading.Thread(target=self.store.delete, args=("nobody",))
        writing.start()
        writing.join(BOUND_S / 10)
        self.unanswered += writing.is_alive()


class LinkMonitor:
    def __init__(self, link):
        self.link = link

    @property
    def alive(self):
        self.link.wait_for_a_write()
        return self.link.is_alive

    def exit_reason(self):
        self.link.wait_for_a_write()
        return None if self.link.is_alive else ExitReason.exited(7)

    def cancel(self):
        self.link.wait_for_a_write()


@pytest.fixture
def link_store():
    with SessionStore(
        limits=Limits(per_tenant=1), monitors={Link: lambda link, _: LinkMonitor(link)}
    ) as store:
        yield store


def take_its_id(store, link):
    store.create("s", FakeAgent(), tenant_id="other")


def take_its_place(store, link):
    store.create("other", FakeAgent(), tenant_id="links")


def register_it_again(store, link):
    assert store.create("again", link, tenant_id="other").agent is link
    assert "again" not in store


def get_or_create_it(store, link):
    store.get_or_create("s", FakeAgent, tenant_id="other")


def update_it(store, link):
    with pytest.raises(SessionNotFound):
        store.update("s", model="m")
    store.delete("s")


def delete_it(store, link):
    store.delete("s")


def ask_how_it_ended(store, link):
    store.ended("s")


def close_it(store, link):
    with store.watch() as watch:
        store.close()
        assert [str(item.reason) for item in list(watch)[1:]] == ["exited: 7"]


ABOUT_IT = [
    take_its_id,
    take_its_place,
    register_it_again,
    get_or_create_it,
    update_it,
    delete_it,
    ask_how_it_ended,
    close_it,
]


@pytest.mark.parametrize("act", ABOUT_IT, ids=lambda act: act.__name__)
def test_a_monitor_of_the_users_own_is_asked_while_no_lock_is_held(link_store, act):
    link = Link(link_store)
    link_store.create("s", link, tenant_id="links")
    link.is_alive, link.asked = False, 0
    act(link_store, link)
    assert link.asked
    assert not link.unanswered
    if not link_store.closed:
        assert link_store.ended("s").reason == ExitReason.exited(7)
        for session in link_store:
            link_store.delete(session.session_id)
    assert nothing_left(link_store)


class Watching:
    """A monitor of the user's own for whatever there is, that counts."""

    def __init__(self, agent, on_exit):
        self.agent, self.on_exit, self.alive, self.cancelled = agent, on_exit, True, 0

    def end(self):
        self.alive = False
        self.on_exit(ExitReason.of("expired"))

    def cancel(self):
        self.cancelled += 1


@pytest.fixture
def future():
    loop = asyncio.new_event_loop()
    yield loop.create_future()
    loop.close()


@pytest.fixture(params=[asyncio.Future, object], ids=["the type", "every type"])
def watching_store(request):
    """A store where asyncio's futures are watched by a monitor of the user's own."""
    made = []

    def watch(agent, on_exit):
        made.append(Watching(agent, on_exit))
        return made[-1]

    with SessionStore(monitors={request.param: watch}) as store:
        yield store, made


def test_futures_that_the_user_watches_have_one_monitor_and_every_operation(watching_store, future):
    store, made = watching_store
    for name in ("a", "b", "c"):
        store.create(name, future)
    assert len(made) == 1
    assert store.update("b", model="m").model == "m"
    store.delete("a")
    assert [session.session_id for session in store] == ["b", "c"]
    made[0].end()
    assert nothing_left(store)
    assert str(store.ended("b").reason) == "expired"
    store.create("d", future)
    store.delete("d")
    assert made[1].cancelled == 1
    assert nothing_left(store)


@pytest.mark.parametrize("act", ["create", "delete", "ended", "close"])
def test_the_users_monitor_of_an_agent_found_dead_is_cancelled_once(watching_store, future, act):
    store, made = watching_store
    store.create("s", future)
    made[0].alive = False
    if act == "create":
        store.create("s", FakeAgent())
    elif act == "close":
        store.close()
    else:
        getattr(store, act)("s")
    assert made[0].cancelled == 1


def test_a_monitor_that_raises_anything_keeps_no_other_from_being_released():
    class Leaving(Watching):
        def cancel(self):
            super().cancel()
            raise SystemExit

    made = []

    def watch(agent, on_exit):
        made.append(Leaving(agent, on_exit))
        return made[-1]

    store = SessionStore(monitors={Link: watch})
    for number in range(3):
        store.create(f"s{number}", Link(store))
    with pytest.raises(SystemExit):
        store.close()
    assert [one.cancelled for one in made] == [1, 1, 1]
    assert store.closed


def test_how_an_agent_ended_is_known_while_its_callback_waits():
    """Its own callback has begun, and another write is under way: `ended` waits for it too."""
    with SessionStore(monitors={Link: Watching}) as store:
        link = Link(store)
        session = store.create("s", link)
        ending = threading.Thread(target=session._liveness, args=(ExitReason.exited(3),))
        with store._core.lock.held:
            ending.start()
            while session._liveness.ended is None:
                pass
            asking = concurrent.futures.ThreadPoolExecutor(1)
            asked = asking.submit(store.ended, "s")
        with asking:
            assert asked.result(BOUND_S).reason == ExitReason.exited(3)
        ending.join(BOUND_S)


@pytest.mark.parametrize("act", [take_its_id, take_its_place], ids=lambda act: act.__name__)
def test_who_is_told_of_between_a_refusal_and_the_question_is_no_reason_to_refuse(act):
    """The agent dies untold, and is told of by another thread just when a create was refused."""

    with SessionStore(limits=Limits(per_tenant=1)) as store:
        agent, ask = FakeAgent(), store._core.reap_in_the_way
        told = []

        def tell_and_ask(builder, refusal):
            told.append(agent.notify())
            return ask(builder, refusal)

        store._core.reap_in_the_way = tell_and_ask
        store.create("s", agent, tenant_id="links")
        agent.die()
        act(store, agent)
        assert told
        assert len(store.list()) == 1
        assert agent not in [session.agent for session in store]
