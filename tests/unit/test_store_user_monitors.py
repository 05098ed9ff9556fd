"""Monitors of the user's own come before the built-in ones, for futures too."""

from __future__ import annotations

import concurrent.futures

from frontdesk import ExitReason, SessionStore


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
