"""Turns that wait for somebody outlive their agent: they go on once they have their answers."""

import asyncio
import json
import os
import shutil
import signal

import pytest

from frontdesk.agents.restart import RestartLimit
from support.sessions import (
    BOUND_S,
    Stream,
    data_of,
    names,
    open_session,
    scripted,
    soon,
    status_of,
    text,
)
from support.stored_services import found, stored

pytest.importorskip("pydantic_ai")

from support.waiting_turns import (
    REFUND,
    SESSION,
    SURE,
    TRANSFER,
    WAITING,
    in_processes,
    prompt,
    ran,
    reference_in,
    waits,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def lost_while_waiting(directory, *calls, asked=("approval_required",), act=None):
    """Run a turn until it waits, and return what a process that is killed then leaves."""
    left = directory.with_name("left")
    async with stored(directory, WAITING) as service:
        conversation = await open_session(service, **SESSION)
        stream = Stream(conversation)
        accepted = conversation.prompt(prompt(*calls))
        events = []
        for name in asked:
            events += await stream.until(name)
        if act is not None:
            await act(conversation, events)
        await conversation.committed()
        stream.close()
        shutil.copytree(directory, left)
    return left, events, accepted.request_id


@pytest.fixture
def directory(tmp_path):
    """Return where a process stores its conversations."""
    (tmp_path / "first").mkdir()
    return tmp_path / "first"


async def test_an_approval_is_open_after_a_restart_and_the_turn_goes_on_with_it(directory):
    left, before, request_id = await lost_while_waiting(directory, REFUND, TRANSFER)
    async with stored(left, WAITING) as service:
        conversation = await found(service)
        assert (conversation.state, conversation.dormant) == ("waiting_approval", True)
        assert conversation.parts.approvals.requests()[0].tool_name == "transfer"
        stream = Stream(conversation, since=before[-1].id)
        later = conversation.prompt("tell")
        assert later.queued
        assert conversation.dormant, "what waits behind it starts no agent"
        conversation.approve(reference_in(before, "approval_required"))
        events = await stream.until("agent_end")
        assert names(events) == [
            "approval_resolved",
            "agent_restarted",
            "tool_execution_start",
            "tool_execution_end",
            "message_start",
            "message_delta",
            "agent_end",
        ]
        in_turn = {each.request_id for each in events if each.request_id is not None}
        assert in_turn == {request_id}
        assert data_of(events[1])["memory"] == "kept"
        assert [each.index for each in events] == [
            before[-1].index + 1 + n for n in range(len(events))
        ]
        assert ran(events) == ["transfer"]
        after = await stream.until("agent_end")
        assert json.loads(text(after)) == [["refund", "paid back 7"], ["transfer", "sent 5"]]
        end = await conversation.ends.wait(request_id)
        assert (end.aborted, end.text) == (None, "so far ")
        stream.close()
        roles = [(each.role, each.content) for each in conversation.history.all()][1:7]
        assert roles == [
            ("assistant", "let me see "),
            ("tool_result", "paid back 7"),
            ("assistant", ""),
            ("tool_result", "sent 5"),
            ("assistant", "so far "),
            ("user", "tell"),
        ]
    async with stored(left, WAITING) as service:
        conversation = await found(service)
        assert conversation.state == "idle"
        assert [(each.role, each.content) for each in conversation.history.all()][1:7] == roles


async def test_a_question_is_open_after_a_restart_and_its_call_ends_with_the_answer(directory):
    left, before, request_id = await lost_while_waiting(directory, SURE, asked=("ask_user",))
    async with stored(left, WAITING) as service:
        conversation = await found(service)
        assert conversation.state == "waiting_input"
        stream = Stream(conversation, since=before[-1].id)
        conversation.respond(reference_in(before, "ask_user"), "quite")
        events = await stream.until("agent_end")
        stream.close()
    assert ran(events) == []
    ends = [data_of(each) for each in events if each.name == "tool_execution_end"]
    begun = [data_of(each) for each in before if each.name == "tool_execution_start"]
    assert [(each["result"], each["callId"]) for each in ends] == [("quite", begun[0]["callId"])]
    assert {each.request_id for each in events if each.request_id} == {request_id}


async def test_an_answer_that_was_stored_is_not_asked_for_again(directory):
    async def approve_one(conversation, events):
        conversation.approve(reference_in(events, "approval_required"))

    calls = (TRANSFER, ["careful", {"amount": 50}])
    left, before, _ = await lost_while_waiting(
        directory, *calls, asked=("approval_required",) * 2, act=approve_one
    )
    async with stored(left, WAITING) as service:
        conversation = await found(service)
        (open_request,) = conversation.parts.approvals.requests()
        stream = Stream(conversation, since=before[-1].id)
        conversation.reject(open_request.approval_id, "too much")
        events = await stream.until("agent_end")
        stream.close()
    assert len(ran(events)) == 1
    assert ran(events) != [open_request.tool_name]


async def test_a_turn_whose_answers_are_all_there_goes_on_by_itself_at_the_start(directory):
    left, before, _ = await lost_while_waiting(directory, TRANSFER)
    async with stored(left, WAITING) as service:
        conversation = await found(service)
        # Its answer is stored, and the process goes down before an agent has it.
        conversation.service.wake = lambda conversation: None
        conversation.approve(reference_in(before, "approval_required"))
        await conversation.committed()
        again = left.with_name("again")
        shutil.copytree(left, again)
    async with stored(again, WAITING) as service:
        async with asyncio.timeout(BOUND_S):
            conversation = await found(service)
            stream = Stream(conversation, since=before[-1].id)
            events = await stream.until("agent_end")
            stream.close()
    assert ran(events) == ["transfer"]


async def test_a_turn_that_went_on_is_cut_off_like_any_other(directory):
    """What was approved may have been done: it is not done again."""

    async def approve(conversation, events):
        stream = Stream(conversation, since=events[-1].id)
        conversation.approve(reference_in(events, "approval_required"))
        await stream.until("agent_end")
        stream.close()

    left, _, request_id = await lost_while_waiting(directory, TRANSFER, act=approve)
    async with stored(left, WAITING) as service:
        conversation = await found(service)
        assert conversation.state == "idle"
        whole = Stream(conversation)
        events = await whole.until("agent_end")
        whole.close()
    assert ran(events) == ["transfer"]
    assert {each.request_id for each in events} == {request_id}


async def test_a_turn_that_waits_can_be_aborted_without_an_agent(directory):
    left, before, request_id = await lost_while_waiting(directory, REFUND, TRANSFER)
    async with stored(left, WAITING) as service:
        conversation = await found(service)
        stream = Stream(conversation, since=before[-1].id)
        conversation.abort("enough")
        events = await stream.until("agent_abort")
        assert names(events) == ["approval_resolved", "agent_abort"]
        assert data_of(events[0])["status"] == "cancelled"
        assert {each.request_id for each in events} == {request_id}
        conversation.prompt("tell")
        events = await stream.until("agent_end")
        stream.close()
    done = json.loads(text(events))
    assert done[0] == ["refund", "paid back 7"]


async def test_an_approval_that_nobody_gives_in_time_expires_and_the_turn_goes_on_without(
    directory,
):
    left, before, _ = await lost_while_waiting(directory, TRANSFER)
    async with stored(left, WAITING, approval_timeout_s=0.05) as service:
        conversation = await found(service)
        stream = Stream(conversation, since=before[-1].id)
        events = await stream.until("agent_end")
        stream.close()
    assert data_of(events[0])["status"] == "expired"
    assert ran(events) == []


async def test_a_turn_whose_agent_cannot_go_on_with_it_any_more_is_ended(directory):
    async def other(turn):
        yield f"not {turn.text}"

    left, before, request_id = await lost_while_waiting(directory, TRANSFER)
    changed = scripted(other, "waiting")
    async with stored(left, changed) as service:
        conversation = await found(service)
        stream = Stream(conversation, since=before[-1].id)
        conversation.approve(reference_in(before, "approval_required"))
        events = await stream.until("agent_abort")
        assert data_of(events[-1])["reason"] == "interrupted"
        assert events[-1].request_id == request_id
        conversation.prompt("this")
        assert text(await stream.until("agent_end")) == "not this"
        stream.close()


async def test_a_turn_that_waits_as_its_gateway_ends_waits_on(directory):
    async with stored(directory, WAITING) as service:
        conversation = await open_session(service, **SESSION)
        stream = Stream(conversation)
        accepted = conversation.prompt(prompt(REFUND, TRANSFER))
        before = await stream.until("approval_required")
        stream.close()
    async with stored(directory, WAITING) as service:
        conversation = await found(service)
        assert conversation.state == "waiting_approval"
        stream = Stream(conversation, since=before[-1].id)
        conversation.approve(reference_in(before, "approval_required"))
        events = await stream.until("agent_end")
        stream.close()
    assert names(events)[:2] == ["approval_resolved", "agent_restarted"]
    assert ran(events) == ["transfer"]
    assert events[-1].request_id == accepted.request_id


async def test_other_agents_turns_are_cut_off_with_what_they_asked(directory):
    async def asking(turn):
        yield (await turn.approval("shell")).status

    agent = scripted(asking)
    left = directory.with_name("left")
    async with stored(directory, agent) as service:
        conversation = await open_session(service, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("go")
        before = await stream.until("approval_required")
        stream.close()
        shutil.copytree(directory, left)
    async with stored(left, agent) as service:
        conversation = await found(service)
        assert conversation.state == "idle"
        stream = Stream(conversation, since=before[-1].id)
        events = await stream.until("agent_abort")
        stream.close()
    assert data_of(events[-1])["reason"] == "interrupted"


# -- agents in processes, killed while their gateway lives ----------------------------------------


@pytest.mark.chaos
async def test_a_turn_that_waits_outlives_its_agents_process_and_goes_on_in_the_next(directory):
    async with in_processes(directory) as service:
        conversation, stream, before, request_id = await waits(service, REFUND, TRANSFER)
        shown = status_of(conversation)
        os.kill(conversation.pid, signal.SIGKILL)
        (restarted,) = await stream.until("agent_restarted")
        assert data_of(restarted)["memory"] == "kept"
        assert status_of(conversation) == {**shown, "lastEventIndex": restarted.index}
        conversation.approve(reference_in(before, "approval_required"))
        after = await stream.until("agent_end", "agent_abort")
        assert after[-1].name == "agent_end"
        assert {each.request_id for each in after} == {request_id}
        assert ran([*before, *after]) == ["refund", "transfer"]
        conversation.prompt("tell")
        told = json.loads(text(await stream.until("agent_end")))
        stream.close()
        assert told == [["refund", "paid back 7"], ["transfer", "sent 5"]]
        assert conversation.restarts == 1
        roles = [each.role for each in conversation.history.all()]
        assert roles[2:8] == ["user", *("assistant", "tool_result") * 2, "assistant"]
    async with stored(directory, WAITING) as service:
        again = await found(service)
        assert [each.role for each in again.history.all()] == roles


@pytest.mark.chaos
async def test_a_question_outlives_its_agents_process_and_its_call_ends_with_the_answer(directory):
    async with in_processes(directory) as service:
        conversation, stream, before, request_id = await waits(service, SURE, asked="ask_user")
        os.kill(conversation.pid, signal.SIGKILL)
        await stream.until("agent_restarted")
        (pending,) = status_of(conversation)["pendingQuestions"]
        conversation.respond(pending["ref"], "quite")
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
    begun = [data_of(each)["callId"] for each in before if each.name == "tool_execution_start"]
    ends = [data_of(each) for each in after if each.name == "tool_execution_end"]
    assert [(each["callId"], each["result"]) for each in ends] == [(begun[0], "quite")]
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)


@pytest.mark.chaos
async def test_an_answer_given_as_the_process_is_killed_is_what_the_next_agent_goes_on_with(
    directory,
):
    async with in_processes(directory) as service:
        conversation, stream, before, request_id = await waits(service, TRANSFER)
        service.disk.hold()
        conversation.approve(reference_in(before, "approval_required"))
        await soon(service.disk.held.is_set)
        os.kill(conversation.pid, signal.SIGKILL)
        await soon(lambda: conversation.restarting)
        assert not conversation.parts.approvals
        service.disk.moves.set()
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
    assert ran(after) == ["transfer"]
    assert names(after).count("approval_resolved") == 1
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)


@pytest.mark.chaos
async def test_a_turn_that_went_on_is_cut_off_when_its_process_is_killed(directory):
    async with in_processes(directory) as service:
        conversation, stream, before, request_id = await waits(service, TRANSFER, end="hang")
        conversation.approve(reference_in(before, "approval_required"))
        went_on = await stream.until("tool_execution_end")
        os.kill(conversation.pid, signal.SIGKILL)
        after = await stream.until("agent_abort")
        await stream.until("agent_restarted")
        stream.close()
    assert ran([*went_on, *after]) == ["transfer"]
    assert after[-1].request_id == request_id


@pytest.mark.parametrize("rules", [{"restart": "never"}, {"restart_limit": RestartLimit(1, 60.0)}])
@pytest.mark.chaos
async def test_where_no_agent_may_come_any_more_the_turn_that_waits_ends_once(directory, rules):
    async with in_processes(directory, **rules) as service:
        conversation, stream, _, _ = await waits(service, TRANSFER)
        if "restart_limit" in rules:
            os.kill(conversation.pid, signal.SIGKILL)
            await stream.until("agent_restarted")
        os.kill(conversation.pid, signal.SIGKILL)
        events = await stream.rest()
        stream.close()
    assert names(events) == ["approval_resolved", "error", "agent_abort", "session_end"]
    assert data_of(events[0])["status"] == "cancelled"


@pytest.mark.chaos
async def test_a_turn_that_waits_without_its_agent_can_be_aborted_and_the_next_begins(directory):
    async with in_processes(directory) as service:
        conversation, stream, _, _ = await waits(service, TRANSFER)
        os.kill(conversation.pid, signal.SIGKILL)
        await stream.until("agent_restarted")
        conversation.abort("enough")
        events = await stream.until("agent_abort")
        assert names(events) == ["approval_resolved", "agent_abort"]
        conversation.prompt("tell")
        await stream.until("agent_end")
        stream.close()


@pytest.mark.chaos
async def test_a_turn_that_waits_outlives_its_process_and_then_its_gateway(directory):
    async with in_processes(directory) as service:
        conversation, stream, before, request_id = await waits(service, REFUND, TRANSFER)
        os.kill(conversation.pid, signal.SIGKILL)
        await stream.until("agent_restarted")
        stream.close()
    async with stored(directory, WAITING) as service:
        conversation = await found(service)
        assert conversation.state == "waiting_approval"
        stream = Stream(conversation, since=before[-1].id)
        conversation.approve(reference_in(before, "approval_required"))
        events = await stream.until("agent_end")
        stream.close()
    assert ran(events) == ["transfer"]
    assert events[-1].request_id == request_id
