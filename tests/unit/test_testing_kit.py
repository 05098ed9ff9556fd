"""The public test kit itself: the fake agent, the clock, and how laws are reported."""

import doctest

import pytest

import frontdesk.testing.agents
import frontdesk.testing.clock
from frontdesk import ExitReason
from frontdesk.testing import FakeAgent, Law, ManualClock, StoreOptions, check_law, embedded_store


@pytest.mark.parametrize("module", [frontdesk.testing.agents, frontdesk.testing.clock])
def test_the_examples_of_the_kit_run(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


def test_a_fake_agent_tells_each_callback_once():
    agent, calls = FakeAgent(), []
    agent.add_exit_callback(calls.append)
    agent.end(ExitReason.exited(3))
    agent.end(ExitReason.exited(4))
    assert calls == [ExitReason.exited(3)]


def test_a_fake_agent_that_died_tells_who_comes_late_at_once():
    agent, calls = FakeAgent(), []
    agent.die()
    agent.add_exit_callback(calls.append)
    assert calls == [ExitReason.of("normal")]
    assert agent.watched_by == 0


def test_a_fake_agent_forgets_a_callback_that_was_taken_back():
    agent, calls = FakeAgent(), []
    cancel = agent.add_exit_callback(calls.append)
    cancel()
    cancel()
    agent.end()
    assert calls == []


def test_a_fake_agent_calls_every_callback_and_raises_what_they_raised():
    agent, calls = FakeAgent(), []

    def fail(_):
        raise ArithmeticError

    for callback in (fail, calls.append, fail):
        agent.add_exit_callback(callback)
    with pytest.raises(ExceptionGroup) as raised:
        agent.end()
    assert len(raised.value.exceptions) == 2
    assert len(calls) == 1


def test_a_live_fake_agent_has_nobody_to_notify():
    with pytest.raises(RuntimeError, match="not died"):
        FakeAgent().notify()


def test_the_clock_moves_when_it_is_told_to_and_never_back():
    clock = ManualClock(wall_ms=1_000)
    clock.advance(0.25)
    assert (clock.monotonic(), clock.wall_ms()) == (0.25, 1_250)
    clock.set_wall_ms(0)
    assert (clock.monotonic(), clock.wall_ms()) == (0.25, 0)
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)


def test_a_broken_law_is_named_in_its_failure():
    async def check(store):
        assert await store.count() == 1, "nobody is here"

    law = Law("somebody-is-here", "Somebody is here.", 1, check, StoreOptions())
    with pytest.raises(AssertionError, match="nobody is here") as failure:
        check_law(law, embedded_store)
    assert failure.value.__notes__ == ["the broken law (somebody-is-here): Somebody is here."]
