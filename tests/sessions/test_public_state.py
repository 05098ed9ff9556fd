"""What is shown of a session that is stored: what the last commit left of it, and nothing later."""

import asyncio
import shutil

import pytest

from frontdesk.agents import CallbackTool
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.rows.local_rows import LocalRows
from frontdesk.sessions.checkpoints import Checkpoints
from frontdesk.sessions.listing import SessionQuery
from frontdesk.testing import ManualClock
from support.sessions import (
    BOUND_S,
    Stream,
    info_of,
    open_session,
    passes,
    scripted,
    soon,
    stats_of,
    status_of,
)
from support.stored_services import found, on_held_disk, stored

pytestmark = pytest.mark.anyio


def row_of(service, conversation):
    """Return what operators are shown of a session."""
    rows = LocalRows(clock=ManualClock(), node="n", run="r", held=service.all_held)
    return rows.row(conversation)


async def asking(turn):
    if turn.text == "ask":
        yield str(await turn.ask("why?"))
    else:
        yield (await turn.approval("shell", {"do": 1})).status


class AskingLater:
    """An agent that asks once it is let."""

    def __init__(self):
        self.go = asyncio.Event()

    async def __call__(self, turn):
        await self.go.wait()
        async for said in asking(turn):
            yield said

    async def begin(self, service, conversation, prompt):
        """Begin a turn, hold up what is stored after that, and have the agent ask."""
        stream = Stream(conversation)
        conversation.prompt(prompt)
        await stream.until("agent_start")
        stream.close()
        await conversation.committed()
        service.disk.hold()
        before = status_of(conversation)
        assert before["state"] == "working"
        self.go.set()
        await soon(lambda: conversation.parts.approvals or conversation.parts.questions)
        return before


@pytest.mark.parametrize("prompt", ["approve", "ask"])
async def test_what_is_asked_is_shown_once_it_is_stored(tmp_path, prompt):
    later = AskingLater()
    async with on_held_disk(tmp_path, scripted(later.__call__)) as service:
        conversation = await open_session(service)
        before = await later.begin(service, conversation, prompt)
        await soon(service.disk.held.is_set)
        assert status_of(conversation) == before
        assert info_of(conversation)["state"] == "working"
        row = row_of(service, conversation)
        assert (row.state, row.approvals, row.questions) == ("working", 0, 0)
        service.disk.moves.set()
        await conversation.committed()
        status = status_of(conversation)
        assert len(status["pendingApprovals"] + status["pendingQuestions"]) == 1
        assert status["state"] == ("waiting_approval" if prompt == "approve" else "waiting_input")
        assert row_of(service, conversation).state == status["state"]


async def test_an_approval_is_shown_as_open_until_its_answer_is_stored(tmp_path):
    async with on_held_disk(tmp_path, scripted(asking)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("approve")
        await stream.until("approval_required")
        (asked,) = status_of(conversation)["pendingApprovals"]
        service.disk.hold()
        conversation.approve(asked["approvalId"])
        await soon(service.disk.held.is_set)
        assert status_of(conversation)["pendingApprovals"] == [asked]
        service.disk.moves.set()
        await stream.until("agent_end")
        stream.close()
        assert status_of(conversation)["pendingApprovals"] == []


async def test_an_answer_to_what_is_not_stored_yet_waits_until_both_are(tmp_path):
    later = AskingLater()
    async with on_held_disk(tmp_path, scripted(later.__call__)) as service:
        conversation = await open_session(service)
        await later.begin(service, conversation, "approve")
        (asked,) = conversation.parts.approvals.requests()
        conversation.approve(asked.approval_id)
        answered = asyncio.create_task(conversation.committed())
        await soon(service.disk.held.is_set)
        await passes()
        assert not answered.done()
        assert conversation.turn is not None, "its agent has no answer yet"
        service.disk.moves.set()
        async with asyncio.timeout(BOUND_S):
            await answered
        stream = Stream(conversation)
        await stream.until("agent_end")
        stream.close()


async def test_model_usage_and_the_end_of_a_turn_are_shown_once_they_are_stored(tmp_path):
    async def script(turn):
        turn.usage(prompt=5, completion=2)
        yield "done"

    async with on_held_disk(tmp_path, scripted(script, models=("none", "other"))) as service:
        conversation = await open_session(service)
        await conversation.committed()
        service.disk.hold()
        end = asyncio.create_task(conversation.ends.wait(conversation.prompt("go").request_id))
        conversation.switch_model("other")
        await soon(service.disk.held.is_set)
        info, stats, status = (
            info_of(conversation),
            stats_of(conversation),
            status_of(conversation),
        )
        assert (info["model"], info["state"], info["turns"]) == ("none", "idle", 0)
        assert (stats["promptCount"], stats["totalTokens"], stats["lastEventIndex"]) == (0, 0, 0)
        assert status["queues"]["prompts"] == 0
        service.disk.moves.set()
        async with asyncio.timeout(BOUND_S):
            await end
        await conversation.committed()
        info, stats = info_of(conversation), stats_of(conversation)
        assert (info["model"], info["state"], info["turns"]) == ("other", "idle", 1)
        assert (stats["promptCount"], stats["totalTokens"]) == (1, 7)
        assert stats["lastEventIndex"] == conversation.log.last_index


async def test_a_session_is_nowhere_before_it_is_stored(tmp_path):
    async with on_held_disk(tmp_path, scripted(asking)) as service:
        service.disk.hold()
        sessions = service.tenant("acme", "key-1")
        opening = asyncio.create_task(open_session(service, session_id="s-1"))
        await soon(service.disk.held.is_set)
        with pytest.raises(SessionNotFound):
            sessions.find("s-1")
        with pytest.raises(SessionNotFound):
            sessions.recent("s-1")
        assert (await sessions.listed(SessionQuery())).sessions == ()
        (being_opened,) = service.all_held()
        assert row_of(service, being_opened) is None
        service.disk.moves.set()
        async with asyncio.timeout(BOUND_S):
            conversation = await opening
        assert sessions.find("s-1") is conversation
        assert (await sessions.listed(SessionQuery())).sessions == (conversation,)


async def test_checkpoints_can_be_read_while_nothing_can_be_stored(tmp_path):
    async with on_held_disk(tmp_path, scripted(asking)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("ask")
        await stream.until("ask_user")
        conversation.abort()
        await stream.until("agent_abort")
        made = await Checkpoints(conversation).make("one")
        service.disk.hold()
        conversation.prompt("ask")
        await soon(service.disk.held.is_set)
        assert await Checkpoints(conversation).all() == [made]
        service.disk.moves.set()
        await stream.until("ask_user")
        stream.close()


async def test_who_follows_sessions_hears_of_what_is_shown_with_its_commit(tmp_path):
    class Observer:
        states = ()

        def __getattr__(self, name):
            return lambda *seen, **options: None

        def on_published(self, conversation):
            self.states = (*self.states, status_of(conversation)["state"])

    observer = Observer()
    async with on_held_disk(tmp_path, scripted(asking), observer=observer) as service:
        conversation = await open_session(service)
        assert observer.states == ("idle",)
        service.disk.hold()
        conversation.prompt("approve")
        await soon(service.disk.held.is_set)
        assert observer.states == ("idle",)
        service.disk.moves.set()
        await soon(lambda: observer.states[-1] == "waiting_approval")


async def test_what_was_shown_of_a_turn_under_way_is_known_after_it_is_cut_off(tmp_path):
    async def script(turn):
        turn.usage(prompt=5, completion=2)
        yield "so far"
        await turn.call_tool("look")

    async def called(*_, **__):
        await asyncio.Event().wait()

    class Caller:
        call = staticmethod(called)

    first, left = tmp_path / "first", tmp_path / "left"
    first.mkdir()
    async with stored(first, scripted(script), call_tool=Caller()) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.attach_tool(CallbackTool(name="look", callback_url="https://x.example/"))
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("tool_execution_start")
        conversation.prompt("more")
        await conversation.committed()
        before_info, before = info_of(conversation), stats_of(conversation)
        assert (before_info["toolCalls"], before["totalTokens"], before["promptCount"]) == (1, 7, 2)
        shutil.copytree(first, left)
        stream.close()
    async with stored(left, scripted(asking), call_tool=Caller()) as service:
        conversation = await found(service)
        info, after = info_of(conversation), stats_of(conversation)
        assert info["toolCalls"] >= before_info["toolCalls"]
        assert after["totalTokens"] >= before["totalTokens"]
        assert after["promptCount"] == before["promptCount"]
