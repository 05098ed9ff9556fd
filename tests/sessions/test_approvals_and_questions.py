"""Approvals and questions: each waits, is answered once, or expires."""

import asyncio

import pytest

from frontdesk.agents.errors import (
    QuestionExpired,
)
from frontdesk.sessions.errors import (
    UnknownReference,
)
from support.sessions import (
    Stream,
    data_of,
    names,
    open_service,
    open_session,
    parrot,
    scripted,
    status_of,
    text,
)

pytestmark = pytest.mark.anyio


# -- approvals -------------------------------------------------------------------------------------


async def approving(turn):
    answer = await turn.approval("rm", {"path": "/"}, hint="removes everything")
    yield f"{answer.status}:{answer.reason}:{bool(answer)}"


async def test_an_approval_waits_and_is_resolved_once():
    async with open_service(scripted(approving)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, required) = await stream.until("approval_required")
        shown = data_of(required)
        assert (shown["toolName"], shown["args"]) == ("rm", {"path": "/"})
        assert shown["hint"] == "removes everything"
        assert conversation.state == "waiting_approval"
        (pending,) = status_of(conversation)["pendingApprovals"]
        assert pending["approvalId"] == shown["approvalId"]
        conversation.approve(shown["approvalId"], "fine")
        with pytest.raises(UnknownReference):
            conversation.reject(shown["approvalId"])
        came = await stream.until("agent_end")
        stream.close()
        assert data_of(came[0])["status"] == "approved"
        assert text(came) == "approved:fine:True"
        assert status_of(conversation)["pendingApprovals"] == []


async def test_a_rejection_is_told_to_the_agent_and_the_turn_goes_on():
    async with open_service(scripted(approving)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, required) = await stream.until("approval_required")
        conversation.reject(data_of(required)["approvalId"])
        came = await stream.until("agent_end")
        stream.close()
        assert names(came)[0] == "approval_resolved"
        assert data_of(came[0])["status"] == "rejected"
        assert text(came) == "rejected:None:False"


async def test_an_approval_that_nobody_answers_expires_and_the_turn_goes_on():
    async with open_service(scripted(approving), approval_timeout_s=0.02) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        came = await stream.until("agent_end")
        stream.close()
        (resolved,) = [event for event in came if event.name == "approval_resolved"]
        assert data_of(resolved)["status"] == "expired"
        assert text(came) == "expired:None:False"
        with pytest.raises(UnknownReference):
            conversation.approve(data_of(resolved)["approvalId"])


async def test_an_abort_cancels_the_approval_that_is_waited_for():
    async with open_service(scripted(approving)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("approval_required")
        conversation.abort()
        came = await stream.until("agent_abort")
        stream.close()
        assert names(came) == ["approval_resolved", "agent_abort"]
        assert data_of(came[0])["status"] == "cancelled"


async def test_several_approvals_wait_at_once_and_are_answered_in_any_order():
    async def script(turn):
        answers = await asyncio.gather(*(turn.approval(f"t{n}") for n in range(3)))
        yield ",".join(answer.status for answer in answers)

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        came = await stream.until("approval_required", count=3)
        refs = [data_of(event)["approvalId"] for event in came if event.name == "approval_required"]
        conversation.reject(refs[2])
        conversation.approve(refs[0])
        assert conversation.state == "waiting_approval"
        conversation.approve(refs[1])
        assert conversation.state == "working"
        assert text(await stream.until("agent_end")) == "approved,approved,rejected"
        stream.close()


@pytest.mark.parametrize("verb", ["approve", "reject", "respond"])
async def test_an_unknown_reference_is_refused(verb):
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        arguments = ("nothing", "x") if verb == "respond" else ("nothing",)
        with pytest.raises(UnknownReference):
            getattr(conversation, verb)(*arguments)


# -- questions -------------------------------------------------------------------------------------


async def asking(turn):
    try:
        yield f"you said {await turn.ask('which one?')}"
    except QuestionExpired:
        yield "nobody answered"


async def test_a_question_waits_for_its_response():
    async with open_service(scripted(asking)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, asked) = await stream.until("ask_user")
        assert data_of(asked)["question"] == "which one?"
        assert conversation.state == "waiting_input"
        assert status_of(conversation)["pendingQuestions"][0]["ref"] == data_of(asked)["ref"]
        conversation.respond(data_of(asked)["ref"], "the left one")
        with pytest.raises(UnknownReference):
            conversation.respond(data_of(asked)["ref"], "the right one")
        assert text(await stream.until("agent_end")) == "you said the left one"
        stream.close()


async def test_a_question_that_nobody_answers_expires():
    async with open_service(scripted(asking), question_timeout_s=0.02) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        assert text(await stream.until("agent_end")) == "nobody answered"
        stream.close()


@pytest.mark.parametrize("size", [1_100_000, 12_000_000])
async def test_an_approval_that_waits_holds_no_more_than_what_went_out(size):
    async def script(turn):
        await turn.approval("write", {"text": "x" * size}, hint="writes much")
        yield "done"

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, required) = await stream.until("approval_required")
        (pending,) = conversation.parts.approvals.requests()
        shown = data_of(required)
        assert pending.args == shown["args"]
        assert len(str(pending.args)) < 100
        assert pending.approval_id == shown["approvalId"]
        conversation.approve(pending.approval_id)
        await stream.until("agent_end")
        stream.close()
