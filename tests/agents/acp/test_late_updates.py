"""What comes after a turn's answer is of that turn, or of none; never of the next one."""

import json

import pytest

from support.acp import open_acp_session, turn_of
from support.sessions import Stream, data_of, messages_of, names, soon, text

pytestmark = pytest.mark.anyio

END = ["answer", {"stopReason": "end_turn"}]


def chunk(words, **more):
    content = {"type": "text", "text": words}
    return ["update", {"sessionUpdate": "agent_message_chunk", "content": content, **more}]


HM = {"type": "text", "text": "hm"}


def told_between(events):
    found = [data_of(each) for each in events if each.name == "out_of_turn"]
    return [(each["kind"], each["text"], each.get("requestId")) for each in found]


@pytest.mark.parametrize("pause_s", [0, 0.01])
async def test_a_chunk_after_the_answer_is_of_the_turn_that_was_answered(pause_s):
    async with open_acp_session("Scripted") as conversation:
        for _ in range(2):
            steps = [chunk("begun, "), END, ["pause", pause_s], chunk("done")]
            events = await turn_of(conversation, json.dumps(steps))
            assert text(events) == "begun, done"
            assert data_of(events[-1])["lastMessage"]["content"] == "begun, done"


async def test_late_chunks_one_after_another_are_waited_for_within_a_bound():
    async with open_acp_session("Scripted") as conversation:
        late = [step for _ in range(5) for step in (["pause", 0.02], chunk("."))]
        events = await turn_of(conversation, json.dumps([chunk("go"), END, *late]))
        assert text(events) == "go....."


async def test_a_call_that_ends_after_the_answer_ends_with_its_result():
    call = {"toolCallId": "c1", "title": "dig"}
    begun = ["update", {"sessionUpdate": "tool_call", "status": "in_progress", **call}]
    ended = {"sessionUpdate": "tool_call_update", "status": "failed", "rawOutput": "rock", **call}
    async with open_acp_session("Scripted") as conversation:
        events = await turn_of(conversation, json.dumps([begun, END, ["update", ended]]))
        (end,) = [data_of(each) for each in events if each.name == "tool_execution_end"]
        assert (end["status"], end["result"]) == ("error", "rock")


@pytest.mark.parametrize(
    ("update", "kind", "told"),
    [
        (chunk("by the way"), "message", "by the way"),
        (
            ["update", {"sessionUpdate": "agent_thought_chunk", "content": HM}],
            "thought",
            "hm",
        ),
        (
            ["update", {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "dig",
                        "status": "in_progress"}],
            "tool",
            "dig (in_progress)",
        ),
        (
            ["update", {"sessionUpdate": "plan", "entries": [
                {"content": "look", "priority": "high", "status": "pending"}]}],
            "thought",
            "Plan:\n[ ] look\n",
        ),
    ],
)  # fmt: skip
async def test_what_an_agent_does_between_turns_is_told(update, kind, told, caplog):
    caplog.set_level("INFO")
    async with open_acp_session("Scripted") as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps([chunk("done"), END, ["pause", 0.4], update]))
        events = await stream.until("out_of_turn")
        assert "agent_end" in names(events)
        assert told_between(events) == [(kind, told, None)]
        assert "does something between turns" in caplog.text
        stream.close()
        events = await turn_of(conversation, json.dumps([chunk("next"), END]))
        assert text(events) == "next"
        assert [each["content"] for each in messages_of(conversation)["messages"]][-1] == "next"


async def test_a_late_chunk_whose_id_is_of_the_turn_before_never_lands_in_the_next():
    async with open_acp_session("Scripted") as conversation:
        stream = Stream(conversation)
        for number in (1, 2):
            steps = [chunk(f"{number}", messageId=f"m{number}"), END]
            await turn_of(conversation, json.dumps(steps))
        steps = [chunk("late", messageId="m2"), chunk("3", messageId="m3"), END]
        events = await turn_of(conversation, json.dumps(steps))
        assert text(events) == "3"
        assert told_between(events) == [("message", "late", None)]
        stream.close()


async def test_an_agent_that_uses_the_same_ids_in_every_turn_is_understood():
    call = {"toolCallId": "call_1", "title": "dig"}
    steps = [
        chunk("a", messageId="m"),
        ["update", {"sessionUpdate": "tool_call", "status": "in_progress", **call}],
        ["update", {"sessionUpdate": "tool_call_update", "status": "completed", **call}],
        END,
    ]
    async with open_acp_session("Scripted") as conversation:
        for _ in range(4):
            events = await turn_of(conversation, json.dumps(steps))
            assert text(events) == "a"
            assert names(events).count("tool_execution_end") == 1
            assert told_between(events) == []


async def test_a_permission_that_is_asked_between_turns_is_told_and_refused(caplog):
    options = [{"optionId": "yes", "name": "yes", "kind": "allow_once"}]
    params = {"toolCall": {"toolCallId": "c", "title": "rm"}, "options": options}
    ask = ["ask", "session/request_permission", params]
    async with open_acp_session("Scripted") as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps([END, ["pause", 0.4], ask]))
        events = await stream.until("out_of_turn", count=2)
        stream.close()
        assert [each[:2] for each in told_between(events)] == [
            ("tool", "rm"),
            ("message", '{"outcome": {"outcome": "cancelled"}}'),
        ]


async def test_what_a_filter_refuses_does_not_get_out_between_turns():
    class Guard:
        def refuse_input(self, tenant_id, text):
            return None

        def refuse_output(self, tenant_id, message):
            return None

        def refuse_message(self, tenant_id, text):
            return "no" if "secret" in text else None

    service = {"guardrails": Guard()}
    async with open_acp_session("Scripted", service=service) as conversation:
        stream = Stream(conversation)
        steps = [END, ["pause", 0.4], chunk("a secret"), chunk("a word")]
        conversation.prompt(json.dumps(steps))
        assert told_between(await stream.until("out_of_turn")) == [("message", "a word", None)]
        stream.close()


async def test_steering_that_comes_while_late_chunks_are_waited_for_is_taken():
    async with open_acp_session("Scripted") as conversation:
        stream = Stream(conversation)
        conversation.prompt(json.dumps([END, chunk("first, "), ["pause", 0.03], chunk("late, ")]))
        await stream.until("message_delta")
        conversation.steer(json.dumps([chunk("steered"), END]))
        await stream.until("agent_end")
        stream.close()
        assert text(stream.events) == "first, late, steered"
        await soon(lambda: conversation.state == "idle")
