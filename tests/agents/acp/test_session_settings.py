"""An agent's modes and other options are as the operator wants them, or its session is refused."""

import json

import pytest

from frontdesk.agents.errors import CreateFailed
from support.acp import open_acp_service, open_acp_session, open_session, session_command, turn_of
from support.sessions import Stream, data_of, names, text

pytestmark = pytest.mark.anyio

MODAL, SETTABLE = session_command("Modal"), session_command("Settable")


@pytest.mark.parametrize("wanted", ["plan", "Plan only"])
async def test_a_mode_is_set_before_the_first_turn(wanted):
    async with open_acp_session(MODAL, settings={"mode": wanted}) as conversation:
        assert text(await turn_of(conversation, "which?")) == "plan"


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"mode": "plan"}, {"mode": "plan", "effort": "low", "fast": False}),
        ({"effort": "High", "fast": True}, {"mode": "build", "effort": "high", "fast": True}),
        ({"thought_level": "high"}, {"mode": "build", "effort": "high", "fast": False}),
        ({}, {"mode": "build", "effort": "low", "fast": False}),
    ],
)
async def test_options_are_set_by_id_or_category_and_value_or_name(settings, values):
    async with open_acp_session(SETTABLE, settings=settings) as conversation:
        assert json.loads(text(await turn_of(conversation, "which?"))) == values


@pytest.mark.parametrize(
    ("habit", "settings", "problem"),
    [
        ("Modal", {"mode": "guess"}, "option 'mode' is never 'guess': it is one of build, plan"),
        ("Modal", {"effort": "high"}, "no option 'effort': it has mode"),
        ("Settable", {"speed": "high"}, "no option 'speed': it has mode, effort, fast"),
        ("Settable", {"effort": "all"}, "option 'effort' is never 'all': it is one of low, high"),
        ("Settable", {"fast": "yes"}, "option 'fast' is true or false"),
        ("Settable", {"mode": True}, "option 'mode' is never True"),
        ("Unmoved", {"mode": "plan"}, "option 'mode' stays 'build'"),
        ("Refusing", {"mode": "plan"}, "does not set its option 'mode'"),
        ("Served", {"mode": "plan"}, "no option 'mode': it has none"),
    ],
)
async def test_what_the_agent_does_not_have_or_set_refuses_its_session(habit, settings, problem):
    async with open_acp_service(session_command(habit), settings=settings) as service:
        with pytest.raises(CreateFailed, match=problem):
            await open_session(service)
        assert not len(service.keeper)


@pytest.mark.parametrize("command", [MODAL, SETTABLE])
async def test_an_agents_own_change_of_its_mode_is_told(command):
    async with open_acp_session(command, settings={"mode": "plan"}) as conversation:
        stream = Stream(conversation)
        await turn_of(conversation, "change build")
        events = await stream.until("agent_end")
        stream.close()
        (told,) = [data_of(each) for each in events if each.name == "option_changed"]
        request_id = data_of(events[-1])["requestId"]
        assert told == {"requestId": request_id, "optionId": "mode", "value": "build"}


@pytest.mark.parametrize("command", [MODAL, SETTABLE])
async def test_what_the_operator_has_set_is_not_told_as_the_agents_own_change(command):
    async with open_acp_session(command, settings={"mode": "plan"}) as conversation:
        stream = Stream(conversation)
        await turn_of(conversation, "which?")
        assert "option_changed" not in names(await stream.until("agent_end"))
        stream.close()


async def test_the_options_are_known_once_an_agent_was_started():
    async with open_acp_service(SETTABLE, settings={"mode": "plan"}) as service:
        blueprint = service.blueprints["coder"]
        assert blueprint.agent_options() is None
        await open_session(service)
        listed = {each.option_id: each for each in blueprint.agent_options()}
        assert list(listed) == ["mode", "effort", "fast"]
        assert listed["mode"].value == "plan"
        values = [(each.value, each.name) for each in listed["mode"].values]
        assert values == [("build", "Build"), ("plan", "Plan only")]
        assert (listed["fast"].value, listed["fast"].values) == (False, ())


async def test_modes_beside_the_options_are_listed_as_one():
    async with open_acp_service(MODAL) as service:
        await open_session(service)
        (mode,) = service.blueprints["coder"].agent_options()
        assert (mode.option_id, mode.value) == ("mode", "build")
