"""Monitors of the user's own come before the built-in ones, for futures too. The store asks them
only while it holds no lock: what they wait for may itself wait for the store.
"""

from __future__ import annotations

import concurrent.futures
import threading

import pytest

from frontdesk import ExitReason, Limits, SessionNotFound, SessionStore
from frontdesk.testing import FakeAgent
from leftovers import nothing_left
from lives import BOUND_S


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


@pytest.mark.parametrize("act", [take_its_id, take_its_place], ids=lambda act: act.__name__)
def test_who_is_told_of_between_a_refusal_and_the_question_is_no_reason_to_refuse(act):
    """The agent dies untold, and is told of by another thread just when a create was refused."""

    class Telling(SessionStore):
        def _reap_in_the_way(self, draft, refusal):
            agent.tell()
            return super()._reap_in_the_way(draft, refusal)

    with Telling(limits=Limits(per_tenant=1)) as store:
        agent = FakeAgent()
        store.create("s", agent, tenant_id="links")
        agent.die()
        act(store, agent)
        assert len(store.list()) == 1
        assert agent not in [session.agent for session in store]
