"""What every framework's agent does in a turn, as a task and in a process: one suite for all."""

import asyncio
import json

import pytest

from adapters.model_server import Call, Final, Refuse
from adapters.scenes import ENDS, last_message, tool_ends
from frontdesk.agents.errors import ModelRefused
from support.sessions import (
    RecordingToolCaller,
    callback_tool,
    data_of,
    names,
    text,
)

pytestmark = pytest.mark.anyio


def calls(tool, **args):
    """Make a model that calls one tool and then says what it read."""

    async def script(asked):
        if not asked.results:
            yield Call(tool, args)
        else:
            yield f"read {asked.results[-1]}"

    return script


async def test_text_is_streamed_as_it_comes(play, framework, isolation):
    second = asyncio.Event()

    async def script(asked):
        yield "one "
        await second.wait()
        yield "two"

    async with play(isolation, script) as here:
        here.session.prompt("go")
        assert text(await here.stream.until("message_delta")) == "one "
        second.set()
        events = await here.stream.until(*ENDS)
        assert text(events) == "two"
        assert last_message(events) == "one two"


async def test_a_tool_has_a_begin_and_an_end(play, framework, isolation):
    async with play(isolation, calls("add", a=2, b=3)) as here:
        events = await here.turn()
        if not framework.can("tools"):
            assert tool_ends(events) == []
            return
        assert "5" in last_message(events)
        (begin,) = [data_of(each) for each in events if each.name == "tool_execution_start"]
        (end,) = [data_of(each) for each in events if each.name == "tool_execution_end"]
        assert (begin["toolName"], begin["args"]) == ("add", {"a": 2, "b": 3})
        assert (end["toolName"], end["status"]) == ("add", "ok")
        assert str(end["result"]) == "5"
        assert begin["callId"] == end["callId"]


async def test_a_tool_that_fails_ends_as_an_error(play, framework, isolation):
    async with play(isolation, calls("broken")) as here:
        events = await here.turn()
        if not framework.can("tools"):
            assert tool_ends(events) == []
            return
        ((name, status, _),) = tool_ends(events)
        assert (name, status) == ("broken", "error")
        if framework.failing_tool == "error":
            assert names(events)[-2:] == ["error", "agent_abort"]
            assert "not for clients" not in json.dumps([data_of(event) for event in events])
        else:
            assert last_message(events).startswith("read ")


@pytest.mark.parametrize("verb", ["approve", "reject"])
async def test_a_tool_waits_for_its_approval(play, framework, isolation, verb):
    async with play(isolation, calls("refund", order=7)) as here:
        here.session.prompt("go")
        if not framework.can("approvals"):
            events = await here.stream.until(*ENDS)
            assert "approval_required" not in names(events)
            return
        required = data_of((await here.stream.until("approval_required"))[-1])
        assert (required["toolName"], required["args"]) == ("refund", {"order": 7})
        assert here.session.state == "waiting_approval"
        getattr(here.session, verb)(required["approvalId"], "because")
        events = await here.stream.until(*ENDS)
        ran = [each for each in tool_ends(events) if each[1] == "ok"]
        assert (len(ran) == 1) == (verb == "approve")
        assert ("paid back 7" in last_message(events)) == (verb == "approve")


async def test_an_approval_that_expires_lets_the_turn_go_on(play, framework, isolation):
    if not framework.can("approvals"):
        return
    script = calls("refund", order=7)
    async with play(isolation, script, approval_timeout_s=0.02) as here:
        events = await here.turn()
        assert "paid back" not in last_message(events)
        resolved = [data_of(each) for each in events if each.name == "approval_resolved"]
        assert [each["status"] for each in resolved] == ["expired"]


async def test_a_question_is_answered(play, framework, isolation):
    async with play(isolation, calls("ask_user", question="which?")) as here:
        here.session.prompt("go")
        if not framework.can("questions"):
            assert "ask_user" not in names(await here.stream.until(*ENDS))
            return
        asked = data_of((await here.stream.until("ask_user"))[-1])
        assert "which?" in asked["question"]
        assert here.session.state == "waiting_input"
        here.session.respond(asked["ref"], "the left one")
        assert "the left one" in last_message(await here.stream.until(*ENDS))


async def test_the_tokens_of_a_turn_are_those_that_were_served(play, framework, isolation):
    async with play(isolation, calls("add", a=2, b=3)) as here:
        used = []
        for _ in range(2):
            tokens = data_of((await here.turn())[-1]).get("tokenUsage") or {}
            used.append((tokens.get("promptTokens", 0), tokens.get("completionTokens", 0)))
        total = tuple(map(sum, zip(*used, strict=True)))
        assert total == (here.server.served if framework.can("usage") else (0, 0))
        if framework.can("usage"):
            assert used[1] == tuple(
                map(sum, zip(*(a.usage for a in here.server.asked[2:]), strict=True))
            )


async def test_steering_is_in_the_next_request_of_the_turn(play, framework, isolation):
    steered = asyncio.Event()

    async def script(asked):
        if not asked.results:
            yield "let me see "
            await steered.wait()
            yield Call("add", {"a": 2, "b": 3})
        else:
            yield "done"

    async with play(isolation, script) as here:
        here.session.prompt("go")
        await here.stream.until("message_delta")
        here.session.steer("to the left")
        await here.stream.until("steering")
        steered.set()
        assert (await here.stream.until(*ENDS))[-1].name == "agent_end"
        requests = [each.users for each in here.server.asked]
        assert requests[1] == (["go", "to the left"] if framework.can("steering") else ["go"])


async def test_a_switched_model_answers_from_the_next_request_on(play, framework, isolation):
    switched = asyncio.Event()

    async def script(asked):
        if not asked.results:
            yield "let me see "
            await switched.wait()
            yield Call("add", {"a": 2, "b": 3})
        else:
            yield "done"

    async with play(isolation, script) as here:
        if not framework.can("models"):
            with pytest.raises(ModelRefused):
                here.session.switch_model("another")
            return
        here.session.prompt("go")
        await here.stream.until("message_delta")
        here.session.switch_model(framework.other_model)
        await here.stream.until("model_switched")
        switched.set()
        await here.stream.until(*ENDS)
        first, second = (each.model for each in here.server.asked)
        assert second != first
        assert framework.other_model.endswith(second)
        here.session.switch_model(framework.model)
        await here.turn("again")
        assert here.server.asked[-1].model == first


async def test_a_callback_tool_of_the_client_is_called(play, framework, isolation):
    caller = RecordingToolCaller()
    async with play(isolation, calls("look", at=1), call_tool=caller) as here:
        here.session.attach_tool(callback_tool("look"))
        if not framework.can("callbacks"):
            await here.turn()
            assert "look" not in here.server.asked[0].tools
            assert not caller.calls
            return
        events = await here.turn()
        assert "look" in here.server.asked[0].tools
        assert [each[:2] for each in caller.calls] == [("look", {"at": 1})]
        assert "echo" in last_message(events)
        assert [each[:2] for each in tool_ends(events)] == [("look", "ok")]


async def test_structured_output_is_the_turns_last_message_as_json(play, framework, isolation):
    if not framework.can("structured"):
        assert "structured" not in framework.targets
        return
    city = {"city": "Bern", "population": 134_000}

    async def script(asked):
        yield Final(city)

    async with play(isolation, script, agent="structured") as here:
        assert json.loads(last_message(await here.turn())) == city


@pytest.mark.parametrize("when", ["at once", "in the middle"])
async def test_an_error_ends_the_turn_and_not_the_session(play, framework, isolation, when):
    async def script(asked):
        if asked.prompt == "fail":
            if when == "in the middle" and not asked.results:
                yield Call("add", {"a": 2, "b": 3})
            else:
                raise Refuse
        yield "fine"

    async with play(isolation, script) as here:
        events = await here.turn("fail")
        assert names(events)[-2:] == ["error", "agent_abort"]
        assert here.session.state == "idle"
        assert last_message(await here.turn("go on")) == "fine"
