"""An answer that was not stored in time is given again: it counts once, and 200 says so then."""

import pytest

from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.sessions.errors import UnknownReference
from support.sessions import Stream, data_of, names, open_session, scripted, text
from support.stored_services import on_held_disk

pytestmark = pytest.mark.anyio


async def asking(turn):
    answer = await turn.approval("rm", {"path": "/"})
    yield f"{answer.status} {await turn.ask('which one?')}"


async def begun(service):
    """Open a session that asks; return it, its stream, and what the approval is named."""
    conversation = await open_session(service, session_id="s-1")
    await conversation.committed()
    stream = Stream(conversation)
    conversation.prompt("go")
    asked = await stream.until("approval_required")
    return conversation, stream, data_of(asked[-1])["approvalId"]


async def not_in_time(conversation):
    """Wait for the storage for less than it takes."""
    with pytest.raises(StorageUnavailable):
        await conversation.record.committed(wait_s=0.01)


async def test_an_answer_that_was_not_stored_in_time_is_given_again_until_it_is(tmp_path):
    async with on_held_disk(tmp_path, scripted(asking)) as service:
        conversation, stream, approval_id = await begun(service)
        service.disk.hold()
        conversation.approve(approval_id, "fine")
        for _ in range(2):
            await not_in_time(conversation)
            conversation.approve(approval_id, "fine")
            with pytest.raises(UnknownReference):
                conversation.approve(approval_id, "well")
            with pytest.raises(UnknownReference):
                conversation.reject(approval_id, "fine")
        service.disk.moves.set()
        await conversation.committed()
        asked = data_of((await stream.until("ask_user"))[-1])
        service.disk.hold()
        conversation.respond(asked["ref"], ["this"])
        await not_in_time(conversation)
        conversation.respond(asked["ref"], ["this"])
        service.disk.moves.set()
        conversation.approve(approval_id, "fine")
        events = await stream.until("agent_end")
        assert text(events) == "approved ['this']"
        conversation.respond(asked["ref"], ["this"])
        await conversation.committed()
        for other in (["that"], None):
            with pytest.raises(UnknownReference):
                conversation.respond(asked["ref"], other)
        stream.close()
        everything = Stream(conversation, since="0")
        whole = await everything.until("agent_end")
        everything.close()
    assert names(whole).count("approval_resolved") == 1


async def test_an_answer_that_was_stored_in_time_is_given_once(tmp_path):
    async with on_held_disk(tmp_path, scripted(asking)) as service:
        conversation, stream, approval_id = await begun(service)
        conversation.approve(approval_id)
        await conversation.committed()
        service.disk.hold()
        conversation.steer("faster")
        await not_in_time(conversation)
        with pytest.raises(UnknownReference):
            conversation.approve(approval_id)
        service.disk.moves.set()
        stream.close()


async def test_the_repetition_of_an_answer_counts_nothing_for_its_key(tmp_path):
    async with on_held_disk(tmp_path, scripted(asking)) as service:
        conversation, stream, approval_id = await begun(service)
        service.disk.hold()
        conversation.approve(approval_id, api_key="key-2")
        await not_in_time(conversation)
        conversation.approve(approval_id, api_key="key-3")
        assert conversation.turn.api_key == "key-2"
        service.disk.moves.set()
        stream.close()


async def test_a_repetition_ends_with_what_is_remembered_of_the_last_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("frontdesk.sessions.conversation_record.MAX_REPEATABLE", 1)
    async with on_held_disk(tmp_path, scripted(asking)) as service:
        conversation, stream, approval_id = await begun(service)
        service.disk.hold()
        conversation.approve(approval_id)
        await not_in_time(conversation)
        service.disk.moves.set()
        ref = data_of((await stream.until("ask_user"))[-1])["ref"]
        service.disk.hold()
        conversation.respond(ref, 1)
        await not_in_time(conversation)
        conversation.respond(ref, 1)
        with pytest.raises(UnknownReference):
            conversation.approve(approval_id)
        service.disk.moves.set()
        stream.close()
