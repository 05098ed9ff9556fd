"""Turns: every one ends exactly once, with what explains it, whatever kills it."""

import asyncio
import contextlib
import logging
import sys

import pytest

from frontdesk.agents import EndSession, blueprint
from frontdesk.agents.errors import TurnOver
from frontdesk.agents.events import (
    AgentEnd,
    AskUser,
    Error,
    LastMessage,
    MessageDelta,
    MessageStart,
    PromptReceived,
    SessionEnd,
    ThinkingDelta,
    ToolExecutionEnd,
    ToolExecutionStart,
    TurnTokens,
)
from frontdesk.errors import InvalidType
from support.sessions import (
    Stream,
    data_of,
    info_of,
    messages_of,
    names,
    open_service,
    open_session,
    parrot,
    scripted,
    soon,
    stats_of,
    status_of,
    text,
)

pytestmark = pytest.mark.anyio

ENDS = {"agent_end", "agent_abort"}


async def turn_of(script, *, prompt="go", before=None, rules=None, **settings):
    """Run one turn of a script, and return its events."""
    async with open_service(scripted(script, **(rules or {})), **settings) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt(prompt)
        if before is not None:
            await before(conversation, stream)
        await stream.until(*ENDS)
        stream.close()
        assert_ends_once(stream.events)
        return stream.events


def assert_ends_once(events):
    """Every turn that began has exactly one end, and nothing of it comes after that."""
    ends, began = {}, []
    for event in events:
        request = data_of(event).get("requestId")
        assert request not in ends, f"{event.name} came after the end of its turn"
        if event.name == "prompt_received":
            began.append(request)
        if event.name in ENDS:
            ends[request] = event.name
    assert sorted(began) == sorted(ends)
    assert [event.index for event in events] == list(range(1, len(events) + 1))


# -- ending well ---------------------------------------------------------------------------------


async def test_the_parrot_says_its_prompt_and_ends_its_turn():
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        accepted = conversation.prompt("hello you")
        await stream.until("agent_end")
        stream.close()
        assert names(stream.events) == [
            "prompt_received",
            "agent_start",
            "message_start",
            "message_delta",
            "message_delta",
            "agent_end",
        ]
        assert {data_of(event)["requestId"] for event in stream.events} == {accepted.request_id}
        assert data_of(stream.events[-1])["lastMessage"] == {
            "role": "assistant",
            "content": "hello you ",
        }


async def test_a_coroutine_function_is_an_agent_too_and_what_it_returns_is_said():
    async def script(turn):
        return "all of it"

    events = await turn_of(script)
    assert text(events) == "all of it"


async def test_a_turn_knows_its_prompt_its_session_and_what_was_said_before():
    seen = []

    async def script(turn):
        seen.append((turn.text, turn.session.user_data, turn.session.model, turn.history))
        yield "answer"

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service, user_data={"plan": "free"}, model="m-1")
        stream = Stream(conversation)
        conversation.prompt("one")
        conversation.prompt("two")
        await stream.until("agent_end", count=2)
        stream.close()
    assert seen[0] == ("one", {"plan": "free"}, "m-1", ())
    assert [(each.role, each.content) for each in seen[1][3]] == [
        ("user", "one"),
        ("assistant", "answer"),
    ]


async def test_the_usage_of_a_turn_is_in_its_end_and_in_the_stats():
    async def script(turn):
        turn.usage(prompt=10, completion=5, cached=4, cost=0.25)
        turn.usage(prompt=1, completion=1)
        yield "x"

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert data_of(stream.events[-1])["tokenUsage"] == {
            "promptTokens": 11,
            "completionTokens": 6,
            "totalTokens": 17,
        }
        stats = stats_of(conversation)
        assert stats["tokenUsage"]["cachedTokens"] == 4
        assert (stats["totalTokens"], stats["costUsd"], stats["promptCount"]) == (17, 0.25, 1)
        assert (stats["turns"], stats["lastEventIndex"]) == (1, stream.events[-1].index)


@pytest.mark.parametrize(
    "used",
    [
        {"prompt": -1},
        {"completion": -5},
        {"cached": -1},
        {"prompt": 1.5},
        {"completion": 2**64},
        {"cached": True},
        {"prompt": "3"},
        {"cost": float("nan")},
        {"cost": float("inf")},
        {"cost": -1},
        {"cost": "1"},
        {"cost": 1e300},
    ],
)
async def test_usage_that_cannot_be_ends_the_turn_and_counts_nothing(used):
    async def script(turn):
        turn.usage(**used)
        yield "x"

    events = await turn_of(script)
    assert data_of(events[-2])["reason"] == "InvalidArgument"


async def test_a_very_long_text_goes_out_in_pieces():
    async def script(turn):
        yield "x" * 3_000_000

    events = await turn_of(script)
    assert len(text(events)) == 3_000_000
    assert max(len(event.json) for event in events if event.name == "message_delta") < 100_000


# -- ending badly --------------------------------------------------------------------------------


async def test_what_an_agent_raises_ends_the_turn_and_not_the_session(caplog):
    async def script(turn):
        yield "so far "
        if turn.text == "fail":
            raise ValueError("the secret text of it")

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("fail")
        conversation.prompt("work")
        with caplog.at_level(logging.ERROR, logger="frontdesk.sessions"):
            await stream.until("agent_end")
        stream.close()
        assert_ends_once(stream.events)
        assert names(stream.events)[4:6] == ["error", "agent_abort"]
        assert data_of(stream.events[4])["reason"] == "ValueError"
        assert not any(b"secret" in event.json for event in stream.events)
        assert "the secret text of it" in caplog.text, "operators see the text"
        assert conversation.state == "idle"


async def test_an_agent_that_calls_sys_exit_ends_its_turn_and_not_the_gateway():
    async def script(turn):
        yield "bye"
        sys.exit(3)

    events = await turn_of(script)
    assert data_of(events[-2])["reason"] == "AgentQuit"


async def test_an_agent_that_cancels_itself_ends_its_turn():
    async def script(turn):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
        yield "never"

    events = await turn_of(script)
    assert names(events)[-2:] == ["error", "agent_abort"]


@pytest.mark.parametrize(
    "event",
    [
        PromptReceived("x"),
        AgentEnd(LastMessage("assistant", ""), TurnTokens()),
        SessionEnd("x"),
        AskUser("r", "q"),
        "no event",
        {"event": "message_delta"},
    ],
    ids=lambda event: type(event).__name__,
)
async def test_an_agent_can_emit_nothing_that_belongs_to_the_conversation(event):
    async def script(turn):
        with pytest.raises(InvalidType):
            turn.emit(event)
        yield "ok"

    events = await turn_of(script)
    assert names(events)[2:] == ["message_start", "message_delta", "agent_end"]


async def test_what_is_neither_text_nor_event_ends_the_turn():
    async def script(turn):
        yield 42

    events = await turn_of(script)
    assert data_of(events[-2])["reason"] == "InvalidType"


async def test_an_event_that_is_too_large_is_refused_but_a_tools_large_result_is_shortened():
    async def script(turn):
        turn.emit(ToolExecutionStart("c", "t", {"x": "y" * 2000}))
        turn.emit(ToolExecutionEnd("c", "t", "ok", "z" * 2000))
        turn.emit(MessageDelta("x" * 2000))

    events = await turn_of(script, max_event_bytes=1000)
    shown = [data_of(event) for event in events]
    assert shown[2]["args"].endswith("bytes>")
    assert shown[3]["result"].endswith("bytes>")
    assert shown[-2]["reason"] == "EventTooLarge"


# -- abort ---------------------------------------------------------------------------------------


async def test_an_abort_cancels_the_turn_the_agent_cleans_up_and_the_session_lives_on():
    cleaned = []

    async def script(turn):
        if turn.text == "again":
            yield "fine"
            return
        try:
            yield "begun"
            await asyncio.Event().wait()
        finally:
            turn.emit(MessageDelta(" cleaned"))
            cleaned.append(True)

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.abort("changed my mind")
        came = await stream.until("agent_abort")
        assert text(came) == " cleaned"
        assert data_of(came[-1])["reason"] == "changed my mind"
        assert cleaned
        conversation.prompt("again")
        await stream.until("agent_end")
        stream.close()
        assert_ends_once(stream.events)


async def test_an_abort_between_a_prompt_and_its_beginning_is_not_lost():
    async def script(turn):
        await asyncio.Event().wait()

    async def before(conversation, stream):
        conversation.abort()

    events = await turn_of(script, before=before)
    assert names(events) == ["prompt_received", "agent_start", "agent_abort"]


async def test_an_abort_of_an_idle_session_does_nothing():
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        conversation.abort()
        stream = Stream(conversation)
        conversation.prompt("hello")
        await stream.until("agent_end")
        stream.close()


async def test_an_agent_deaf_to_its_abort_is_left_behind_and_the_next_turn_runs():
    released, late = asyncio.Event(), []

    async def script(turn):
        if turn.text == "next":
            yield "next"
            return
        yield "deaf"
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        try:
            turn.emit(MessageDelta("too late"))
        except TurnOver:
            late.append("discarded")

    async with open_service(scripted(script), abort_grace_s=0.05) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("deaf")
        await stream.until("message_delta")
        conversation.abort()
        await stream.until("agent_abort")
        assert service.stuck == 1
        conversation.prompt("next")
        await stream.until("agent_end")
        released.set()
        await soon(lambda: service.stuck == 0)
        stream.close()
        assert late == ["discarded"]
        assert_ends_once(stream.events)
        assert "too late" not in text(stream.events)


# -- the deadline --------------------------------------------------------------------------------


async def test_a_turn_that_does_nothing_ends_at_its_deadline():
    async def script(turn):
        await asyncio.Event().wait()

    events = await turn_of(script, turn_timeout_s=0.05)
    assert names(events)[-2:] == ["error", "agent_abort"]
    assert [data_of(event)["reason"] for event in events[-2:]] == ["deadline", "deadline"]


async def test_a_turn_whose_agent_hears_nothing_ends_at_its_deadline_all_the_same():
    released = asyncio.Event()

    async def script(turn):
        yield "deaf"
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async with open_service(scripted(script), turn_timeout_s=0.05, abort_grace_s=3600) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert_ends_once(stream.events)
        released.set()


async def test_a_blueprints_own_deadline_counts_before_the_services():
    async def script(turn):
        await asyncio.Event().wait()

    events = await turn_of(script, rules={"turn_timeout_s": 0.05})
    assert data_of(events[-1])["reason"] == "deadline"


@pytest.mark.parametrize("how", ["yields", "emits", "deaf"])
async def test_an_agent_that_emits_without_end_ends_at_its_deadline(how):
    async def yields(turn):
        while True:
            yield "x"

    async def emits(turn):
        while True:
            turn.emit(MessageDelta("x"))

    async def deaf(turn):
        while True:
            try:
                yield "x"
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue

    async with open_service(
        scripted({"yields": yields, "emits": emits, "deaf": deaf}[how]),
        turn_timeout_s=0.2,
        max_log_bytes=200_000,
    ) as service:
        conversation = await open_session(service)
        conversation.prompt("go")
        await soon(lambda: conversation.counters.turns == 1)
        stream = Stream(conversation, since=str(conversation.log.last_index - 2))
        came = await stream.until("agent_abort")
        stream.close()
        assert names(came) == ["error", "agent_abort"]
        assert data_of(came[0])["reason"] == "deadline"
        assert conversation.log.held_bytes <= 200_000
        assert conversation.state == "idle"


# -- the end of the agent ------------------------------------------------------------------------


async def test_an_agent_that_ends_its_session_ends_its_turn_well_and_the_session_normally():
    async def script(turn):
        yield "goodbye"
        raise EndSession

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.rest()
        assert names(stream.events)[-2:] == ["agent_end", "session_end"]
        assert data_of(stream.events[-1])["reason"] == "normal"
        registry_agent = f"acme/{conversation.session_id}"
        assert str(service.store.ended(registry_agent).reason) == "normal"


async def test_a_session_whose_task_is_cancelled_from_outside_ends_its_turn_and_its_stream():
    async def script(turn):
        yield "begun"
        await asyncio.Event().wait()

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        conversation.prompt("never begun")
        await stream.until("message_delta")
        service.store.get(f"acme/{conversation.session_id}").agent.cancel()
        await stream.rest()
        assert names(stream.events)[-2:] == ["agent_abort", "session_end"]
        assert data_of(stream.events[-1])["reason"] == "cancelled"
        assert_ends_once(stream.events)


async def test_an_error_that_ends_the_session_is_the_registrys_reason(caplog):
    async def script(turn):
        yield "x"
        raise ValueError("secret")

    with caplog.at_level(logging.CRITICAL, logger="frontdesk"):
        async with open_service(scripted(script, errors_end="session")) as service:
            conversation = await open_session(service)
            stream = Stream(conversation)
            conversation.prompt("go")
            await stream.rest()
            assert names(stream.events)[-3:] == ["error", "agent_abort", "session_end"]
            assert data_of(stream.events[-1])["reason"] == "crashed: ValueError"
            assert not any(b"secret" in event.json for event in stream.events)
            reason = service.store.ended(f"acme/{conversation.session_id}").reason
            assert (reason.error, reason.text) == ("ValueError", "secret")


async def test_the_entry_deleted_behind_the_services_back_ends_the_conversation():
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        service.store.delete(f"acme/{conversation.session_id}")
        events = await stream.rest()
        assert [(event.name, data_of(event)) for event in events] == [
            ("session_end", {"reason": "deleted"})
        ]


# -- events of the agent's own -------------------------------------------------------------------


async def test_thoughts_messages_and_tools_come_in_order_and_are_counted():
    async def script(turn):
        yield ThinkingDelta("hm")
        yield "first"
        yield ToolExecutionStart("c1", "look", {"at": 1})
        assert status_of(conversation)["pendingTools"][0]["toolName"] == "look"
        yield ToolExecutionEnd("c1", "look", "ok", "found", 3)
        yield MessageStart()
        yield "second"
        yield Error("a warning of the agent's own")

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert names(stream.events)[2:] == [
            "thinking_start",
            "thinking_delta",
            "message_start",
            "message_delta",
            "tool_execution_start",
            "tool_execution_end",
            "message_start",
            "message_delta",
            "error",
            "agent_end",
        ]
        assert data_of(stream.events[-1])["lastMessage"]["content"] == "second"
        assert info_of(conversation)["toolCalls"] == 1
        assert status_of(conversation)["pendingTools"] == []
        messages = messages_of(conversation)["messages"]
        assert [each["role"] for each in messages] == [
            "user",
            "assistant",
            "tool_result",
            "assistant",
        ]


async def test_half_a_surrogate_pair_breaks_nothing():
    async def script(turn):
        yield "a\ud83d"
        yield turn.text

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("half \udc00 pair")
        await stream.until("agent_end")
        stream.close()
        for message in messages_of(conversation)["messages"]:
            message["content"].encode()


def test_only_functions_of_turns_are_blueprints():
    with pytest.raises(InvalidType):
        blueprint("wrong")(lambda turn: "text")
