"""Guardrails of a conversation: what they refuse never reaches the agent, or the client."""

import pytest

from frontdesk.sessions.errors import (
    GuardrailRefused,
)
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

    def refuse_output(self, tenant_id, text):
        self.longest = max(self.longest, len(text))
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
        def refuse_output(self, tenant_id, text):
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
