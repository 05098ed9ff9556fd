"""What is accepted fits, and text is whole: no bound and no half character ends a session."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk.agents.events import (
    AgentEnd,
    AskUser,
    LastMessage,
    MessageDelta,
    PromptReceived,
    Steering,
    ThinkingDelta,
    TurnTokens,
    encode,
    shortened,
)
from frontdesk.agents.values import HalfJoiner, encodable, json_value
from support.sessions import Stream, data_of, names, open_service, open_session, scripted, text

pytestmark = pytest.mark.anyio

OVER = ("agent_end", "agent_abort")
SMALL = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


async def turn_of(conversation, prompt):
    stream = Stream(conversation, since=str(conversation.log.last_index))
    conversation.prompt(prompt)
    events = await stream.until(*OVER)
    stream.close()
    return events


# -- what is large ------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", ["word ", "\x00" * 100, "\N{GRINNING FACE}" * 50, "é" * 1000])
async def test_an_answer_over_the_bound_in_small_deltas_ends_well_and_is_whole(piece):
    count = 1_300_000 // len(encode(MessageDelta(piece)))

    async def script(turn):
        for _ in range(count):
            yield piece

    async with open_service(scripted(script), max_log_bytes=64_000_000) as service:
        conversation = await open_session(service)
        events = await turn_of(conversation, "go")
        assert names(events)[-1] == "agent_end"
        assert text(events) == piece * count
        last = data_of(events[-1])["lastMessage"]["content"]
        assert last == piece * count or last.endswith("characters left out]")
        assert names(await turn_of(conversation, "again"))[-1] == "agent_end"


@pytest.mark.parametrize("length", [174_000, 174_760, 174_763, 174_770, 200_000, 1_100_000])
async def test_a_prompt_of_any_size_has_a_turn_and_reaches_the_agent_whole(length):
    seen = []

    async def script(turn):
        seen.append(len(turn.text))
        yield "done"

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        events = await turn_of(conversation, "\x00" * length)
        assert names(events) == [
            *("prompt_received", "agent_start", "message_start", "message_delta", "agent_end")
        ]
        assert seen == [length]
        assert max(len(event.json) for event in events) <= 1024 * 1024


async def test_a_steering_text_of_any_size_is_taken_and_waits_once():
    steered = asyncio.Event()

    async def script(turn):
        yield "begun"
        await steered.wait()
        yield str([len(each) for each in turn.steering()])

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.steer("\x00" * 300_000)
        steered.set()
        events = await stream.until(*OVER)
        stream.close()
        assert text(events) == "[300000]"


@SMALL
@given(
    st.sampled_from(["x", "\x00", '"', "é", "\N{GRINNING FACE}", "\ud800"]),
    st.integers(0, 3000),
    st.integers(300, 2000),
)
def test_an_event_is_shortened_to_fit_whatever_it_holds(character, length, max_bytes):
    words = encodable(character * length)
    for event in (
        PromptReceived(words),
        Steering(words),
        AskUser("ask_0123456789abcdef", words),
        AgentEnd(LastMessage("assistant", words), TurnTokens(1, 2, 3)),
    ):
        shorter = shortened(event, max_bytes=max_bytes)
        assert len(encode(shorter)) <= max_bytes
        if len(encode(event)) <= max_bytes:
            assert shorter == event
        else:
            assert b"characters left out]" in encode(shorter)


# -- halves of characters -----------------------------------------------------------------------

units = st.text(
    st.sampled_from("aé\N{GRINNING FACE}\N{REGIONAL INDICATOR SYMBOL LETTER D}\x00"), max_size=20
)


def cut_in_units(whole, cuts):
    """Cut a text between UTF-16 units, as a model does that counts in those."""
    encoded = whole.encode("utf-16-le")
    places = sorted({2 * min(cut, len(encoded) // 2) for cut in cuts} | {0, len(encoded)})
    pairs = itertools.pairwise(places)
    return [encoded[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairs]


@SMALL
@given(units, st.lists(st.integers(0, 40), max_size=10))
def test_halves_in_two_pieces_are_joined_at_every_cut(whole, cuts):
    joiner = HalfJoiner()
    pieces = [joiner.feed(piece) for piece in cut_in_units(whole, cuts)]
    assert "".join(pieces) + joiner.flush() == whole


@SMALL
@given(st.lists(st.text(st.sampled_from("ab\ud83d\ude00\ud800\udfff"), max_size=5), max_size=8))
def test_whatever_pieces_come_what_goes_out_can_be_encoded(pieces):
    joiner = HalfJoiner()
    out = "".join(joiner.feed(piece) for piece in pieces) + joiner.flush()
    out.encode()
    assert out == encodable("".join(pieces))


@pytest.mark.parametrize("kind", [MessageDelta, ThinkingDelta])
@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a\ud83d", "\ude00b"], "a\N{GRINNING FACE}b"),
        (["\ud83d", "", "\ude00"], "\N{GRINNING FACE}"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ud83d"], "a\ufffd"),
        (["\ude00b"], "\ufffdb"),
    ],
)
async def test_an_emoji_cut_in_two_deltas_is_whole_in_the_stream_and_in_later_turns(
    kind, pieces, expected
):
    async def script(turn):
        for piece in pieces:
            turn.emit(kind(piece))
        for message in turn.history:
            message.content.encode()
        yield ""

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        for _ in range(2):
            events = await turn_of(conversation, "go \ud83d")
            assert names(events)[-1] == "agent_end"
            said = [data_of(each)["delta"] for each in events if each.name == kind.name]
            assert "".join(said) == expected
        assert next(each.content for each in conversation.history.all()) == "go \ufffd"


async def test_half_a_character_never_reaches_a_message_of_another_kind():
    async def script(turn):
        turn.emit(ThinkingDelta("hm\ud83d"))
        turn.emit(MessageDelta("\ude00 yes\ud83d"))
        turn.emit(ThinkingDelta("\ude00"))
        yield "end"

    async with open_service(scripted(script)) as service:
        events = await turn_of(await open_session(service), "go")
        said = [(each.name, data_of(each)["delta"]) for each in events if "delta" in each.name]
        assert said == [
            ("thinking_delta", "hm"),
            ("thinking_delta", "\ufffd"),
            ("message_delta", "\ufffd yes"),
            ("message_delta", "\ufffd"),
            ("thinking_delta", "\ufffd"),
            ("message_delta", "end"),
        ]


# -- what is said by a filter -------------------------------------------------------------------


class Denied:
    """Refuse one word."""

    def refuse_input(self, tenant_id, text):
        return "denied" if "darn" in text else None

    refuse_tool_result = refuse_message = refuse_input

    def refuse_output(self, tenant_id, message):
        return self.refuse_input(tenant_id, message.text)


@pytest.mark.parametrize(
    "response",
    ["darn", ["darn"], {"a": "darn"}, {"darn": 1}, {"a": [{"b": ["x", "so darn it"]}]}],
)
async def test_a_denied_word_does_not_get_through_in_an_answer_of_any_shape(response):
    from frontdesk.sessions.errors import GuardrailRefused

    async def script(turn):
        yield str(await turn.ask("what?"))

    async with open_service(scripted(script), guardrails=Denied()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, asked) = await stream.until("ask_user")
        with pytest.raises(GuardrailRefused):
            conversation.respond(data_of(asked)["ref"], response)
        conversation.respond(data_of(asked)["ref"], "fine")
        assert text(await stream.until(*OVER)) == "fine"
        stream.close()


@pytest.mark.parametrize("verb", ["approve", "reject"])
async def test_a_denied_word_does_not_get_through_in_the_reason_of_an_approval(verb):
    from frontdesk.sessions.errors import GuardrailRefused

    async def script(turn):
        yield str((await turn.approval("rm")).reason)

    async with open_service(scripted(script), guardrails=Denied()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, required) = await stream.until("approval_required")
        reference = data_of(required)["approvalId"]
        with pytest.raises(GuardrailRefused):
            getattr(conversation, verb)(reference, "darn you")
        getattr(conversation, verb)(reference, "because")
        assert text(await stream.until(*OVER)) == "because"
        stream.close()


@pytest.mark.parametrize("result", ["darn", {"text": ["darn"]}, {"darn": None}])
async def test_a_denied_word_does_not_get_through_in_a_tools_result(result):
    from frontdesk.agents.errors import ToolFailed
    from support.sessions import callback_tool

    class Caller:
        async def call(self, tool, **_):
            return result

    async def script(turn):
        try:
            yield str(await turn.call_tool("look"))
        except ToolFailed as error:
            yield error.problem

    async with open_service(scripted(script), guardrails=Denied(), call_tool=Caller()) as service:
        conversation = await open_session(service)
        conversation.attach_tool(callback_tool())
        events = await turn_of(conversation, "go")
        assert "refused by a guardrail" in text(events)
        assert not any(b"darn" in each.json for each in events)


def test_what_may_enter_as_json_is_the_same_for_every_value():
    assert json_value(2**64 - 1) == 2**64 - 1
    assert json_value(-(2**63)) == -(2**63)
    assert json_value([2**64, -(2**63) - 1]) == [float(2**64), -float(2**63)]
    assert json_value(10**400) == "<int>"
    assert json_value({"a": float("inf"), "b": "\ud800", 3: {4}}) == {
        "a": None,
        "b": "\ufffd",
        "3": [4],
    }
