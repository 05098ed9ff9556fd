"""Which monitor an agent gets, and the rules that monitors of the user's own are held to."""

import asyncio
import concurrent.futures
import gc
import logging
import os
import subprocess
import sys
import threading
import weakref

import pytest

from frontdesk import AgentNotStarted, ExitReason, UnknownAgentKind, monitor
from frontdesk.monitors import FutureMonitor
from frontdesk.monitors.custom import CustomMonitor
from support.exits import Exits, run_script

LOST = ExitReason.of("lost")
NORMAL = ExitReason.of("normal")


class Actor:
    """An agent that says itself when it ends."""

    def __init__(self, *, ended=None):
        self.callbacks = []
        self.alive = ended is None
        self._ended = ended

    def add_exit_callback(self, callback):
        self.callbacks.append(callback)
        if self._ended is not None:
            callback(self._ended)
        return lambda: self.callbacks.remove(callback)

    def end(self, reason=LOST):
        self.alive = False
        for callback in list(self.callbacks):
            callback(reason)


class Watch:
    """A monitor of the user's own."""

    def __init__(self, agent, on_exit):
        self.agent, self.on_exit = agent, on_exit
        self.alive, self.cancelled = True, False

    def cancel(self):
        self.cancelled = True


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("agent", [None, 1, "pid", object(), [], Actor, threading.Thread])
def test_what_no_monitor_knows_is_refused_by_name(agent):
    with pytest.raises(UnknownAgentKind, match=type(agent).__name__):
        monitor(agent, Exits())


def test_a_coroutine_is_no_agent():
    async def work(): ...

    coroutine = work()
    with pytest.raises(UnknownAgentKind):
        monitor(coroutine, Exits())
    coroutine.close()


def test_nothing_of_multiprocessing_is_imported_for_the_question():
    run_script(
        "import subprocess, sys\n"
        "from frontdesk import monitor, UnknownAgentKind\n"
        "try: monitor(object(), print)\n"
        "except UnknownAgentKind: pass\n"
        "assert not [name for name in sys.modules if name.startswith('multiprocessing')]\n"
        "assert 'ctypes' not in sys.modules\n"
    )


# -- kinds of the user's own -------------------------------------------------------------------


class Base:
    pass


class Derived(Base):
    pass


def test_a_kind_serves_the_subclasses_of_its_type():
    watched = monitor(Derived(), Exits(), kinds={Base: Watch})
    assert isinstance(watched, CustomMonitor)
    assert watched.alive


def test_the_kind_of_the_nearest_class_is_taken():
    taken = []

    def function_named(name):
        def function(agent, on_exit):
            taken.append(name)
            return Watch(agent, on_exit)

        return function

    kinds = {object: function_named("object"), Base: function_named("base")}
    monitor(Derived(), Exits(), kinds=kinds)
    monitor(object(), Exits(), kinds=kinds)
    assert taken == ["base", "object"]


def test_a_kind_of_the_users_own_comes_before_ours():
    future = concurrent.futures.Future()
    assert isinstance(monitor(future, Exits()), FutureMonitor)
    kinds = {concurrent.futures.Future: Watch}
    assert isinstance(monitor(future, Exits(), kinds=kinds), CustomMonitor)


def test_the_end_is_told_once_however_often_it_is_said():
    exits, made = Exits(), []
    watched = monitor(Base(), exits, kinds={Base: lambda *a: made.append(Watch(*a)) or made[0]})
    made[0].on_exit(LOST)
    made[0].on_exit(NORMAL)
    assert exits.reasons == [LOST]
    assert watched.exit_reason() == LOST
    assert not watched.alive


def test_after_cancel_an_end_is_told_to_nobody():
    exits, made = Exits(), []
    watched = monitor(Base(), exits, kinds={Base: lambda *a: made.append(Watch(*a)) or made[0]})
    watched.cancel()
    watched.cancel()
    assert made[0].cancelled
    made[0].on_exit(LOST)
    assert exits.reasons == []
    assert not watched.alive


def test_an_end_said_inside_monitor_means_that_the_agent_was_dead():
    exits = Exits()

    def dead(agent, on_exit):
        on_exit(LOST)
        return Watch(agent, on_exit)

    watched = monitor(Base(), exits, kinds={Base: dead})
    assert exits.reasons == []
    assert not watched.alive
    assert watched.exit_reason() == LOST


def test_an_agent_only_known_to_be_dead_ended_unknown():
    made = []
    watched = monitor(Base(), Exits(), kinds={Base: lambda *a: made.append(Watch(*a)) or made[0]})
    assert watched.exit_reason() is None
    made[0].alive = False
    assert not watched.alive
    assert watched.exit_reason() == ExitReason.of("unknown")


def test_a_reason_that_is_none_of_ours_is_unknown_and_logged(caplog):
    exits, actor = Exits(), Actor()
    monitor(actor, exits)
    with caplog.at_level(logging.ERROR, "frontdesk"):
        actor.end("crashed")
    assert exits.reasons == [ExitReason.of("unknown")]
    assert len(caplog.records) == 1


def test_a_monitor_function_that_raises_is_the_callers():
    def broken(agent, on_exit):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        monitor(Base(), Exits(), kinds={Base: broken})


class Broken(Watch):
    alive = property(lambda self: 1 / 0, lambda self, value: None)

    def cancel(self):
        raise ZeroDivisionError


def test_a_monitor_that_raises_when_asked_counts_as_alive_and_is_logged_once(caplog):
    watched = monitor(Base(), Exits(), kinds={Base: Broken})
    with caplog.at_level(logging.ERROR, "frontdesk"):
        assert watched.alive
        assert watched.alive
        watched.cancel()
    assert not watched.alive
    assert len(caplog.records) == 1


def test_a_callback_that_raises_is_logged_and_harms_nobody(caplog):
    def bad(reason):
        raise RuntimeError("bad callback")

    exits, actor = Exits(), Actor()
    monitor(actor, bad)
    monitor(actor, exits)
    with caplog.at_level(logging.ERROR, "frontdesk"):
        actor.end()
    assert exits.reasons == [LOST]
    assert len(caplog.records) == 1


def test_ends_said_by_two_threads_at_once_are_told_once(eager_switches):
    for _ in range(200):
        exits, made, together = Exits(), [], threading.Barrier(3)
        kinds = {Base: lambda *a, made=made: made.append(Watch(*a)) or made[0]}
        watched = monitor(Base(), exits, kinds=kinds)

        def end(made=made, together=together):
            together.wait()
            made[0].on_exit(LOST)

        threads = [threading.Thread(target=end) for _ in range(2)]
        for thread in threads:
            thread.start()
        together.wait()
        for thread in threads:
            thread.join()
        assert exits.reasons == [LOST]
        assert not watched.alive


# -- agents with a callback of their own -------------------------------------------------------


def test_an_agent_with_exit_callbacks_is_monitored():
    exits, actor = Exits(), Actor()
    watched = monitor(actor, exits)
    assert watched.alive
    assert watched.exit_reason() is None
    assert watched.pid == os.getpid()
    actor.end()
    assert exits.reasons == [LOST]
    assert not watched.alive


def test_its_callback_is_taken_back_on_cancel():
    exits, actor = Exits(), Actor()
    watched = monitor(actor, exits)
    watched.cancel()
    assert actor.callbacks == []
    actor.end()
    assert exits.reasons == []


def test_one_that_has_ended_already_is_dead():
    exits = Exits()
    watched = monitor(Actor(ended=LOST), exits)
    assert not watched.alive
    assert watched.exit_reason() == LOST
    assert exits.reasons == []


def test_its_liveness_is_read():
    actor = Actor()
    watched = monitor(actor, Exits())
    actor.alive = False
    assert not watched.alive


def test_one_found_dead_is_asked_how_it_ended():
    actor = Actor()
    actor.exit_reason = lambda: None if actor.alive else LOST
    watched = monitor(actor, Exits())
    assert watched.exit_reason() is None
    actor.alive = False
    assert watched.exit_reason() == LOST
    actor.exit_reason = lambda: 1 / 0
    assert watched.exit_reason() == ExitReason.of("unknown")


class Plain:
    """No `alive`, no way back."""

    pid = 4711

    def add_exit_callback(self, callback):
        self.callback = callback


def test_one_without_alive_lives_until_it_calls():
    exits, plain = Exits(), Plain()
    watched = monitor(plain, exits)
    assert watched.alive
    plain.callback(NORMAL)
    assert exits.reasons == [NORMAL]
    assert not watched.alive


def test_its_pid_is_taken_where_it_has_one():
    assert monitor(Plain(), Exits()).pid == 4711


def test_a_cancelled_monitor_holds_neither_agent_nor_callback():
    exits, plain = Exits(), Plain()
    watched = monitor(plain, exits)
    watched.cancel()
    callback = weakref.ref(exits)
    del exits
    gc.collect()
    assert callback() is None
    assert not watched.alive


# -- built-in kinds that are not started -------------------------------------------------------


def test_a_popen_that_never_started_is_refused():
    class Unstarted(subprocess.Popen):
        def __init__(self):
            self.pid = self.returncode = None

        def __del__(self, *_): ...

    with pytest.raises(AgentNotStarted):
        monitor(Unstarted(), Exits())


def test_a_task_of_a_subclass_is_a_task():
    class MyTask(asyncio.Task):
        pass

    async def main():
        async def work(): ...

        exits = Exits()
        task = MyTask(work())
        assert isinstance(monitor(task, exits), FutureMonitor)
        await task
        await asyncio.sleep(0)
        assert exits.reasons == [NORMAL]

    asyncio.run(main())


def test_the_package_imports_nothing_heavy():
    loaded = run_script(
        "import asyncio, sys; before = set(sys.modules)\n"
        "import frontdesk.monitors\n"
        "print(' '.join(sorted(set(sys.modules) - before)))"
    ).split()
    assert not {"multiprocessing", "ctypes", "typing_extensions"} & set(loaded), loaded
    assert sys.version_info >= (3, 11)
