"""What gateway and agent process say to each other: framing, events, errors on their way."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.agents.errors import MessageInvalid, QuestionExpired, ToolFailed
from frontdesk.agents.events import (
    AGENT_EVENTS,
    MessageDelta,
    MessageStart,
    ToolExecutionStart,
    event_class,
)
from frontdesk.agents.process.messages import (
    MAX_FROM_WORKER_BYTES,
    MAX_TO_WORKER_BYTES,
    AgentRaised,
    Answered,
    Close,
    Emitted,
    Finished,
    Frames,
    FromWorker,
    Opened,
    RemoteError,
    RunTurn,
    ToWorker,
    emitted,
    event_of,
    local,
    pack,
    remote,
)
from frontdesk.agents.records import Message, SessionContext, TurnContext
from frontdesk.errors import SessionNotFound

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_messages_come_whole_however_they_are_cut(payloads, cuts):
    stream = b"".join(len(each).to_bytes(4, "big") + each for each in payloads)
    frames, came, turn = Frames(largest=1000), [], 0
    while stream:
        cut = cuts[turn % len(cuts)]
        came += frames.feed(stream[:cut])
        stream, turn = stream[cut:], turn + 1
    assert came == payloads


def test_a_message_over_the_limit_is_refused_before_it_has_come():
    frames = Frames(largest=1000)
    assert frames.feed((1000).to_bytes(4, "big")) == []
    with pytest.raises(MessageInvalid, match="1001 bytes came, 1000 at most"):
        Frames(largest=1000).feed((1001).to_bytes(4, "big"))


def test_a_message_over_the_limit_is_not_sent():
    with pytest.raises(MessageInvalid, match="at most"):
        pack(emitted(1, MessageDelta("x" * MAX_FROM_WORKER_BYTES)), largest=MAX_FROM_WORKER_BYTES)


def test_a_value_that_is_not_plain_is_not_sent():
    with pytest.raises(MessageInvalid, match="cannot be sent"):
        pack(Answered(1, 1, object()), largest=MAX_TO_WORKER_BYTES)


@given(JSON)
def test_plain_values_arrive_as_they_are(value):
    (payload,) = Frames(largest=MAX_TO_WORKER_BYTES).feed(
        pack(Answered(1, 2, value), largest=MAX_TO_WORKER_BYTES)
    )
    assert msgspec.msgpack.decode(payload, type=ToWorker) == Answered(1, 2, value)


@pytest.mark.parametrize("message", [Opened(), Finished(3), Finished(3, remote(ValueError("x")))])
def test_a_message_of_the_process_arrives_as_it_is(message):
    (payload,) = Frames(largest=MAX_FROM_WORKER_BYTES).feed(
        pack(message, largest=MAX_FROM_WORKER_BYTES)
    )
    assert msgspec.msgpack.decode(payload, type=FromWorker) == message


def test_a_message_of_the_gateway_is_none_of_the_process():
    (payload,) = Frames(largest=MAX_FROM_WORKER_BYTES).feed(
        pack(Close(), largest=MAX_FROM_WORKER_BYTES)
    )
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(payload, type=FromWorker)


def test_a_history_with_text_that_utf8_cannot_carry_reaches_the_process():
    facts = SessionContext(session_id="s", tenant_id="t", blueprint="b", model="m")
    history = (Message("assistant", "half \ud800 a pair"), Message("user", "whole"))
    turn = TurnContext(text="x", request_id="r", session=facts, model="m", history=history)
    (payload,) = Frames(largest=MAX_TO_WORKER_BYTES).feed(
        pack(RunTurn(1, turn, ("\udc00",)), largest=MAX_TO_WORKER_BYTES)
    )
    came = msgspec.msgpack.decode(payload, type=ToWorker)
    assert came.context.history[0].content == "half \ufffd a pair"
    assert came.context.history[1] == history[1]
    assert came.steering == ("\ufffd",)


@pytest.mark.parametrize(
    "event",
    [MessageStart(), MessageDelta("ünï"), ToolExecutionStart("c", "look", {"at": [1, None]})],
)
def test_an_event_arrives_as_it_is(event):
    assert event_of(emitted(1, event)) == event


@pytest.mark.parametrize(
    "message",
    [
        Emitted(1, "no_such_event", b"{}"),
        Emitted(1, "message_delta", b"{}"),
        Emitted(1, "message_delta", b"not json"),
        Emitted(1, "message_delta", b'{"delta": 5}'),
        Emitted(1, "message_delta", b"\xff"),
    ],
)
def test_what_is_no_event_breaks_the_wire(message):
    with pytest.raises(MessageInvalid):
        event_of(message)


@pytest.mark.parametrize("values", ["[]", "1", '"a"', '{"a":1}'])
def test_an_event_of_more_values_than_any_has_is_not_read(values):
    many = ",".join([values] * 60_000)
    fields = f'{{"callId":"c","toolName":"t","args":[{many}]}}'.encode()
    with pytest.raises(MessageInvalid, match="more than 20000 values"):
        event_of(Emitted(1, "tool_execution_start", fields))


def test_an_event_of_much_text_is_read_whatever_is_in_it():
    event = MessageDelta(',[{"' * 100_000)
    assert event_of(emitted(1, event)) == event


def test_every_event_of_an_agent_has_a_class_of_its_name():
    assert [event_class(event.name) for event in AGENT_EVENTS] == list(AGENT_EVENTS)


def test_an_error_of_ours_arrives_with_its_facts():
    for error in (ToolFailed("look", problem="dark"), QuestionExpired("ask_1", waited_s=0.5)):
        came = local(
            msgspec.msgpack.decode(msgspec.msgpack.encode(remote(error)), type=RemoteError)
        )
        assert type(came) is type(error)
        assert (str(came), came.__dict__) == (str(error), error.__dict__)


def test_an_error_of_ours_that_is_a_builtin_too_arrives_as_both():
    came = local(remote(SessionNotFound("s")))
    assert isinstance(came, KeyError)
    assert came.session_id == "s"


class _Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (ValueError("what"), "ValueError", "what"),
        (asyncio.QueueFull(), "QueueFull", ""),
        (_Unspeakable(), "_Unspeakable", ""),
        (ValueError("half \ud800 a pair"), "ValueError", "half \ufffd a pair"),
        (ValueError("x" * 10_000), "ValueError", "x" * 2000),
        (type("no name", (Exception,), {})("text"), "AgentRaised", "text"),
        (type("FrontdeskError", (Exception,), {})("text"), "FrontdeskError", "text"),
        (type("annotations", (Exception,), {})("text"), "annotations", "text"),
    ],
)
def test_an_error_of_the_agents_arrives_by_its_name(error, name, text):
    came = local(remote(error, trace="where it was"))
    assert isinstance(came, AgentRaised)
    assert (type(came).__name__, str(came)) == (name, text)
    assert came.__notes__ == ["In the agent's process:\nwhere it was"]
