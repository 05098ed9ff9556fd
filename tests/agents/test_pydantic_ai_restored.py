"""A Pydantic AI session goes on in another agent: with its memory, and in the middle of a turn."""

import asyncio
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.requirements import covers
from support.restored_agents import (
    CONTEXT,
    EITHER,
    KeepingPort,
    left,
    open_factory,
    restored_agent,
    run,
    told,
)
from support.sessions import BOUND_S, soon

pytest.importorskip("pydantic_ai")

from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from frontdesk.agents.errors import AgentFailed
from frontdesk.agents.events import ToolCalls, ToolExecutionEnd, ToolExecutionStart
from frontdesk.agents.pydantic_ai import stored_messages
from frontdesk.agents.pydantic_ai.memory import CUT_OFF
from frontdesk.agents.pydantic_ai.stored_messages import MemoryUnreadable, StoredMessages
from frontdesk.agents.pydantic_ai.suspension import NO_ANSWER
from frontdesk.agents.records import Approval, Memory, Message, Suspended, ToolCall

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_keys")]

PROGRAM = "support.programs.pydantic_programs:waiting_program"
TOOLS = ("refund", "stuck", "broken", "transfer", "careful", "elsewhere", "picky", "ask_user")
SESSION = msgspec.structs.replace(CONTEXT, model="fn", tools=TOOLS)


def steps(*calls, end="end"):
    """Return a prompt by which the model calls these tools at once, and then ends."""
    return json.dumps([[calls], end])


async def told_by(agent, **options):
    """Return what the model reads of what was done so far."""
    return json.loads((await run(agent, "tell", context=SESSION, **options)).said)


def after(memories, more):
    """Return what is stored of memories, as a store does it."""
    kept = list(memories)
    for memory in more:
        kept = [memory] if memory.replaces else [*kept, memory]
    return kept


# -- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", EITHER)
async def test_the_next_agent_remembers_what_the_last_one_did_and_each_turn_left_only_its_own(
    isolation,
):
    async with open_factory(isolation, PROGRAM) as factory:
        first, _ = await restored_agent(factory, context=SESSION)
        memories = []
        for order in (7, 8, 9):
            port = await run(first, steps(["refund", {"order": order}]), context=SESSION)
            memories = after(memories, port.memories)
        await first.end(1.0)
        assert len(memories) == 3
        assert b"paid back 9" in memories[2].content
        assert b"paid back 8" not in memories[2].content
        second, known = await restored_agent(factory, left(*memories), context=SESSION)
        assert known == "kept"
        paid = [["refund", f"paid back {order}"] for order in (7, 8, 9)]
        assert await told_by(second) == paid
        await second.end(1.0)


async def test_a_clients_system_prompt_is_not_in_what_is_left_and_the_next_agent_has_it():
    context = msgspec.structs.replace(SESSION, system_prompt="my password is 7-up")
    async with open_factory("task", PROGRAM) as factory:
        first, _ = await restored_agent(factory, context=context)
        port = await run(first, steps(["refund", {"order": 7}]), context=context)
        again = await run(first, steps(["refund", {"order": 8}]), context=context)
        left_behind = [*port.memories, *again.memories]
        assert len(left_behind) == 2
        assert not any(b"7-up" in memory.content for memory in left_behind)
        assert b"paid back 7" not in again.memories[0].content
        cut = await cut_while_waiting(
            factory, steps(["transfer", {"amount": 5}]), done=b"transfer", context=context
        )
        assert b"7-up" not in cut.state.content
        second, known = await restored_agent(factory, left(*left_behind), context=context)
        assert known == "kept"
        assert (await run(second, "instructions", context=context)).said == "my password is 7-up"


async def test_what_a_turn_that_left_no_memory_did_is_read_from_the_history():
    async with open_factory("task", PROGRAM) as factory:
        first, _ = await restored_agent(factory, context=SESSION)
        port = await run(first, steps(["refund", {"order": 7}]), context=SESSION)
        cut = (
            Message("user", "and 8, and wait"),
            Message(
                "assistant",
                "let me see",
                (ToolCall("a", "refund", {"order": 8}), ToolCall("b", "stuck")),
            ),
            Message("tool_result", "paid back 8", call_id="a", status="ok"),
        )
        history = (*told("pay 7 back", "done"), *cut)
        restored = left(*port.memories, history=history, unremembered=len(cut))
        second, known = await restored_agent(factory, restored, context=SESSION)
        assert known == "kept"
        done = [["refund", "paid back 7"], ["refund", "paid back 8"], ["stuck", CUT_OFF]]
        assert await told_by(second, history=history) == done
        # It is in the memory from here on.
        told_port = await run(second, "tell", context=SESSION, history=history)
        third, _ = await restored_agent(
            factory, left(*after(port.memories, told_port.memories)), context=SESSION
        )
        assert await told_by(third) == done


@covers("durable.memory-is-honest")
@pytest.mark.parametrize(
    "spoiled",
    [
        lambda memory: msgspec.structs.replace(memory, version=memory.version + 1),
        lambda memory: msgspec.structs.replace(memory, content=memory.content[:-9]),
        lambda memory: msgspec.structs.replace(memory, content=b"1.\n{}"),
        lambda memory: msgspec.structs.replace(memory, content=b"1\n" + memory.content[3:]),
        lambda memory: msgspec.structs.replace(
            memory, content=memory.content.replace(b"user-prompt", b"no-such-part")
        ),
        lambda memory: msgspec.structs.replace(
            memory, content=memory.content.replace(b'"before":0', b'"before":3')
        ),
    ],
    ids=["version", "cut off", "another form", "a piece short", "unknown part", "a gap"],
)
async def test_a_memory_that_cannot_be_read_is_rebuilt_from_the_history_and_that_is_said(
    spoiled, caplog
):
    async with open_factory("task", PROGRAM) as factory:
        first, _ = await restored_agent(factory, context=SESSION)
        port = await run(first, steps(["refund", {"order": 7}]), context=SESSION)
        history = (
            Message("user", "pay 7 back"),
            Message("assistant", "", (ToolCall("a", "refund", {"order": 7}),)),
            Message("tool_result", "paid back 7, I read", call_id="a", status="ok"),
        )
        restored = left(*map(spoiled, port.memories), history=history)
        second, known = await restored_agent(factory, restored, context=SESSION)
        assert known == "rebuilt"
        assert "cannot be read" in caplog.text
        assert await told_by(second, history=history) == [["refund", "paid back 7, I read"]]


async def test_a_turn_that_was_given_up_is_left_by_the_turn_after_it():
    async with open_factory("task", PROGRAM) as factory:
        first, _ = await restored_agent(factory, context=SESSION)
        given_up = KeepingPort(SESSION, steps(["refund", {"order": 7}], end="hang"))
        deaf = asyncio.create_task(first.run_turn(given_up))
        await soon(lambda: "so far" in given_up.said)
        port = await run(first, "tell", context=SESSION)
        deaf.cancel()
        await asyncio.wait({deaf}, timeout=BOUND_S)
        assert not given_up.memories
        second, _ = await restored_agent(factory, left(*port.memories), context=SESSION)
        assert await told_by(second) == [["refund", "paid back 7"]]


def test_what_is_too_large_to_be_stored_is_no_memory_at_all(monkeypatch):
    monkeypatch.setattr(stored_messages, "MAX_TURN_MEMORY_BYTES", 20_000)
    stored = StoredMessages()
    memories = stored.memories([request("small")])
    memories = after(memories, stored.memories([request("small"), request("x" * 20_000)]))
    with pytest.raises(MemoryUnreadable):
        StoredMessages().read(memories)
    memories = after(memories, stored.memories([request("small again")]))
    again = StoredMessages()
    again.read(memories)
    assert again.messages == [request("small again")]


def request(text):
    """Return a prompt, always alike."""
    return ModelRequest(parts=[UserPromptPart(text, timestamp=NOW)], timestamp=NOW)


def response(text):
    """Return an answer, always alike."""
    return ModelResponse(parts=[TextPart(text)], timestamp=NOW)


NOW = ModelResponse(parts=[]).timestamp

TURNS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.text(max_size=9), st.booleans()),
    max_size=8,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(TURNS, st.integers(20, 400))
def test_what_is_stored_is_what_was_remembered_however_the_list_changed(turns, piece_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_messages, "PIECE_BYTES", piece_bytes)
        patch.setattr(stored_messages, "MAX_CHANGES_BYTES", 2000)
        messages, memories, stored = [], [], StoredMessages()
        for dropped, added, text, changed in turns:
            messages = messages[dropped:]
            if changed and messages:
                messages = [*messages[:-1], response(text)]
            messages = [*messages, *([request(text), response(text)] * added)]
            memories = after(memories, stored.memories(messages))
            again = StoredMessages()
            again.read(memories)
            assert again.messages == messages


def test_what_is_stored_stays_in_proportion_to_what_is_remembered():
    messages, memories, stored = [], [], StoredMessages()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_messages, "MAX_CHANGES_BYTES", 10_000)
        for turn in range(100):
            messages = [*messages[-8:], request(f"{turn} " * 50), response(f"{turn} " * 50)]
            memories = after(memories, stored.memories(messages))
            assert sum(len(memory.content) for memory in memories) < 25_000


# -- suspended turns ---------------------------------------------------------------------------


class Cut:
    """A turn that waits, in an agent that is lost while it does."""

    def __init__(self, port, memories=()):
        self.state, self.asked = port.suspension, dict(port.asked)
        self.memories = list(memories)

    def reference(self, question):
        """Return what a question is called."""
        return next(each for each, asked in self.asked.items() if asked == question)

    def suspended(self, **answers):
        """Return where the turn goes on: answers by question, an `Approval` or what was said."""
        by_reference = {self.reference(question): answers[question] for question in answers}
        approvals = {n: a for n, a in by_reference.items() if isinstance(a, Approval)}
        responses = {n: a for n, a in by_reference.items() if not isinstance(a, Approval)}
        return Suspended(memory=self.state, approvals=approvals, responses=responses)


async def cut_while_waiting(factory, prompt, *, done, before=(), answers=(), context=SESSION):
    """Run a turn until it waits and its state has what is `done`; lose its agent."""
    agent, _ = await restored_agent(factory, context=context)
    memories = []
    for each in before:
        memories = after(memories, (await run(agent, each, context=SESSION)).memories)
    port = KeepingPort(context, prompt, answers=answers)
    task = asyncio.create_task(agent.run_turn(port))
    await soon(lambda: task.done() or (port.suspension and done in port.suspension.content))
    assert not task.done(), task
    async with asyncio.timeout(BOUND_S):
        await port.waiting.wait()
    cut = Cut(port, memories)
    task.cancel()
    await asyncio.wait({task}, timeout=BOUND_S)
    await agent.end(0.0)
    return cut


def ran(port):
    """Return the tools that ran, and how those that ended did."""
    began = [event.tool_name for event in port.events if isinstance(event, ToolExecutionStart)]
    ended = [
        (event.tool_name, event.status)
        for event in port.events
        if isinstance(event, ToolExecutionEnd)
    ]
    return began, ended


async def gone_on(factory, cut, *, answers=(), **answered):
    """Let another agent go on with a turn; return it, and its port."""
    agent, _ = await restored_agent(factory, left(*cut.memories), context=SESSION)
    port = await run(
        agent, context=SESSION, suspended=cut.suspended(**answered), answers=dict(answers)
    )
    return agent, port


@covers("durable.tools-run-once")
@pytest.mark.parametrize("isolation", EITHER)
async def test_a_turn_goes_on_with_its_approval_and_runs_no_tool_twice(isolation):
    prompt = steps(["refund", {"order": 7}], ["transfer", {"amount": 5}], ["picky", {}])
    async with open_factory(isolation, PROGRAM) as factory:
        cut = await cut_while_waiting(
            factory, prompt, done=b"paid back 7", before=[steps(["refund", {"order": 1}])]
        )
        agent, port = await gone_on(factory, cut, transfer=Approval("approved"))
        assert ran(port) == (["transfer"], [("transfer", "ok")])
        assert port.said == "so far "
        assert not any(isinstance(event, ToolCalls) for event in port.events)
        done = await told_by(agent)
        assert done[:3] == [
            ["refund", "paid back 1"],
            ["refund", "paid back 7"],
            ["transfer", "sent 5"],
        ]
        assert done[3][0] == "picky"
        assert "say please" in done[3][1]
        await agent.end(1.0)
        # What the turn came to after all is in the memory.
        third, known = await restored_agent(
            factory, left(*after(cut.memories, port.memories)), context=SESSION
        )
        assert known == "kept"
        assert await told_by(third) == done
        await third.end(1.0)


@pytest.mark.parametrize(
    ("status", "says"), [("rejected", "rejected): no"), ("expired", "expired)")]
)
async def test_a_turn_goes_on_without_what_was_not_approved(status, says):
    calls = (["transfer", {"amount": 5}], ["careful", {"amount": 50}], ["refund", {"order": 7}])
    async with open_factory("task", PROGRAM) as factory:
        cut = await cut_while_waiting(factory, steps(*calls), done=b"paid back 7")
        agent, port = await gone_on(
            factory,
            cut,
            transfer=Approval(status, "no" if status == "rejected" else None),
            careful=Approval("approved"),
        )
        assert ran(port) == (["careful"], [("careful", "ok")])
        by_tool = dict(await told_by(agent))
        assert says in by_tool["transfer"]
        assert by_tool["careful"] == "sent 50 carefully"
        assert by_tool["refund"] == "paid back 7"


@pytest.mark.parametrize("isolation", EITHER)
async def test_a_turn_goes_on_with_the_answer_to_its_question_in_the_same_call(isolation):
    calls = (["refund", {"order": 7}], ["ask_user", {"question": "sure?"}])
    async with open_factory(isolation, PROGRAM) as factory:
        cut = await cut_while_waiting(factory, steps(*calls), done=b"paid back 7")
        agent, port = await gone_on(factory, cut, **{"sure?": "quite"})
        assert ran(port) == ([], [("ask_user", "ok")])
        assert port.events[0].result == "quite"
        assert await told_by(agent) == [["refund", "paid back 7"], ["ask_user", "quite"]]
        await agent.end(1.0)


async def test_a_question_that_nobody_answers_in_time_is_none_for_the_next_agent_either():
    async with open_factory("task", PROGRAM) as factory:
        prompt = steps(["ask_user", {"question": "sure?"}])
        cut = await cut_while_waiting(factory, prompt, done=b"sure?")
        agent, _ = await gone_on(factory, cut)
        assert await told_by(agent) == [["ask_user", NO_ANSWER]]


async def test_what_ran_beside_a_question_and_has_no_result_was_cut_off():
    calls = (["stuck", {}], ["ask_user", {"question": "sure?"}])
    async with open_factory("task", PROGRAM) as factory:
        cut = await cut_while_waiting(factory, steps(*calls), done=b'"tool_name":"stuck"')
        agent, port = await gone_on(factory, cut, **{"sure?": "quite"})
        assert sorted(ran(port)[1]) == [("ask_user", "ok"), ("stuck", "cancelled")]
        assert ran(port)[0] == []
        assert await told_by(agent) == [["stuck", CUT_OFF], ["ask_user", "quite"]]


async def test_a_call_that_runs_elsewhere_gets_its_result_in_the_next_agent():
    prompt = steps(["elsewhere", {"question": "how much?"}], ["refund", {"order": 7}])
    async with open_factory("task", PROGRAM) as factory:
        cut = await cut_while_waiting(factory, prompt, done=b"paid back 7")
        agent, port = await gone_on(factory, cut, **{"how much?": {"euros": 5}})
        assert ran(port) == ([], [])
        assert await told_by(agent) == [["elsewhere", {"euros": 5}], ["refund", "paid back 7"]]


async def test_a_turn_can_be_suspended_again_after_it_went_on():
    first = ["ask_user", {"question": "sure?"}]
    prompt = json.dumps([[[first], [["transfer", {"amount": 5}]]], "end"])
    async with open_factory("task", PROGRAM) as factory:
        cut = await cut_while_waiting(factory, prompt, done=b"sure?")
        agent, _ = await restored_agent(factory, context=SESSION)
        port = KeepingPort(SESSION, suspended=cut.suspended(**{"sure?": "yes"}))
        task = asyncio.create_task(agent.run_turn(port))
        async with asyncio.timeout(BOUND_S):
            await port.waiting.wait()
        again = Cut(port)
        task.cancel()
        await asyncio.wait({task}, timeout=BOUND_S)
        agent, port = await gone_on(factory, again, transfer=Approval("approved"))
        assert ran(port) == (["transfer"], [("transfer", "ok")])
        assert await told_by(agent) == [["ask_user", "yes"], ["transfer", "sent 5"]]


async def test_a_turn_whose_agent_is_not_lost_goes_on_as_ever():
    calls = (["ask_user", {"question": "sure?"}], ["transfer", {"amount": 5}])
    async with open_factory("task", PROGRAM) as factory:
        agent, _ = await restored_agent(factory, context=SESSION)
        port = await run(
            agent,
            steps(*calls),
            context=SESSION,
            answers={"sure?": "yes", "transfer": "approved"},
        )
        assert ran(port) == (
            ["ask_user", "transfer"],
            [("ask_user", "ok"), ("transfer", "ok")],
        )
        assert sorted(each[:4] for each in port.asked) == ["apr_", "ask_"]


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda state: msgspec.structs.replace(state, version=state.version + 1),
        lambda state: msgspec.structs.replace(state, content=b"{}"),
        lambda state: Memory(kind=state.kind, version=state.version, content=b"[" * 9000),
    ],
    ids=["version", "another form", "nested"],
)
async def test_a_turn_whose_state_cannot_be_read_any_more_does_nothing_again(spoiled):
    async with open_factory("task", PROGRAM) as factory:
        prompt = steps(["transfer", {"amount": 5}])
        cut = await cut_while_waiting(factory, prompt, done=b"transfer")
        suspended = cut.suspended(transfer=Approval("approved"))
        suspended = msgspec.structs.replace(suspended, memory=spoiled(suspended.memory))
        agent, _ = await restored_agent(factory, context=SESSION)
        port = KeepingPort(SESSION, suspended=suspended)
        with pytest.raises(AgentFailed, match="cannot be read"):
            await agent.run_turn(port)
        assert not port.events


async def test_a_state_that_is_too_large_is_not_left_and_what_is_asked_does_not_outlive_its_agent():
    prompt = steps(["transfer", {"amount": 5}], end="x" * 2**21)
    async with open_factory("task", PROGRAM) as factory:
        agent, _ = await restored_agent(factory, context=SESSION)
        port = await run(agent, prompt, context=SESSION, answers={"transfer": "approved"})
        assert port.suspension is None
        assert port.asked == {None: "transfer"}
