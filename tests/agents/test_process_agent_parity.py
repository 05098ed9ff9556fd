"""An agent cannot tell whether it is a task or a process, and neither can its client.

Every test here runs both ways, over one description of what comes out.
"""

import asyncio
import json

import pytest

from frontdesk.agents import CallbackTool
from frontdesk.agents.errors import ToolFailed
from frontdesk.sessions.errors import SessionDead
from support.isolated_sessions import ISOLATIONS, open_either
from support.sessions import (
    Stream,
    data_of,
    names,
    open_session,
    stats_of,
    status_of,
    text,
)

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("isolation", ISOLATIONS)]

OPENING = ["prompt_received", "agent_start"]
UNDER_WAY = ("agent_end", "agent_abort")


async def turn_of(service, prompt="go", **order):
    """Run one turn in a session of its own, and return the session and its events."""
    conversation = await open_session(service, **order)
    return conversation, await next_turn(conversation, prompt)


async def next_turn(conversation, prompt):
    stream = Stream(conversation, since=str(conversation.log.last_index))
    conversation.prompt(prompt)
    events = await stream.until(*UNDER_WAY)
    stream.close()
    return events


async def test_what_it_yields_is_said(isolation):
    async with open_either(isolation, "parrot") as service:
        _, events = await turn_of(service, "hello my world")
        assert names(events) == [*OPENING, "message_start", *["message_delta"] * 3, "agent_end"]
        assert text(events) == "hello my world "
        assert data_of(events[-1])["lastMessage"]["content"] == "hello my world "


async def test_what_it_returns_is_said(isolation):
    async with open_either(isolation, "returner") as service:
        _, events = await turn_of(service, "hello")
        assert text(events) == "HELLO"


async def test_it_sees_its_turn(isolation):
    async with open_either(isolation, "witness") as service:
        order = {"user_data": {"a": [1, None]}, "provider_opts": {"x": 1.5}}
        conversation, events = await turn_of(service, "first", **order)
        seen = ["acme", "witness", "none", {"a": [1, None]}, {"x": 1.5}, "none"]
        assert text(events) == repr(["first", *seen, [], [], []])
        events = await next_turn(conversation, "second")
        history = [("user", "first"), ("assistant", repr(["first", *seen, [], [], []]))]
        assert text(events) == repr(["second", *seen, history, [], []])


async def test_it_emits_its_events_with_whatever_they_carry(isolation):
    async with open_either(isolation, "emitter") as service:
        conversation, events = await turn_of(service)
        said = [(event.name, {**data_of(event), "requestId": None}) for event in events]
        common = {"requestId": None}
        assert said[2:-1] == [
            ("thinking_start", common),
            ("thinking_delta", {**common, "delta": "hm"}),
            ("message_start", common),
            (
                "message_delta",
                {**common, "delta": "half \ufffd a pair, \x00 and ünïcode"},
            ),
            ("tool_calls", {**common, "count": 1}),
            (
                "tool_execution_start",
                {
                    **common,
                    "callId": "c1",
                    "toolName": "look",
                    "args": {"at": [1, 2.5, None], "what": "<type>"},
                },
            ),
            (
                "tool_execution_end",
                {
                    **common,
                    "callId": "c1",
                    "toolName": "look",
                    "status": "ok",
                    "result": {"seen": {"3": "three"}},
                    "durationMs": 5,
                },
            ),
            ("error", {**common, "reason": "not so bad"}),
            ("message_start", common),
            ("message_delta", {**common, "delta": "last"}),
        ]
        usage = data_of(events[-1])["tokenUsage"]
        assert usage == {"promptTokens": 10, "completionTokens": 5, "totalTokens": 15}
        stats = stats_of(conversation)
        assert (stats["costUsd"], stats["tokenUsage"]["cachedTokens"]) == (0.25, 3)


@pytest.mark.parametrize("name", ["forbidden", "babbler"])
async def test_what_is_not_its_to_say_ends_the_turn(isolation, name):
    async with open_either(isolation, name) as service:
        _, events = await turn_of(service)
        assert names(events) == [*OPENING, "error", "agent_abort"]
        assert data_of(events[-2])["reason"] == "InvalidType"


async def test_a_flood_comes_whole_and_in_order(isolation):
    async with open_either(isolation, "flooder") as service:
        _, events = await turn_of(service)
        assert text(events) == "".join(f"{number} " for number in range(5000))


async def test_a_long_text_comes_whole(isolation):
    async with open_either(isolation, "huge") as service:
        _, events = await turn_of(service)
        assert text(events) == "x" * 500_000


@pytest.mark.parametrize(
    ("prompt", "error"), [("value", "ValueError"), ("own", "LookupError"), ("exit", "AgentQuit")]
)
async def test_what_it_raises_ends_the_turn_and_not_the_session(isolation, prompt, error, caplog):
    async with open_either(isolation, "raiser") as service:
        conversation, events = await turn_of(service, prompt)
        assert names(events) == [*OPENING, "error", "agent_abort"]
        assert data_of(events[-2])["reason"] == error
        assert "not for clients" not in json.dumps([data_of(event) for event in events])
        assert text(await next_turn(conversation, "go on")) == "fine"
    if error != "AgentQuit":
        assert "not for clients" in caplog.text
        assert "process_agents.py" in caplog.text


async def test_ending_its_session_ends_the_turn_well(isolation):
    async with open_either(isolation, "raiser") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("end")
        events = await stream.rest()
        assert names(events) == [*OPENING, "agent_end", "session_end"]
        assert data_of(events[-1])["reason"] == "normal"


async def test_an_agent_that_cancels_itself_ends_its_turn(isolation):
    async with open_either(isolation, "raiser") as service:
        conversation, events = await turn_of(service, "cancel")
        assert names(events) == [*OPENING, "error", "agent_abort"]
        assert text(await next_turn(conversation, "go on")) == "fine"


@pytest.mark.parametrize(
    ("answer", "said"),
    [("approve", "True approved because"), ("reject", "False rejected because")],
)
async def test_an_approval_is_answered(isolation, answer, said):
    async with open_either(isolation, "asker") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("approve")
        required = data_of((await stream.until("approval_required"))[-1])
        assert (required["toolName"], required["args"]) == ("rm", {"path": "/"})
        assert (required["hint"], conversation.state) == ("all of it", "waiting_approval")
        getattr(conversation, answer)(required["approvalId"], "because")
        assert text(await stream.until("agent_end")) == said


async def test_an_approval_expires(isolation):
    async with open_either(isolation, "asker", approval_timeout_s=0.01) as service:
        _, events = await turn_of(service, "approve")
        assert text(events) == "False expired None"


async def test_an_approval_that_it_no_longer_waits_for_is_cancelled(isolation):
    async with open_either(isolation, "asker") as service:
        conversation, events = await turn_of(service, "impatient")
        assert text(events) == "too late"
        resolved = [data_of(event) for event in events if event.name == "approval_resolved"]
        assert [each["status"] for each in resolved] == ["cancelled"]
        assert status_of(conversation)["pendingApprovals"] == []


async def test_a_question_is_answered_with_whatever_json_holds(isolation):
    async with open_either(isolation, "asker") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("ask")
        asked = data_of((await stream.until("ask_user"))[-1])
        assert asked["question"] == "why?"
        conversation.respond(asked["ref"], {"because": [1, "two", None]})
        assert text(await stream.until("agent_end")) == "{'because': [1, 'two', None]}"


async def test_a_question_that_nobody_answers_raises_what_it_can_catch(isolation):
    async with open_either(isolation, "asker", question_timeout_s=0.01) as service:
        _, events = await turn_of(service, "ask")
        assert text(events) == "expired ask_ 0.01"


class Tools:
    """Answers callback tools."""

    async def call(self, tool, *, call_id, args, session_id, tenant_id, api_key):
        if tool.name == "broken":
            raise ToolFailed(tool.name, problem="out of order")
        return {"tool": tool.name, "args": args}


def tool(name):
    parameters = {"type": "object", "properties": {"at": {"type": "integer"}}}
    return CallbackTool(name=name, callback_url="http://127.0.0.1:1/", parameters=parameters)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("look", "['look', 'broken']{'tool': 'look', 'args': {'at': 1}}"),
        ("broken", "['look', 'broken']failed broken out of order"),
        ("other", "['look', 'broken']unknown other"),
    ],
)
async def test_callback_tools_are_called(isolation, name, said):
    async with open_either(isolation, "caller", call_tool=Tools()) as service:
        conversation = await open_session(service)
        conversation.attach_tool(tool("look"))
        conversation.attach_tool(tool("broken"))
        events = await next_turn(conversation, name)
        assert text(events) == said
        assert ("tool_execution_start" in names(events)) == (name != "other")


async def test_steering_reaches_the_turn_and_is_taken_once(isolation):
    async with open_either(isolation, "listener") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.steer("left")
        assert text(await stream.until("message_delta")) == "steered ['left']"
        conversation.steer("right")
        conversation.steer("stop")
        events = await stream.until("agent_end")
        assert text(events).replace("steered ", "").replace("][", ", ") == "['right', 'stop']"
        assert conversation.parts.steering_texts == []


async def test_steering_that_came_before_the_turn_is_there_when_it_begins(isolation):
    async with open_either(isolation, "listener") as service:
        conversation = await open_session(service)
        conversation.parts.steering_texts.extend(["early", "stop"])
        events = await next_turn(conversation, "go")
        assert "steered ['early', 'stop']" in text(events)


async def test_a_switch_of_the_model_reaches_the_turn(isolation):
    async with open_either(isolation, "listener") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.switch_model("other")
        assert text(await stream.until("agent_end")) == "model other"


async def test_a_tool_that_is_attached_reaches_the_turn(isolation):
    async with open_either(isolation, "listener", call_tool=Tools()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.attach_tool(tool("look"))
        assert text(await stream.until("agent_end")) == "tools ['look']"


async def test_an_abort_cancels_the_turn_which_cleans_up(isolation):
    async with open_either(isolation, "sleeper", abort_grace_s=10) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.abort("enough")
        events = await stream.until(*UNDER_WAY)
        assert names(events) == ["message_delta", "agent_abort"]
        assert text(events) == "cleaned up"
        assert data_of(events[-1])["reason"] == "enough"
        assert stats_of(conversation)["totalTokens"] == 7
        assert conversation.state == "idle"


async def test_a_turn_that_is_deaf_to_its_abort_is_left_behind_and_says_nothing_more(isolation):
    async with open_either(isolation, "slow", abort_grace_s=0.05) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("deaf")
        await stream.until("message_delta")
        conversation.abort("enough")
        await stream.until("agent_abort")
        events = await next_turn(conversation, "next")
        assert text(events) == "next"
        async with asyncio.timeout(20):
            while service.stuck:
                await asyncio.sleep(0.01)
        assert "too late for anybody" not in text(stream.events)
        assert conversation.log.last_index == events[-1].index


async def test_deleting_during_a_turn_answers_and_ends_the_stream(isolation):
    async with open_either(isolation, "sleeper") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        assert names(await stream.rest())[-2:] == ["agent_abort", "session_end"]
        with pytest.raises(SessionDead):
            service.tenant("acme", "key-1").find(conversation.session_id)
