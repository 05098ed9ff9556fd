"""Restarts: the decision, which is a pure function, and the conversation that goes on."""

import asyncio
import logging

import pytest

from frontdesk import ExitKind, ExitReason, SessionAlreadyExists, monitor
from frontdesk.agents import EndSession
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.restart import CRASHES, MEANT, RestartLimit, RestartState, restarts
from frontdesk.agents.task import TaskAgent
from frontdesk.monitors import Watcher
from frontdesk.sessions.errors import SessionDead
from frontdesk.sessions.phases import SessionPhase
from frontdesk.sessions.supervised_agent import SupervisedAgent
from frontdesk.testing import ManualClock
from support.sessions import (
    Stream,
    data_of,
    info_of,
    messages_of,
    names,
    open_service,
    open_session,
    passes,
    scripted,
    soon,
    text,
)

LIMIT = RestartLimit(max_restarts=3, within_s=60.0)


def decided(policy, kind, *, state=None, now=0.0, limit=LIMIT):
    reason = ExitReason(ExitKind(kind))
    return restarts(policy, reason, state=state or RestartState(), now=now, limit=limit)


# -- the decision --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(ExitKind))
def test_never_restarts_after_nothing(kind):
    assert not decided("never", kind)


@pytest.mark.parametrize("kind", list(ExitKind))
def test_on_crash_restarts_after_ends_that_nobody_meant_and_no_others(kind):
    assert decided("on_crash", kind) == (kind in CRASHES)


@pytest.mark.parametrize("kind", list(ExitKind))
def test_always_restarts_after_everything_but_the_end_of_the_session_itself(kind):
    assert decided("always", kind) == (kind not in MEANT)


def test_the_limit_counts_recent_restarts_only():
    state, now = RestartState(), 0.0
    for _ in range(3):
        assert decided("on_crash", "crashed", state=state, now=now)
        state = state.after_restart(now, limit=LIMIT)
        now += 1
    assert not decided("on_crash", "crashed", state=state, now=now)
    assert not decided("on_crash", "crashed", state=state, now=59.9)
    assert decided("on_crash", "crashed", state=state, now=60.0)
    assert state.count == 3


def test_the_state_forgets_old_restarts_but_counts_them():
    state = RestartState()
    for number in range(100):
        state = state.after_restart(number * 30.0, limit=LIMIT)
    assert state.count == 100
    assert len(state.recent) <= 3


# -- the conversation ----------------------------------------------------------------------------

anyio_test = pytest.mark.anyio


async def fragile(turn):
    """Crash where the prompt says so."""
    yield f"hearing {turn.text} "
    if turn.text == "crash":
        raise ValueError("secret")
    if turn.text == "leave":
        raise EndSession


def restarting(script=fragile, *, policy="on_crash", **rules):
    return scripted(script, restart=policy, errors_end="session", **rules)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, logger="frontdesk")


@anyio_test
async def test_the_conversation_outlives_an_agent_that_is_restarted():
    async with open_service(restarting()) as service:
        conversation = await open_session(service, session_id="s-1")
        first_entry = service.store.get("acme/s-1")
        watch = service.store.watch()
        stream = Stream(conversation)
        conversation.prompt("one")
        conversation.prompt("crash")
        conversation.prompt("three")
        await stream.until("agent_end", count=2)
        stream.close()
        assert names(stream.events) == [
            *("prompt_received", "agent_start", "message_start", "message_delta", "agent_end"),
            *("prompt_received", "agent_start", "message_start", "message_delta"),
            *("error", "agent_abort", "agent_restarted"),
            *("prompt_received", "agent_start", "message_start", "message_delta", "agent_end"),
        ]
        assert [event.index for event in stream.events] == list(range(1, 18))
        assert {event.fence for event in stream.events} == {conversation.fence}
        assert data_of(stream.events[11]) == {
            "reason": "crashed: ValueError",
            "count": 1,
            "memory": None,
        }
        assert [each["content"] for each in messages_of(conversation)["messages"]] == [
            *("one", "hearing one ", "crash", "hearing crash ", "three", "hearing three "),
        ]
        entry = service.store.get("acme/s-1")
        assert entry.fence != first_entry.fence
        assert service.tenant("acme", "k").find("s-1") is conversation
        changes = [watch.next(timeout_s=5) for _ in range(3)][1:]
        assert [each.kind for each in changes] == ["ended", "created"]
        assert str(changes[0].reason) == "restarted"
        watch.close()


class Slow:
    """A recipe whose second agent takes its time."""

    def __init__(self, script):
        self.script, self.started = script, 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.fails = False

    def check(self, context):
        pass

    async def start(self, context):
        self.started += 1
        if self.started > 1:
            self.begun.set()
            await self.go.wait()
            if self.fails:
                raise CreateFailed("no more")
        return TaskAgent(self.script)


def slow_blueprint(factory, **rules):
    return Blueprint(
        **{
            "name": "slow",
            "kind": "python",
            "factory": factory,
            "restart": "on_crash",
            "errors_end": "session",
            **rules,
        }
    )


@anyio_test
async def test_between_two_agents_the_session_is_restarting_and_prompts_queue():
    factory = Slow(fragile)
    async with open_service(slow_blueprint(factory)) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("crash")
        await factory.begun.wait()
        acme = service.tenant("acme", "k")
        assert acme.find("s-1") is conversation
        assert info_of(conversation)["state"] == "restarting"
        assert [each.session_id for each in acme.sessions()[0]] == ["s-1"]
        assert conversation.prompt("queued").queued
        with pytest.raises(SessionAlreadyExists):
            await open_session(service, session_id="s-1")
        factory.go.set()
        came = await stream.until("agent_end")
        stream.close()
        assert "hearing queued" in text(came)
        assert "session_end" not in names(stream.events)
        assert conversation.state == "idle"


@anyio_test
async def test_lookups_that_find_the_agent_dead_at_the_same_time_make_one_new_agent():
    factory = Slow(fragile)
    factory.go.set()
    async with open_service(slow_blueprint(factory, restart="always")) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        service.store.get("acme/s-1").agent.agent.cancel()
        await asyncio.sleep(0)
        for _ in range(10):
            assert service.tenant("acme", "k").find("s-1") is conversation
        await stream.until("agent_restarted")
        stream.close()
        await passes(20)
        assert factory.started == 2
        assert service.store.count() == 1


@anyio_test
async def test_a_session_deleted_between_two_agents_ends_and_the_next_agent_does_not_stay():
    factory = Slow(fragile)
    async with open_service(slow_blueprint(factory)) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("crash")
        await factory.begun.wait()
        await service.tenant("acme", "k").delete("s-1")
        assert data_of((await stream.rest())[-1]) == {"reason": "deleted"}
        factory.go.set()
        await soon(lambda: not service._supervisor._tasks)
        assert service.store.count() == 0
        with pytest.raises(SessionDead):
            service.tenant("acme", "k").find("s-1")


@anyio_test
async def test_a_session_that_expires_before_it_hears_of_a_restart_ends_and_is_not_restarted():
    factory = Slow(fragile)
    async with open_service(slow_blueprint(factory, restart="always", max_age_s=60)) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        service.store.get("acme/s-1").agent.agent.cancel()
        while "acme/s-1" in service.store:
            await asyncio.sleep(0)
        assert service.store.ended("acme/s-1").reason.kind is ExitKind.RESTARTED
        assert conversation.phase is SessionPhase.LIVE, "the registry knows, the session does not"
        service._on_expired(conversation)
        events = await stream.rest()
        assert names(events) == ["session_end"]
        assert data_of(events[-1]) == {"reason": "expired"}
        assert (factory.started, service.store.count()) == (1, 0)


@anyio_test
async def test_a_restart_that_fails_ends_the_session_with_its_last_reason():
    factory = Slow(fragile)
    factory.fails = True
    factory.go.set()
    async with open_service(slow_blueprint(factory)) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("crash")
        events = await stream.rest()
        assert data_of(events[-1]) == {"reason": "crashed: ValueError"}


@anyio_test
async def test_an_agent_that_crashes_too_often_ends_its_session_with_the_last_reason():
    clock = ManualClock()
    async with open_service(restarting(), clock=clock) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        for _ in range(5):
            conversation.prompt("crash")
        events = await stream.rest()
        assert names(events).count("agent_restarted") == 3
        assert names(events).count("agent_abort") == 4
        assert data_of(events[-1]) == {"reason": "crashed: ValueError"}
        assert service.store.ended("acme/s-1").reason.kind is ExitKind.CRASHED


@anyio_test
async def test_restarts_that_are_far_apart_are_not_limited():
    clock = ManualClock()
    async with open_service(restarting(), clock=clock) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        for _ in range(5):
            conversation.prompt("crash")
            await stream.until("agent_restarted")
            clock.advance(61)
        stream.close()
        assert info_of(conversation)["restarts"] == 5


@anyio_test
@pytest.mark.parametrize("policy", ["on_crash", "always"])
async def test_an_agent_that_ends_its_session_is_not_restarted(policy):
    async with open_service(restarting(policy=policy)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("leave")
        assert data_of((await stream.rest())[-1]) == {"reason": "normal"}


@anyio_test
@pytest.mark.parametrize("policy", ["never", "on_crash", "always"])
async def test_a_task_cancelled_from_outside_is_restarted_by_always_only(policy):
    async with open_service(restarting(policy=policy)) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        entry = service.store.get("acme/s-1")
        (entry.agent.agent if policy != "never" else entry.agent).cancel()
        if policy == "always":
            await stream.until("agent_restarted")
            stream.close()
        else:
            assert data_of((await stream.rest())[-1]) == {"reason": "cancelled"}


@anyio_test
async def test_nothing_is_restarted_while_the_house_closes():
    async with open_service(restarting(policy="always")) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        await service.drain(0.0)
        assert names(await stream.rest()) == ["session_end"]


# -- the registrant ------------------------------------------------------------------------------


@pytest.fixture
def watcher():
    made = Watcher()
    yield made
    made.close()


@anyio_test
async def test_a_registrant_is_alive_as_long_as_its_agent_and_told_of_its_end_once(watcher):
    agent = asyncio.get_running_loop().create_future()
    told = []
    supervised_agent = SupervisedAgent(agent, restarts=lambda reason: False, watcher=watcher)
    watched = monitor(supervised_agent, told.append)
    assert watched.alive
    agent.set_exception(ValueError("x"))
    assert not watched.alive, "liveness is read"
    assert watched.exit_reason().error == "ValueError"
    await passes()
    assert [each.error for each in told] == ["ValueError"]


@anyio_test
async def test_a_registrant_says_what_the_service_explained(watcher):
    agent = asyncio.get_running_loop().create_future()
    told = []
    supervised_agent = SupervisedAgent(agent, restarts=lambda reason: False, watcher=watcher)
    monitor(supervised_agent, told.append)
    supervised_agent.set_reason(ExitReason.of("deleted"))
    agent.set_result(None)
    await passes()
    assert told == [ExitReason.of("deleted")]


@anyio_test
async def test_a_registrant_of_an_agent_that_is_restarted_says_so_and_keeps_the_agents_reason(
    watcher,
):
    agent = asyncio.get_running_loop().create_future()
    told, asked = [], []

    def decide(reason):
        asked.append(reason)
        return True

    supervised_agent = SupervisedAgent(agent, restarts=decide, watcher=watcher)
    monitor(supervised_agent, told.append)
    agent.cancel()
    await passes()
    assert told == [ExitReason.of("restarted")]
    assert supervised_agent.agent_reason == ExitReason.of("cancelled")
    assert len(asked) == 1


@anyio_test
async def test_a_registrant_of_a_dead_agent_is_dead_at_once(watcher):
    agent = asyncio.get_running_loop().create_future()
    agent.set_result(None)
    supervised_agent = SupervisedAgent(agent, restarts=lambda reason: False, watcher=watcher)
    watched = monitor(supervised_agent, lambda reason: pytest.fail("told of a dead agent"))
    assert not watched.alive
    assert str(watched.exit_reason()) == "normal"
