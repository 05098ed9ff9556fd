"""Guardrails of a conversation: what they refuse never reaches the agent, or the client."""

import pytest

from frontdesk.agents.events import ThinkingDelta
from frontdesk.sessions.errors import (
    GuardrailRefused,
)
from frontdesk.sessions.hooks import PENDING
from support.sessions import (
    RecordingMeter,
    Stream,
    data_of,
    names,
    open_service,
    open_session,
    parrot,
    scripted,
    text,
)

pytestmark = pytest.mark.anyio


class Denied:
    """Guardrails that deny one word."""

    def __init__(self, word="forbidden"):
        self.word = word
        self.longest = 0

    def refuse_input(self, tenant_id, text):
        return "a denied word" if self.word in text else None

    def refuse_output(self, tenant_id, message):
        self.longest = max(self.longest, len(message.text))
        return "a denied word" if self.word in message.text else None

    def refuse_message(self, tenant_id, text):
        return "a denied word" if self.word in text else None


async def test_a_refused_prompt_never_reaches_the_agent():
    meter = RecordingMeter()
    async with open_service(parrot, guardrails=Denied(), meter=meter) as service:
        conversation = await open_session(service)
        for say in (conversation.prompt, conversation.steer):
            with pytest.raises(GuardrailRefused) as refused:
                say("something forbidden")
            assert refused.value.why == "a denied word"
        assert conversation.log.last_index == 0
        assert meter.recorded == []


@pytest.mark.parametrize("pieces", [["forbidden"], ["a for", "bid", "den b"], [*"so forbidden"]])
async def test_refused_output_ends_the_turn_and_the_denied_word_never_goes_out(pieces):
    async def script(turn):
        for piece in pieces:
            yield piece
        yield "after"

    async with open_service(scripted(script), guardrails=Denied()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert names(stream.events)[-2:] == ["error", "agent_abort"]
        assert data_of(stream.events[-1])["reason"] == "guardrail"
        assert "forbidden" not in text(stream.events)


async def test_a_filter_on_the_whole_message_is_asked_when_it_is_complete():
    class Short(Denied):
        def refuse_message(self, tenant_id, text):
            return "too long" if len(text) > 10_000 else None

    async def script(turn):
        for _ in range(200):
            yield "x" * 100

    async with open_service(scripted(script), guardrails=Short()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert data_of(stream.events[-2])["reason"] == "guardrail"


async def test_the_filter_sees_a_bounded_window_and_not_the_whole_message_each_time():
    guardrails = Denied()

    async def script(turn):
        for _ in range(1000):
            yield "x" * 100
        raise ValueError("done")

    async with open_service(scripted(script), guardrails=guardrails) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert guardrails.longest <= 4096 + 100


class WholeWords(Denied):
    """Guardrails that deny a word only where it is whole, and cannot tell at the end of a piece."""

    def refuse_output(self, tenant_id, message):
        if message.text.endswith(self.word) and not message.complete:
            return PENDING
        return super().refuse_output(tenant_id, message) if self.refuses(message.text) else None

    def refuse_message(self, tenant_id, text):
        return "a denied word" if self.refuses(text) else None

    def refuses(self, text):
        return self.word in text.replace(self.word + "l", "")


@pytest.mark.parametrize(
    "pieces", [["forbidden", "ly"], ["so ", *"forbiddenly", " so"], ["a forbidden", "", "ly dull"]]
)
async def test_a_word_that_is_not_whole_in_its_piece_waits_for_the_next_one(pieces):
    async def script(turn):
        for piece in pieces:
            yield piece

    async with open_service(scripted(script), guardrails=WholeWords()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert text(stream.events) == "".join(pieces)
        assert conversation.history.all()[-1].content == "".join(pieces)


@pytest.mark.parametrize("kind", ["message", "thought"])
async def test_a_word_at_the_end_of_a_message_or_thought_is_whole(kind):
    async def script(turn):
        if kind == "thought":
            turn.emit(ThinkingDelta("so forbidden"))
        else:
            yield "so forbidden"

    async with open_service(scripted(script), guardrails=WholeWords()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert names(stream.events)[-2:] == ["error", "agent_abort"]
        assert not [event for event in stream.events if "forbidden" in str(data_of(event))]


async def test_what_waits_goes_out_before_what_comes_after_it():
    async def script(turn):
        yield "a forbidden"
        yield "ly long"
        turn.emit(ThinkingDelta("hm"))
        yield "end"

    async with open_service(scripted(script), guardrails=WholeWords()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert [data_of(each)["delta"] for each in stream.events if "_delta" in each.name] == [
            "a forbidden",
            "ly long",
            "hm",
            "end",
        ]


@pytest.mark.parametrize("say", ["ask", "approval"])
async def test_a_denied_word_does_not_go_out_in_a_question_or_a_hint(say):
    async def script(turn):
        yield "well, "
        if say == "ask":
            await turn.ask("what is forbidden?")
        else:
            await turn.approval("tool", hint="it is forbidden")

    async with open_service(scripted(script), guardrails=Denied()) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert data_of(stream.events[-1])["reason"] == "guardrail"
        assert not [event for event in stream.events if "forbidden" in str(data_of(event))]
