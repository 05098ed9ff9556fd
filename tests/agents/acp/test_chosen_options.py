"""A client's answer is the option that it chose, or the one that its verb stands for."""

import pytest

from frontdesk.sessions.errors import OptionRefused
from support.acp import open_acp_session
from support.sessions import Stream, data_of, status_of, text

pytestmark = pytest.mark.anyio

KINDS = "allow_once allow_always reject_once reject_always sometimes"


async def asked_in(conversation, stream, kinds=KINDS):
    """Have the agent ask, with an option of each kind; return the approval's id."""
    conversation.prompt(kinds)
    return data_of((await stream.until("approval_required"))[-1])["approvalId"]


async def answered(verb, option_id, kinds=KINDS):
    """Answer by an option; return how that was resolved, and what the agent was told."""
    async with open_acp_session("Careful") as conversation:
        stream = Stream(conversation)
        asked = await asked_in(conversation, stream, kinds)
        getattr(conversation, verb)(asked, option_id=option_id)
        events = await stream.until("agent_end")
        stream.close()
        (resolved,) = [data_of(each) for each in events if each.name == "approval_resolved"]
        return resolved, text(events)


@pytest.mark.parametrize(
    ("verb", "status", "option_id"),
    [
        ("approve", "approved", "opt-allow_always"),
        ("approve", "approved", "opt-sometimes"),
        ("reject", "rejected", "opt-reject_always"),
        ("reject", "rejected", "opt-sometimes"),
    ],
)
async def test_the_option_that_a_client_chose_is_the_agents_answer(verb, status, option_id):
    resolved, told = await answered(verb, option_id)
    assert (resolved["status"], resolved["optionId"]) == (status, option_id)
    assert told == f"selected {option_id}"


@pytest.mark.parametrize(
    ("verb", "option_id"), [("approve", "opt-allow_once"), ("reject", "opt-reject_once")]
)
async def test_the_option_that_a_verb_stands_for_is_told(verb, option_id):
    resolved, told = await answered(verb, None)
    assert resolved["optionId"] == option_id
    assert told == f"selected {option_id}"


async def test_an_option_of_a_kind_that_nobody_knows_can_be_chosen_where_there_is_no_other():
    resolved, told = await answered("approve", "opt-perhaps", "perhaps")
    assert (resolved["status"], told) == ("approved", "selected opt-perhaps")


async def test_a_yes_that_is_not_offered_has_no_option():
    resolved, told = await answered("approve", None, "reject_once")
    assert (resolved["status"], resolved["optionId"]) == ("cancelled", None)
    assert told == "cancelled None"


@pytest.mark.parametrize(
    ("verb", "option_id", "problem"),
    [
        ("approve", "opt-nope", "is none of those that are offered: opt-allow_once, opt-allow_al"),
        ("approve", "opt-reject_once", "does not approve"),
        ("reject", "opt-allow_once", "does not reject"),
    ],
)
async def test_an_option_that_cannot_be_chosen_is_refused_and_the_approval_waits(
    verb, option_id, problem
):
    async with open_acp_session("Careful") as conversation:
        stream = Stream(conversation)
        asked = await asked_in(conversation, stream)
        with pytest.raises(OptionRefused, match=f"'{option_id}' {problem}"):
            getattr(conversation, verb)(asked, option_id=option_id)
        assert len(status_of(conversation)["pendingApprovals"]) == 1
        conversation.approve(asked)
        await stream.until("agent_end")
        stream.close()


async def test_an_option_is_refused_where_the_approval_has_none():
    async with open_acp_session("Careful") as conversation:
        stream = Stream(conversation)
        asked = await asked_in(conversation, stream, " ")
        with pytest.raises(OptionRefused, match="this approval has no options"):
            conversation.approve(asked, option_id="yes")
        conversation.reject(asked)
        await stream.until("agent_end")
        stream.close()
