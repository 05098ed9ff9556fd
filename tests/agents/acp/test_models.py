"""The model that was asked for is the one that answers, or the session is refused."""

import pytest

from frontdesk.agents.errors import ModelRefused
from support.acp import open_acp_service, open_acp_session, open_session, turn_of
from support.sessions import Stream, data_of, info_of, names, text

pytestmark = pytest.mark.anyio

CHOOSY = ["Choosy", "ChoosyBefore", "Terse"]


@pytest.mark.parametrize("habit", CHOOSY)
@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("house/large", "house/large"),
        ("Large", "house/large"),
        ("large", "house/large"),
        ("default", "house/small"),
    ],
)
async def test_a_model_is_chosen_among_those_that_the_agent_offers(habit, model, answer):
    async with open_acp_session(habit, order={"model": model}) as conversation:
        assert text(await turn_of(conversation, "which?")) == answer


@pytest.mark.parametrize("habit", CHOOSY)
async def test_a_model_that_the_agent_does_not_have_is_refused(habit):
    async with open_acp_service(habit) as service:
        with pytest.raises(ModelRefused, match=r"house/small, house/large"):
            await open_session(service, model="huge")


@pytest.mark.parametrize(
    ("habit", "why"),
    [
        ("Stubborn", "goes on with house/small"),
        ("Refractory", "does not change to it"),
        ("RefractoryBefore", "does not change to it"),
    ],
)
async def test_a_model_that_does_not_answer_though_it_is_offered_is_refused(habit, why):
    async with open_acp_service(habit) as service:
        with pytest.raises(ModelRefused, match=why):
            await open_session(service, model="large")
        assert not len(service.keeper)
        conversation = await open_session(service, model="small")
        assert text(await turn_of(conversation, "which?")) == "house/small"


@pytest.mark.parametrize("model", ["whatever", "house/small", "Default"])
async def test_only_the_default_can_be_asked_of_an_agent_that_offers_no_choice(model):
    async with open_acp_service("Agent") as service:
        with pytest.raises(ModelRefused, match="no choice of models: ask for default"):
            await open_session(service, model=model)
        conversation = await open_session(service, model="default")
        assert text(await turn_of(conversation, "hello")) == "hello"


@pytest.mark.parametrize("habit", CHOOSY)
async def test_a_switch_of_the_model_takes_effect_at_the_next_turn(habit):
    async with open_acp_session(habit, order={"model": "small"}) as conversation:
        conversation.switch_model("large")
        assert text(await turn_of(conversation, "which?")) == "house/large"
        conversation.switch_model("huge")
        events = await turn_of(conversation, "which?")
        assert data_of(events[-2])["reason"] == "ModelRefused"
        conversation.switch_model("default")
        assert text(await turn_of(conversation, "which?")) == "house/small"


@pytest.mark.parametrize("habit", ["Wayward", "WaywardBefore"])
async def test_an_agents_own_change_of_its_model_is_heard_and_stays(habit):
    async with open_acp_session(habit, order={"model": "small"}) as conversation:
        stream = Stream(conversation)
        assert text(await turn_of(conversation, "which?")) == "house/small"
        assert text(await turn_of(conversation, "change house/large")) == "house/large"
        switched = await stream.until("agent_end", count=2)
        stream.close()
        (told,) = [data_of(each) for each in switched if each.name == "model_switched"]
        assert (told["from"], told["to"]) == ("small", "house/large")
        assert told["requestId"] == data_of(switched[-1])["requestId"]
        assert info_of(conversation)["model"] == "house/large"
        assert text(await turn_of(conversation, "which?")) == "house/large"
        # One that it never offered is its own affair: nobody asks it to change back.
        assert text(await turn_of(conversation, "change secret")) == "secret"
        assert text(await turn_of(conversation, "which?")) == "secret"


@pytest.mark.parametrize("habit", CHOOSY)
async def test_a_change_that_was_asked_for_is_told_once(habit):
    async with open_acp_session(habit, order={"model": "small"}) as conversation:
        stream = Stream(conversation)
        conversation.switch_model("large")
        await turn_of(conversation, "which?")
        assert names(await stream.until("agent_end")).count("model_switched") == 1
        stream.close()
