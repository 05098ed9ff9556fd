"""Agents in processes of their own: what they do to themselves, and what that does to others."""

import asyncio
import logging
import os
import signal

import pytest

from frontdesk import ExitReason
from frontdesk.agents.builtin import process_blueprint
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.process.factory import ProcessAgentFactory, ProcessOptions
from frontdesk.agents.process.messages import ProgramSource
from frontdesk.errors import InvalidArgument
from frontdesk.keeper.errors import KeeperLost, LimitUnenforceable
from frontdesk.keeper.messages import ProcessLimits
from frontdesk.sessions.errors import SessionDead
from support.isolated_sessions import open_isolated
from support.processes import Life, lives
from support.sessions import (
    BOUND_S,
    Stream,
    data_of,
    names,
    open_session,
    soon,
    stats_of,
    text,
)

pytestmark = pytest.mark.anyio

SIGKILLED = str(ExitReason.signalled(9))


def life_of(service, conversation):
    """Return the process of a session's agent, as the registry knows it."""
    return Life(service.store.get(f"{conversation.tenant_id}/{conversation.session_id}").pid)


async def rowdy_turn(service, prompt):
    """Let an agent do something to its process; return the session and the rest of its stream."""
    conversation = await open_session(service, blueprint="rowdy")
    stream = Stream(conversation)
    conversation.prompt(prompt)
    await stream.until("message_delta")
    conversation.steer("now")
    await stream.until("steering")
    return conversation, stream


async def assert_parrots(conversation):
    """Assert that a session is alive and answers."""
    stream = Stream(conversation, since=str(conversation.log.last_index))
    conversation.prompt("still here")
    assert text(await stream.until("agent_end")) == "still here "
    stream.close()


# -- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("kill", "signalled: 9 (SIGKILL)"),
        ("segfault", "signalled: 11 (SIGSEGV)"),
        ("exit", "exited: 7"),
        ("close", "crashed: AgentLost"),
        ("garbage", "crashed: AgentLost"),
        ("huge frame", "crashed: AgentLost"),
        ("half a frame", "normal"),
    ],
)
async def test_an_agent_that_ends_in_a_turn_ends_turn_and_session_with_the_reason(prompt, reason):
    async with open_isolated("rowdy", "parrot") as service:
        neighbour = await open_session(service, blueprint="parrot")
        conversation, stream = await rowdy_turn(service, prompt)
        rest = await stream.rest()
        assert names(rest)[-2:] == ["agent_abort", "session_end"]
        assert names(rest).count("agent_abort") == 1
        # One that is given up sees its channel close: it may end by itself before it is killed.
        given_up = prompt in {"close", "garbage", "huge frame"}
        told = data_of(rest[-1])["reason"]
        assert told in ({reason, "normal"} if given_up else {reason})
        with pytest.raises(SessionDead) as dead:
            service.tenant("acme", "key-1").find(conversation.session_id)
        assert dead.value.reason.public_text == told
        await assert_parrots(neighbour)


async def test_an_agent_that_is_killed_while_idle_ends_its_session_with_the_signal():
    async with open_isolated("parrot") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        os.kill(life_of(service, conversation).pid, signal.SIGKILL)
        assert [data_of(event) for event in await stream.rest()] == [{"reason": SIGKILLED}]


async def test_an_agent_that_is_killed_is_out_of_the_registry_when_its_stream_ends():
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "hang")
        life = life_of(service, conversation)
        life.kill()
        await stream.rest()
        assert service.store.count() == 0
        assert service.store.ended(f"acme/{conversation.session_id}").reason.signal == 9
        assert life.over


async def test_a_prompt_after_the_kill_is_refused_with_the_reason():
    async with open_isolated("parrot") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        life_of(service, conversation).kill()
        await stream.rest()
        with pytest.raises(SessionDead):
            conversation.prompt("anybody there?")


async def test_a_child_that_holds_the_channel_does_not_hide_the_agents_death():
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "children")
        (child,) = lives(text(await stream.until("message_delta")))
        life_of(service, conversation).kill()
        assert data_of((await stream.rest())[-1])["reason"] == SIGKILLED
        child.await_end()


async def test_prompts_that_waited_are_not_run_by_anybody_after_the_kill():
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "hang")
        conversation.prompt("hang")
        life_of(service, conversation).kill()
        assert "prompt_received" not in names(await stream.rest())


async def test_what_an_agent_used_is_counted_although_it_ended_right_after():
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "spend")
        assert data_of((await stream.rest())[-1])["reason"] == "normal"
        await soon(lambda: stats_of(conversation)["totalTokens"] == 9)
        assert stats_of(conversation)["costUsd"] == 0.5


async def test_a_crash_ends_the_session_where_the_blueprint_says_so():
    async with open_isolated("raiser", fields={"errors_end": "session"}) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("value")
        rest = await stream.rest()
        assert names(rest)[-3:] == ["error", "agent_abort", "session_end"]
        assert data_of(rest[-1])["reason"] == "crashed: ValueError"


async def test_an_agent_that_crashed_is_restarted_in_a_process_of_its_own():
    async with open_isolated("rowdy", fields={"restart": "on_crash"}) as service:
        conversation, stream = await rowdy_turn(service, "kill")
        events = await stream.until("agent_restarted")
        assert names(events)[-2:] == ["agent_abort", "agent_restarted"]
        conversation.prompt("nothing")
        first, second = text(stream.events), text(await stream.until("message_delta"))
        assert first.isdigit()
        assert second.isdigit()
        assert first != second
        assert service.store.count() == 1


# -- neighbours --------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["spin", "block", "hang"])
async def test_an_agent_that_is_deaf_to_everything_harms_nobody_and_can_be_deleted(prompt):
    async with open_isolated("rowdy", "parrot", end_grace_s=0.5) as service:
        neighbour = await open_session(service, blueprint="parrot")
        conversation, _ = await rowdy_turn(service, prompt)
        life = life_of(service, conversation)
        await assert_parrots(neighbour)
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        assert life.over
        assert service.stuck == 0
        await assert_parrots(neighbour)


async def test_an_agent_that_leaks_up_to_its_limit_loses_its_turn_and_nobody_elses():
    rules = ProcessOptions(limits=ProcessLimits(memory_mb=256))
    async with open_isolated("rowdy", "parrot", rules=rules) as service:
        neighbour = await open_session(service, blueprint="parrot")
        conversation, stream = await rowdy_turn(service, "leak")
        events = await stream.until("agent_abort")
        assert data_of(events[-2])["reason"] == "MemoryError"
        assert conversation.ended is None
        await assert_parrots(neighbour)


async def test_an_agent_that_uses_up_its_processor_time_is_ended_by_that_signal():
    rules = ProcessOptions(limits=ProcessLimits(cpu_s=1))
    async with open_isolated("rowdy", rules=rules) as service:
        _, stream = await rowdy_turn(service, "spin")
        assert data_of((await stream.rest())[-1])["reason"] == "signalled: 24 (SIGXCPU)"


async def test_an_agent_that_fills_its_standard_error_goes_on(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "shout")
        assert text(await stream.until("agent_end")) == " shouted"
        label = f"acme/{conversation.session_id}"
        assert {record.session for record in caplog.records if "xxx" in record.message} == {label}


async def test_an_agent_that_forks_is_deleted_with_all_its_offspring():
    async with open_isolated("rowdy") as service:
        conversation, stream = await rowdy_turn(service, "breed")
        await stream.until("message_delta")
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        async with asyncio.timeout(BOUND_S):
            while len(service.keeper):
                await asyncio.sleep(0.001)
        assert children_of_keeper(service.keeper) == 1  # the fork server


async def test_an_agents_own_children_are_ended_by_the_signal_that_it_is_deaf_to():
    async with open_isolated("rowdy") as service:
        _, stream = await rowdy_turn(service, "stop a child")
        assert f"{-signal.SIGTERM}" in text(await stream.until("agent_end"))


def children_of_keeper(keeper):
    with open(f"/proc/{keeper.pid}/task/{keeper.pid}/children", encoding="ascii") as children:
        return len(children.read().split())


# -- creating ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "error", "problem"),
    [
        ({"model": "wrong"}, ModelRefused, "unknown here"),
        ({"model": "right", "system_prompt": "bad"}, CreateFailed, "not to my taste"),
        ({"model": "explode"}, CreateFailed, "could not be opened: RuntimeError"),
        ({"model": "exit"}, CreateFailed, "ended as it was opened"),
    ],
)
async def test_a_program_that_refuses_is_a_failed_create_and_leaves_nothing(order, error, problem):
    async with open_isolated("choosy") as service:
        with pytest.raises(error, match=problem) as refused:
            await open_session(service, **order)
        assert "not for clients" not in str(refused.value)
        assert (service.store.count(), len(service.keeper)) == (0, 0)


@pytest.mark.parametrize("name", ["there_is_none", "not_a_program", "Choosy"])
async def test_a_program_that_cannot_be_found_is_a_failed_create_without_paths(name):
    async with open_isolated(name) as service:
        with pytest.raises(CreateFailed, match=r"could not be started \(forkserver\)") as refused:
            await open_session(service)
        assert "/" not in str(refused.value)
        assert (service.store.count(), len(service.keeper)) == (0, 0)


async def test_a_working_directory_that_is_gone_is_a_failed_create_without_paths(tmp_path):
    async with open_isolated("parrot", tenants_root=tmp_path) as service:
        (tmp_path / "acme" / "work").mkdir(parents=True)
        conversation = await open_session(service, working_dir="work")
        cwd = os.readlink(f"/proc/{life_of(service, conversation).pid}/cwd")
        assert cwd == str(tmp_path / "acme" / "work")


async def test_a_create_that_is_cancelled_leaves_no_process():
    async with open_isolated("choosy", end_grace_s=0.2) as service:
        creating = asyncio.create_task(open_session(service, model="hang"))
        async with asyncio.timeout(BOUND_S):
            while not len(service.keeper):
                await asyncio.sleep(0.001)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert (service.store.count(), len(service.keeper)) == (0, 0)


async def test_a_program_that_takes_too_long_to_open_is_a_failed_create(monkeypatch, caplog):
    monkeypatch.setattr("frontdesk.agents.process.agent.OPEN_DEADLINE_S", 0.1)
    async with open_isolated("choosy") as service:
        with pytest.raises(CreateFailed, match=r"not ready after 0\.1 s"):
            await open_session(service, model="hang")
        assert (service.store.count(), len(service.keeper)) == (0, 0)
        (line,) = [each.message for each in caplog.records if "not ready" in each.message]
        assert line.startswith("session acme/")
        assert line.endswith("the agent was not ready after 0.1 s")


async def await_replacement(keeper, *, instead_of):
    """Wait for the next keeper."""
    async with asyncio.timeout(BOUND_S):
        while keeper.pid in (None, instead_of):
            await asyncio.sleep(0.001)


async def test_a_service_whose_keeper_is_gone_refuses_sessions_until_there_is_another():
    async with open_isolated("parrot") as service:
        keeper = Life(service.keeper.pid)
        keeper.kill(signal.SIGSTOP)
        creating = asyncio.create_task(open_session(service))
        keeper.kill()
        with pytest.raises(KeeperLost):
            await creating
        await await_replacement(service.keeper, instead_of=keeper.pid)
        await assert_parrots(await open_session(service))


async def test_sessions_end_when_the_keeper_dies_and_can_be_opened_again():
    async with open_isolated("rowdy") as service:
        _, stream = await rowdy_turn(service, "hang")
        first = service.keeper.pid
        Life(first).kill()
        assert names(await stream.rest())[-2:] == ["agent_abort", "session_end"]
        await await_replacement(service.keeper, instead_of=first)
        conversation, _ = await rowdy_turn(service, "nothing")
        assert conversation.ended is None


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        (ProcessOptions(limits=ProcessLimits(processes=10)), LimitUnenforceable),
        (ProcessOptions(limits=ProcessLimits(processes=10), account="root"), LimitUnenforceable),
        (ProcessOptions(account="there-is-no-such-account"), LimitUnenforceable),
        (ProcessOptions(limits=ProcessLimits(memory_mb=1)), InvalidArgument),
        (ProcessOptions(limits=ProcessLimits(cpu_s=0)), InvalidArgument),
    ],
)
def test_what_cannot_be_enforced_is_refused_at_the_start(rules, error):
    with pytest.raises(error):
        ProcessAgentFactory(
            None, ProgramSource(target="support.programs.process_agents:parrot"), rules=rules
        )


# -- the built-in blueprint --------------------------------------------------------------------


async def test_the_built_in_process_answers_with_the_test_model():
    async with open_isolated(
        blueprints=[lambda keeper: process_blueprint(keeper=keeper)]
    ) as service:
        conversation = await open_session(service, model="test")
        stream = Stream(conversation)
        conversation.prompt("hello")
        events = await stream.until("agent_end", "agent_abort")
        assert names(events)[-1] == "agent_end"
        assert text(events)
        assert data_of(events[-1])["tokenUsage"]["totalTokens"] > 0
        assert life_of(service, conversation).pid not in (os.getpid(), service.keeper.pid)
        with pytest.raises(ModelRefused):
            await open_session(service, model="there-is-no-such-provider:x")


# -- what is left ------------------------------------------------------------------------------


async def test_five_hundred_creates_and_ends_leave_no_descriptor_and_no_process():
    async with open_isolated("parrot") as service:
        await open_session(service, session_id="warm")
        before = len(os.listdir("/proc/self/fd"))
        for number in range(50):
            many = [open_session(service, session_id=f"s{number}-{n}") for n in range(10)]
            made = await asyncio.gather(*many)
            ends = (service.tenant("acme", "key-1").delete(each.session_id) for each in made)
            await asyncio.gather(*ends)
        assert len(service.keeper) == 1
        await soon(lambda: len(os.listdir("/proc/self/fd")) == before)
