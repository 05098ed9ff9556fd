"""Turns that wait for somebody wait on when their session is closed, or their gateway ends."""

import json
from contextlib import asynccontextmanager

import pytest

from frontdesk.agents.attachments import Attachment
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.records import ExitReason
from support.sessions import Stream, data_of, names, soon, status_of, text
from support.stored_services import found, on_held_disk

pytest.importorskip("pydantic_ai")

from support.waiting_turns import (
    REFUND,
    SURE,
    TRANSFER,
    WAITING,
    in_processes,
    ran,
    reference_in,
    waits,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CLOSED = ExitReason.of("closed")
NOTES = Attachment(name="n.txt", media_type="text/plain", content=b"a word")


@pytest.fixture(params=["task", "process"])
def opened(request, tmp_path):
    """Return what opens a service whose agents are tasks, or have processes, on one directory."""

    @asynccontextmanager
    async def opened():
        in_it = on_held_disk(tmp_path, WAITING)
        if request.param == "process":
            in_it = in_processes(tmp_path)
        async with in_it as service:
            yield service

    return opened


async def close(service):
    """Close the session as a client does; return it as it is answered."""
    return await service.tenant("acme", "key-1").close("s-1")


async def test_a_session_whose_turn_waits_is_closed_and_the_turn_goes_on_with_the_answer(opened):
    async with opened() as service:
        conversation, stream, before, request_id = await waits(service, REFUND, TRANSFER)
        shown = status_of(conversation)
        closed = await close(service)
        assert (closed.state, closed.dormant) == ("waiting_approval", True)
        await closed.committed()
        assert status_of(closed) == shown
        later = closed.prompt("tell")
        assert later.queued
        assert closed.dormant, "what waits behind it starts no agent"
        closed.approve(reference_in(before, "approval_required"))
        after = await stream.until("agent_end", "agent_abort")
        assert names(after)[:2] == ["approval_resolved", "agent_restarted"]
        assert data_of(after[1])["memory"] == "kept"
        assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)
        assert ran([*before, *after]) == ["refund", "transfer"]
        end = await closed.ends.wait(request_id)
        assert (end.aborted, end.text) == (None, "so far ")
        told = json.loads(text(await stream.until("agent_end")))
        stream.close()
        assert told == [["refund", "paid back 7"], ["transfer", "sent 5"]]
        messages = closed.history.all()
    async with opened() as service:
        again = await found(service)
        assert again.state == "idle"
        assert again.history.all() == messages


@pytest.mark.parametrize("opened", ["task"], indirect=True)
async def test_a_question_of_a_session_that_is_closed_is_answered_later(opened):
    async with opened() as service:
        _, stream, before, request_id = await waits(service, SURE, asked="ask_user")
        closed = await close(service)
        assert closed.state == "waiting_input"
        closed.respond(reference_in(before, "ask_user"), "quite")
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
    ends = [data_of(each)["result"] for each in after if each.name == "tool_execution_end"]
    assert ends == ["quite"]
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)


async def test_a_turn_that_waits_as_its_gateway_ends_waits_on_in_the_next(opened):
    async with opened() as service:
        _, stream, before, request_id = await waits(service, REFUND, TRANSFER)
        stream.close()
    async with opened() as service:
        conversation = await found(service)
        assert conversation.state == "waiting_approval"
        stream = Stream(conversation, since=before[-1].id)
        conversation.approve(reference_in(before, "approval_required"))
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
    assert names(after)[:2] == ["approval_resolved", "agent_restarted"]
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)
    assert ran(after) == ["transfer"]


async def test_an_answer_that_is_being_stored_as_the_session_is_closed_is_gone_on_with(opened):
    async with opened() as service:
        conversation, stream, before, request_id = await waits(service, TRANSFER)
        service.disk.hold()
        conversation.approve(reference_in(before, "approval_required"))
        await soon(service.disk.held.is_set)
        await close(service)
        service.disk.moves.set()
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)
    assert ran(after) == ["transfer"]
    assert names(after).count("approval_resolved") == 1


async def test_an_answer_that_comes_while_the_agent_is_being_ended_is_for_the_next_one(opened):
    async with opened() as service:
        conversation, stream, before, request_id = await waits(service, TRANSFER)
        live_session = service._live.of(conversation)
        ending = service._supervisor.begin_ending(live_session, CLOSED, dormant=True)
        await soon(lambda: conversation.suspended is not None)
        conversation.approve(reference_in(before, "approval_required"))
        await ending
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
    assert names(after)[:2] == ["approval_resolved", "agent_restarted"]
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)
    assert ran(after) == ["transfer"]


@pytest.mark.parametrize("opened", ["task"], indirect=True)
async def test_an_answer_to_a_closed_session_that_was_not_stored_in_time_is_given_again(opened):
    async with opened() as service:
        _, stream, before, request_id = await waits(service, TRANSFER)
        closed = await close(service)
        service.disk.hold()
        for _ in range(2):
            closed.approve(reference_in(before, "approval_required"))
            with pytest.raises(StorageUnavailable):
                await closed.record.committed(wait_s=0.01)
        service.disk.moves.set()
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
        closed.approve(reference_in(before, "approval_required"))
    assert ran(after) == ["transfer"]
    assert names(after).count("approval_resolved") == 1
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)


async def test_a_turn_that_waits_and_is_another_owners_by_now_holds_and_writes_nothing_here(
    tmp_path,
):
    async with on_held_disk(tmp_path, WAITING) as service:
        conversation, stream, _, _ = await waits(service, TRANSFER, attachments=[NOTES])
        closed = await close(service)
        assert service.attachments.held("acme") == NOTES.size
        service._on_lost(conversation.number)
        assert service.attachments.held("acme") == 0
        assert len(closed.parts.approvals) == 0, "it expires elsewhere"
        stream.close()


@pytest.mark.parametrize("opened", ["task"], indirect=True)
async def test_a_turn_that_waits_in_a_closed_session_can_be_aborted(opened):
    async with opened() as service:
        _, stream, _, request_id = await waits(service, REFUND, TRANSFER)
        closed = await close(service)
        closed.abort("enough")
        events = await stream.until("agent_abort")
        assert names(events) == ["approval_resolved", "agent_abort"]
        assert events[-1].request_id == request_id
        assert closed.dormant
        closed.prompt("tell")
        done = json.loads(text(await stream.until("agent_end")))
        stream.close()
    assert done[0] == ["refund", "paid back 7"]


@pytest.mark.parametrize("opened", ["task"], indirect=True)
async def test_a_session_whose_turn_waits_can_be_closed_again_and_again(opened):
    async with opened() as service:
        _, stream, before, request_id = await waits(service, TRANSFER)
        for _ in range(2):
            closed = await close(service)
            assert (closed.state, closed.dormant) == ("waiting_approval", True)
            await service.tenant("acme", "key-1").resume("s-1")
            assert (closed.state, closed.live) == ("waiting_approval", True)
        closed.approve(reference_in(before, "approval_required"))
        after = await stream.until("agent_end", "agent_abort")
        stream.close()
    assert names(after).count("agent_restarted") == 2
    assert (after[-1].name, after[-1].request_id) == ("agent_end", request_id)
    assert ran(after) == ["transfer"]
