"""What is accepted has an end, and whoever waits for it is told, without a stream."""

import asyncio

import pytest

from frontdesk.agents import CreateSession
from frontdesk.agents.events import TurnTokens
from frontdesk.sessions.errors import GuardrailRefused
from frontdesk.sessions.turn_ends import MAX_STORED, MAX_STORED_CHARACTERS, TurnEnd, TurnEnds
from support.sessions import open_service, open_session, parrot, passes, scripted

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@scripted
async def spending(turn):
    """Say two messages, and what they cost."""
    yield "done"
    turn.usage(prompt=3, completion=4)


@scripted
async def endless(turn):
    """Say a word and never stop."""
    yield "begun "
    await asyncio.Event().wait()


@scripted
async def failing(turn):
    yield "I will "
    raise ValueError("not for clients")


async def end_of(conversation, accepted):
    async with asyncio.timeout(10):
        return await conversation.ends.wait(accepted.request_id)


async def test_a_turn_that_ended_well_tells_text_tokens_and_where_the_log_is():
    async with open_service(spending) as service:
        conversation = await open_session(service)
        accepted = conversation.prompt("go")
        end = await end_of(conversation, accepted)
        assert end == TurnEnd(
            request_id=accepted.request_id,
            text="done",
            tokens=TurnTokens(3, 4, 7),
            last_index=conversation.log.last_index,
            last_position=2,
        )
        assert await end_of(conversation, accepted) is end


@pytest.mark.parametrize(
    ("agent", "stop", "told"),
    [
        (endless, lambda each: each.abort("enough"), ("enough", None, "begun ")),
        (failing, lambda _: None, ("error", "ValueError", "I will ")),
    ],
    ids=["aborted", "failed"],
)
async def test_a_turn_that_was_cut_short_tells_why_and_what_it_had_said(agent, stop, told):
    async with open_service(agent) as service:
        conversation = await open_session(service)
        accepted = conversation.prompt("go")
        waiting = asyncio.create_task(end_of(conversation, accepted))
        await passes()
        stop(conversation)
        end = await waiting
        assert (end.aborted, end.error, end.text) == told


async def test_prompts_that_never_began_end_with_their_session():
    async with open_service(endless) as service:
        conversation = await open_session(service)
        accepted = [conversation.prompt("go") for _ in range(3)]
        waiting = [asyncio.create_task(end_of(conversation, each)) for each in accepted]
        await passes()
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        ends = [await each for each in waiting]
        assert [each.aborted for each in ends] == ["deleted"] * 3
        assert [each.text for each in ends] == ["begun ", "", ""]
        assert ends[-1].last_index == conversation.log.last_index


async def test_a_drain_tells_the_end_of_what_waits():
    async with open_service(endless) as service:
        conversation = await open_session(service)
        accepted = [conversation.prompt("go") for _ in range(2)]
        waiting = [asyncio.create_task(end_of(conversation, each)) for each in accepted]
        await passes()
        await service.drain(0.0)
        assert [(await each).aborted for each in waiting] == ["shutdown"] * 2


async def test_a_prompt_that_waits_ends_by_the_agent_that_follows_one_that_crashed():
    lives = []

    async def unlucky(turn):
        lives.append(turn.text)
        if len(lives) == 1:
            raise RuntimeError("the first life")
        yield turn.text

    rules = {"restart": "on_crash", "errors_end": "session"}
    async with open_service(scripted(unlucky, **rules)) as service:
        conversation = await open_session(service)
        accepted = [conversation.prompt("one"), conversation.prompt("two")]
        first, second = [await end_of(conversation, each) for each in accepted]
        assert (first.aborted, first.error) == ("error", "RuntimeError")
        assert (second.aborted, second.text) == (None, "two")


async def test_an_end_that_is_no_longer_remembered_is_none_and_nobody_waits():
    ends = TurnEnds()
    for number in range(MAX_STORED + 1):
        ends.expect(str(number))
        ends.add(an_end(str(number)))
    assert await ends.wait("0") is None
    assert (await ends.wait("1")).request_id == "1"


async def test_the_texts_that_are_remembered_are_bounded_and_the_newest_is_stored():
    ends = TurnEnds()
    ends.add(an_end("small", "x"))
    ends.add(an_end("large", "x" * MAX_STORED_CHARACTERS))
    assert (await ends.wait("small"), (await ends.wait("large")).request_id) == (None, "large")
    ends.add(an_end("larger", "x" * (MAX_STORED_CHARACTERS + 1)))
    assert await ends.wait("large") is None
    assert ends.held_bytes == 4 * (MAX_STORED_CHARACTERS + 1)
    ends.add(an_end("small"))
    assert (await ends.wait("larger"), ends.held_bytes) == (None, 0)


def an_end(request_id, text=""):
    return TurnEnd(request_id=request_id, text=text, tokens=None, last_index=1)


class Denying:
    """Guardrails that refuse one word; from `late` on, that is after so many questions."""

    def __init__(self, late=0):
        self.late = late

    def refuse_input(self, _, text):
        self.late -= 1
        return "no" if "bad" in text and self.late < 0 else None

    def refuse_output(self, *_):
        return None

    refuse_message = refuse_tool_result = refuse_output


@pytest.mark.parametrize("late", [0, 1], ids=["before", "after"])
async def test_a_session_whose_prompt_is_refused_is_not_there(late):
    async with open_service(parrot, guardrails=Denying(late)) as service:
        acme = service.tenant("acme", "key-1")
        with pytest.raises(GuardrailRefused):
            await acme.create_and_prompt(CreateSession(model="none"), "something bad")
        assert acme.sessions() == ([], None)
        assert service.store.count() == 0


async def test_a_session_opens_with_its_prompt_under_way():
    async with open_service(parrot) as service:
        acme = service.tenant("acme", "key-1")
        conversation, accepted = await acme.create_and_prompt(CreateSession(model="none"), "hello")
        assert (await end_of(conversation, accepted)).text == "hello "
