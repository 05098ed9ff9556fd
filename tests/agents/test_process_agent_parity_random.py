"""Task and process cannot be told apart: random turns give the same log both ways."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk.sessions.errors import SessionDead
from support.isolated_sessions import ISOLATIONS, open_either
from support.programs.process_agents import FAILURES
from support.sessions import Stream, callback_tool, data_of, open_session

BOUND_S = 30

texts = st.text(
    st.one_of(st.characters(), st.sampled_from('\ud83d\ude00\ud800\udfff\x00\x1b"\\')), max_size=12
)
numbers = st.one_of(
    st.integers(),
    st.sampled_from([2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(texts, st.integers(-5, 5)), inner, max_size=3),
    ),
    max_leaves=6,
)
usage = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.one_of(st.integers(0, 10**6), numbers),
        "completion": st.one_of(st.integers(0, 10**6), numbers),
        "cost": st.one_of(st.floats(0, 10), numbers),
    },
)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["say", "think", "delta", "error", "ask", "approve"]), texts),
        st.tuples(st.sampled_from(["call", "result", "took", "count", "tool"]), values),
        st.tuples(st.sampled_from(["say", "delta", "error", "ask", "raise"]), values),
        st.tuples(st.just("usage"), usage),
        st.tuples(st.just("raise"), texts),
        st.tuples(st.just("pause"), st.none()),
    ),
    max_size=6,
)
answers = st.lists(values, min_size=6, max_size=6)


class Echo:
    """Answer callback tools with their arguments."""

    async def call(self, tool, *, args, **_):
        return {"args": args}


class Meter:
    """Remember what was used."""

    def __init__(self):
        self.used = []

    def record(self, *, tokens=None, **_):
        if tokens is not None:
            self.used.append(tokens)


@pytest.fixture(scope="module")
def both():
    """Open a service of tasks and one of processes, on one loop that each example goes on with."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def open_both():
            opened = {}
            for isolation in ISOLATIONS:
                service = await stack.enter_async_context(
                    open_either(isolation, "puppet", call_tool=Echo(), meter=Meter())
                )
                opened[isolation] = service
            return opened

        services = runner.run(open_both())
        yield runner, services
        runner.run(stack.aclose())


async def log_of(service, prompt, given_answers, *, abort_at_question=False):
    """Run one turn; return what its stream said, and what was metered."""
    meter = service._context.meter
    meter.used.clear()
    conversation = await open_session(service)
    conversation.attach_tool(callback_tool())
    stream = Stream(conversation, bound_s=BOUND_S)
    conversation.prompt(prompt)
    given_answers, events = iter(given_answers), []
    while not events or events[-1].name not in ("agent_end", "agent_abort"):
        events += await stream.until(
            "agent_end", "agent_abort", "ask_user", "approval_required", "error"
        )
        last = data_of(events[-1])
        if last.get("reason") == "hangs" or (abort_at_question and is_question(events[-1])):
            conversation.abort("enough")
            continue
        if events[-1].name == "ask_user":
            conversation.respond(last["ref"], next(given_answers))
        elif events[-1].name == "approval_required":
            conversation.approve(last["approvalId"])
    stream.close()
    with suppress(SessionDead):
        await service.tenant("acme", "key-1").delete(conversation.session_id)
    return [seen_of(event) for event in events], list(meter.used)


def is_question(event):
    """Say whether an agent waits for a client with this event."""
    return event.name in ("ask_user", "approval_required")


def seen_of(event):
    """Return what a client sees of an event, without what is different every time."""
    data = data_of(event)
    for name in ("requestId", "ref", "approvalId", "requestedAt", "durationMs"):
        data.pop(name, None)
    if isinstance(data.get("callId"), str) and data["callId"].startswith("call_"):
        data.pop("callId")
    return event.name, data


@settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False
)
@given(taken=steps, given_answers=answers)
def test_a_random_turn_gives_the_same_log_as_a_task_and_as_a_process(both, taken, given_answers):
    runner, services = both
    prompt = ascii(taken)
    logs = {
        isolation: runner.run(log_of(service, prompt, given_answers))
        for isolation, service in services.items()
    }
    assert logs["task"] == logs["process"]


ends = st.one_of(
    st.tuples(st.just("fail"), st.sampled_from(sorted(FAILURES))),
    st.tuples(st.just("hang"), texts),
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(taken=steps, end=ends, given_answers=answers, abort_at_question=st.booleans())
def test_a_turn_that_fails_or_is_aborted_anywhere_gives_the_same_log_both_ways(
    both, taken, end, given_answers, abort_at_question
):
    runner, services = both
    prompt = ascii([*taken, end])
    logs = {
        isolation: runner.run(
            log_of(service, prompt, given_answers, abort_at_question=abort_at_question)
        )
        for isolation, service in services.items()
    }
    assert logs["task"] == logs["process"]
