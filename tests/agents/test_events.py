"""Events on the wire: names, shapes, and values that JSON has no word for."""

import itertools
import json

import msgspec
import pytest

from frontdesk.agents import events
from frontdesk.agents.events import EVENTS, encode
from frontdesk.agents.values import json_value
from frontdesk.errors import InvalidArgument

WIRE = {
    "prompt_received": {"text", "attachments"},
    "agent_start": set(),
    "message_start": set(),
    "message_delta": {"delta"},
    "thinking_start": set(),
    "thinking_delta": {"delta"},
    "tool_calls": {"count"},
    "tool_execution_start": {"callId", "toolName", "args"},
    "tool_execution_end": {"callId", "toolName", "status", "result", "durationMs"},
    "approval_required": {"approvalId", "toolName", "args", "hint", "requestedAt", "details"},
    "approval_resolved": {"approvalId", "status", "optionId"},
    "ask_user": {"ref", "question"},
    "error": {"reason"},
    "agent_abort": {"reason"},
    "agent_end": {"lastMessage", "tokenUsage"},
    "model_switched": {"from", "to"},
    "option_changed": {"optionId", "value"},
    "steering": {"text"},
    "tool_attached": {"name"},
    "tool_detached": {"name"},
    "agent_restarted": {"reason", "count", "memory"},
    "out_of_turn": {"kind", "text"},
    "session_end": {"reason"},
}


def test_the_events_and_their_fields_are_those_of_the_wire_contract():
    shapes = {
        event.name: {field.encode_name for field in msgspec.structs.fields(event)}
        for event in EVENTS
    }
    assert shapes == WIRE


@pytest.mark.parametrize("status", ["deferred", "", None, 1, "OK"])
def test_a_tool_can_end_with_no_status_that_the_documents_do_not_have(status):
    with pytest.raises(InvalidArgument) as refused:
        events.ToolExecutionEnd("c", "t", status)
    assert refused.value.name == "status"


def test_every_status_of_an_event_is_one_of_a_closed_list():
    for event in EVENTS:
        for field in msgspec.structs.fields(event):
            if field.name == "status":
                assert isinstance(
                    msgspec.inspect.type_info(field.type), msgspec.inspect.LiteralType
                )


def test_an_event_class_is_found_by_its_wire_name():
    assert events.event_class("ask_user") is events.AskUser
    with pytest.raises(KeyError):
        events.event_class("nothing")


def test_an_event_outside_any_turn_has_no_request_id():
    assert json.loads(encode(events.SessionEnd("deleted"))) == {"reason": "deleted"}


class Odd:
    pass


@pytest.mark.parametrize(
    "value",
    [
        Odd(),
        {"a": [Odd()]},
        {Odd(): 1},
        {(1, 2): 3},
        float("nan"),
        "\ud800",
        ["half \udc00 pair"],
        {1: "number key"},
        b"bytes",
        {"set"},
        2**70,
    ],
    ids=itertools.count(),
)
def test_whatever_an_agent_puts_into_a_result_becomes_json_without_its_address(value):
    event = events.ToolExecutionEnd("c", "t", "ok", value)
    encoded = json.loads(encode(event, request_id="r"))
    assert encoded["callId"] == "c"
    assert "0x" not in json.dumps(encoded)
    json.dumps(json_value(value))


def test_a_value_that_contains_itself_is_shown_by_its_type():
    endless = []
    endless.append(endless)
    assert json.loads(encode(events.ToolExecutionStart("c", "t", endless)))["args"] == "<list>"
    assert json_value(endless) == "<list>"
