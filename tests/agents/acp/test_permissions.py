"""What an agent is about to do reaches who is to approve of it, and the answer the agent."""

import json

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from

from frontdesk.agents.acp import permissions
from frontdesk.agents.acp.permissions import offered_options
from frontdesk.agents.approval_options import ends_the_turn, option_for
from frontdesk.agents.records import ApprovalOption
from support.acp import open_acp_session
from support.sessions import Stream, data_of, status_of, text

pytestmark = pytest.mark.anyio

YES = {"optionId": "yes", "name": "Do it", "kind": "allow_once"}
NO = {"optionId": "no", "name": "Don't", "kind": "reject_once"}
END = {"stopReason": "end_turn"}


async def asked_of(conversation, *steps, answer="approve"):
    """Run a script that asks once; return the request, and the turn's other events."""
    stream = Stream(conversation, since=None, from_now=True)
    conversation.prompt(json.dumps([*steps, ["answer", END]]))
    asked = data_of((await stream.until("approval_required"))[-1])
    assert status_of(conversation)["pendingApprovals"][0]["details"] == asked["details"]
    getattr(conversation, answer)(asked["approvalId"])
    events = await stream.until("agent_end", "agent_abort")
    stream.close()
    return asked, events


def ask(call, *options):
    params = {"toolCall": {"toolCallId": "c1", **call}, "options": list(options)}
    return ["ask", "session/request_permission", params]


def report(what="tool_call_update", **fields):
    return ["update", {"sessionUpdate": what, "toolCallId": "c1", **fields}]


def status_at_the_end(events):
    (ended,) = [data_of(each) for each in events if each.name == "tool_execution_end"]
    return ended["status"]


DIFF = {"type": "diff", "path": "/a.txt", "oldText": "old", "newText": "new"}
TEXT = {"type": "content", "content": {"type": "text", "text": "$ rm -r build"}}


async def test_a_diff_is_shown_with_its_kind_its_places_and_the_options():
    call = {
        "title": "Edit a.txt",
        "kind": "edit",
        "content": [DIFF],
        "locations": [{"path": "/a.txt", "line": 3}, {"path": "/b.txt"}],
    }
    async with open_acp_session("Scripted") as conversation:
        asked, _ = await asked_of(conversation, ask(call, YES, NO))
        assert asked["details"] == {
            "title": "Edit a.txt",
            "kind": "edit",
            "content": [DIFF],
            "locations": [{"path": "/a.txt", "line": 3}, {"path": "/b.txt", "line": None}],
            "options": [YES, NO],
        }


async def test_what_was_reported_of_the_call_before_is_shown_with_the_request():
    before = {"title": "Run a command", "kind": "execute", "content": [TEXT]}
    async with open_acp_session("Scripted") as conversation:
        begun = report("tool_call", status="pending", rawInput={"command": "rm"}, **before)
        asked, _ = await asked_of(conversation, begun, ask({}, YES))
        assert (asked["toolName"], asked["hint"]) == ("Run a command", "Run a command")
        assert asked["args"] == {"command": "rm"}
        assert asked["details"]["kind"] == "execute"
        assert asked["details"]["content"] == [{"type": "text", "text": "$ rm -r build"}]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ([{**DIFF, "oldText": None}], [{**DIFF, "oldText": None}]),
        ([{"type": "terminal", "terminalId": "t"}], [{"type": "terminal", "terminalId": "t"}]),
        (
            [TEXT, {"type": "of the future"}, DIFF],
            [{"type": "text", "text": "$ rm -r build"}, DIFF],
        ),
        (
            [
                {
                    "type": "content",
                    "content": {"type": "image", "data": "", "mimeType": "image/png"},
                }
            ],
            [{"type": "image"}],
        ),
    ],
)
async def test_content_of_every_kind_is_shown(content, shown):
    async with open_acp_session("Scripted") as conversation:
        asked, _ = await asked_of(conversation, ask({"content": content}, YES))
        assert asked["details"]["content"] == shown


async def test_what_is_too_long_to_be_shown_is_cut_and_says_so():
    long = {**DIFF, "newText": "x" * 1_500_000}
    call = {"content": [long], "title": "t" * 5000, "rawInput": {"text": "y" * 1_500_000}}
    async with open_acp_session("Worker") as conversation:
        stream = Stream(conversation)
        params = {"toolCall": {"toolCallId": "c1", **call}, "options": [YES]}
        conversation.prompt(json.dumps([["session/request_permission", params]]))
        asked = data_of((await stream.until("approval_required"))[-1])
        conversation.approve(asked["approvalId"])
        await stream.until("agent_end")
        stream.close()
        (shown,) = asked["details"]["content"]
        assert shown["newText"].startswith("x" * permissions.MAX_TEXT_CHARACTERS + "… [")
        assert shown["oldText"] == "old"
        assert len(asked["details"]["title"]) == permissions.MAX_LINE_CHARACTERS
        assert "bytes" in asked["args"]


async def test_options_of_kinds_that_are_not_known_are_shown_and_harm_nothing():
    odd = {"optionId": "odd", "name": "Perhaps", "kind": "allow_sometimes"}
    async with open_acp_session("Scripted") as conversation:
        asked, events = await asked_of(conversation, ask({}, odd, YES, {"name": "no id"}))
        assert asked["details"]["options"] == [odd, YES]
        assert json.loads(text(events))["outcome"]["optionId"] == "yes"


@pytest.mark.parametrize(
    "stopping",
    [
        {"optionId": "abort", "name": "No, and tell Codex what to do differently"},
        {"optionId": "cancel", "name": "Cancel"},
        {"optionId": "reject", "name": "Reject and stop"},
        {"optionId": "n2", "name": "Interrupt the turn"},
    ],
)
@pytest.mark.parametrize("going_on", ["reject_once", "reject_always"])
async def test_of_two_ways_to_say_no_the_one_that_lets_the_turn_go_on_is_taken(stopping, going_on):
    options = [{**stopping, "kind": "reject_once"}, YES, {**NO, "kind": going_on}]
    async with open_acp_session("Scripted") as conversation:
        _, events = await asked_of(conversation, ask({}, *options), answer="reject")
        assert json.loads(text(events)) == {"outcome": {"outcome": "selected", "optionId": "no"}}


async def test_the_only_way_to_say_no_is_taken_though_it_ends_the_turn():
    stop = {"optionId": "abort", "name": "Stop", "kind": "reject_once"}
    async with open_acp_session("Scripted") as conversation:
        _, events = await asked_of(conversation, ask({}, YES, stop), answer="reject")
        assert json.loads(text(events))["outcome"]["optionId"] == "abort"


@pytest.mark.parametrize("last", ["completed", "failed", "in_progress"])
async def test_a_call_that_was_rejected_is_not_told_as_done(last):
    async with open_acp_session("Scripted") as conversation:
        steps = (report("tool_call", status="pending"), ask({}, YES, NO), report(status=last))
        _, events = await asked_of(conversation, *steps, answer="reject")
        assert status_at_the_end(events) == "rejected"


async def test_a_call_that_was_rejected_under_another_id_is_not_told_as_done():
    args = {"rawInput": {"path": "/a.txt"}}
    asking = ask({"toolCallId": "interrupt-1", "title": "rm", **args}, YES, NO)
    async with open_acp_session("Scripted") as conversation:
        begun = report("tool_call", title="rm", status="pending", **args)
        other = {"toolCallId": "c2", "title": "cat", "rawInput": {"path": "/b.txt"}}
        steps = (begun, report("tool_call", status="pending", **other), asking)
        ends = (report(status="completed"), report(toolCallId="c2", status="completed"))
        _, events = await asked_of(conversation, *steps, *ends, answer="reject")
        ended = [data_of(each) for each in events if each.name == "tool_execution_end"]
        assert [each["status"] for each in ended] == ["rejected", "ok"]


async def test_a_call_that_was_asked_about_twice_is_told_by_the_last_answer():
    async with open_acp_session("Scripted") as conversation:
        stream = Stream(conversation)
        steps = [ask({}, YES, NO), ask({}, YES, NO), report(status="completed"), ["answer", END]]
        conversation.prompt(json.dumps(steps))
        for deed in ("reject", "approve"):
            asked = data_of((await stream.until("approval_required"))[-1])
            getattr(conversation, deed)(asked["approvalId"])
        assert status_at_the_end(await stream.until("agent_end")) == "ok"
        stream.close()


@pytest.mark.parametrize("offered", [[NO], [{**NO, "kind": "reject_always"}, NO]])
async def test_a_yes_that_the_agent_does_not_offer_is_not_told_as_one(offered):
    async with open_acp_session("Scripted") as conversation:
        steps = (ask({"title": "rm"}, *offered), report(status="completed"))
        _, events = await asked_of(conversation, *steps)
        (resolved,) = [data_of(each) for each in events if each.name == "approval_resolved"]
        assert resolved["status"] == "cancelled"
        assert json.loads(text(events)) == {"outcome": {"outcome": "cancelled"}}
        assert status_at_the_end(events) == "cancelled"


KINDS = sampled_from(["allow_once", "allow_always", "reject_once", "reject_always", "odd", ""])


@given(lists(KINDS, max_size=6))
def test_an_answer_is_an_option_of_its_side_whenever_there_is_one(kinds):
    options = offered_options(
        [{"optionId": str(at), "name": "", "kind": kind} for at, kind in enumerate(kinds)]
    )
    for approved, side in ((True, "allow_"), (False, "reject_")):
        chosen = option_for(approved, options)
        of_side = [kind for kind in kinds if kind.startswith(side)]
        if chosen is None:
            assert not of_side
        else:
            assert kinds[int(chosen)] == (f"{side}once" if f"{side}once" in of_side else of_side[0])


def test_a_word_that_only_begins_like_one_for_an_end_is_none():
    for name in ("No, unstoppable", "Don't cancellate", "Suspend the endpoint", "Send nothing"):
        assert not ends_the_turn(ApprovalOption("no", name, "reject_once"))
