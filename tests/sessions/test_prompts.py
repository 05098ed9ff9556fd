"""Prompts of one conversation: the queue, steering, the model, and the meter."""

import asyncio
import contextlib

import pytest

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import (
    CreateFailed,
    ModelRefused,
)
from frontdesk.agents.records import TokenUsage
from frontdesk.agents.task import FunctionProgram, TaskAgentFactory
from frontdesk.sessions.errors import (
    PromptQueueFull,
    SessionDead,
    SteeringQueueFull,
)
from support.sessions import (
    BOUND_S,
    RecordingMeter,
    RecordingToolCaller,
    Stream,
    callback_tool,
    data_of,
    info_of,
    messages_of,
    names,
    open_service,
    open_session,
    parrot,
    passes,
    scripted,
    stats_of,
    status_of,
    text,
)

pytestmark = pytest.mark.anyio


# -- the queue -------------------------------------------------------------------------------------


async def test_prompts_run_one_after_another_in_the_order_they_came():
    running, most = 0, 0

    async def script(turn):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        yield turn.text
        running -= 1

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        queued = [conversation.prompt(str(number)).queued for number in range(10)]
        await stream.until("agent_end", count=10)
        stream.close()
        assert text(stream.events) == "0123456789"
        assert queued == [False] + [True] * 9
        assert most == 1


async def test_more_prompts_than_may_wait_are_refused_and_cost_nothing():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield turn.text

    meter = RecordingMeter()
    async with open_service(scripted(script), meter=meter, max_queued_prompts=16) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("first")
        for number in range(16):
            conversation.prompt(f" {number}")
        with pytest.raises(PromptQueueFull) as refused:
            conversation.prompt("one too many")
        assert refused.value.limit == 16
        await stream.until("agent_start")
        with pytest.raises(PromptQueueFull):
            conversation.prompt("still too many")
        assert status_of(conversation)["queues"]["prompts"] == 16
        go.set()
        await stream.until("agent_end", count=17)
        stream.close()
        assert meter.total("prompts") == 17
        assert stats_of(conversation)["promptCount"] == 17


async def test_prompt_received_is_emitted_when_its_turn_begins():
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("one")
        conversation.prompt("two")
        await stream.until("agent_end", count=2)
        stream.close()
        assert [
            data_of(event)["text"] if event.name == "prompt_received" else event.name
            for event in stream.events
            if event.name in {"prompt_received", "agent_end"}
        ] == ["one", "agent_end", "two", "agent_end"]


async def test_a_stream_opened_after_the_prompt_sees_that_turn_whole_however_fast_the_agent_was():
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        waiting = Stream(conversation)
        conversation.prompt("before")
        await waiting.until("agent_end")
        accepted = conversation.prompt("mine")
        early = Stream(conversation, since=None)
        await waiting.until("agent_end")
        late = Stream(conversation, since=None)
        for stream in (early, late):
            came = await stream.until("agent_end")
            assert names(came)[0] == "prompt_received"
            assert {data_of(event)["requestId"] for event in came} == {accepted.request_id}
            stream.close()
        waiting.close()


async def test_a_stream_opened_while_the_latest_prompt_still_waits_begins_at_it():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield turn.text

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        conversation.prompt("first")
        conversation.prompt("second")
        last = conversation.prompt("third")
        stream = Stream(conversation, since=None)
        go.set()
        came = await stream.until("agent_end")
        stream.close()
        assert data_of(came[0]) == {
            "requestId": last.request_id,
            "text": "third",
            "attachments": [],
        }


async def test_a_clients_disconnect_does_not_kill_the_turn():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield "finished"

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_start")
        reading = asyncio.create_task(stream.reader.next())
        await asyncio.sleep(0)
        reading.cancel()
        stream.close()
        go.set()
        again = Stream(conversation, since="2")
        assert text(await again.until("agent_end")) == "finished"
        again.close()
        await asyncio.wait({reading})


# -- steering --------------------------------------------------------------------------------------


async def test_steering_is_taken_at_the_next_step_and_three_may_wait():
    step, taken = asyncio.Event(), []

    async def script(turn):
        yield "step one "
        await step.wait()
        taken.extend(turn.steering())
        yield "step two"

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        accepted = conversation.prompt("go")
        await stream.until("message_delta")
        for word in ("left", "no", "right"):
            conversation.steer(word)
        with pytest.raises(SteeringQueueFull):
            conversation.steer("too much")
        assert status_of(conversation)["queues"]["steering"] == 3
        step.set()
        came = await stream.until("agent_end")
        stream.close()
        steered = [data_of(event) for event in came if event.name == "steering"]
        assert [each["text"] for each in steered] == ["left", "no", "right"]
        assert {each["requestId"] for each in steered} == {accepted.request_id}
        assert taken == ["left", "no", "right"]
        assert status_of(conversation)["queues"]["steering"] == 0


async def test_steering_that_a_turn_did_not_take_goes_with_it():
    async with open_service(parrot) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        for _ in range(3):
            conversation.steer("before the turn")
        conversation.prompt("hello")
        await stream.until("agent_end")
        stream.close()
        conversation.steer("there is room again")


# -- the model -------------------------------------------------------------------------------------


class Picky(FunctionProgram):
    """A program that knows few models."""

    def check(self, context):
        if context.model not in {"small", "large"}:
            raise CreateFailed("no such model")


def picky(script, models=("*",)):
    return Blueprint(
        name="picky", kind="python", factory=TaskAgentFactory(Picky(script)), models=models
    )


async def test_a_switched_model_is_told_to_the_turn_the_stream_and_the_registry():
    switched = asyncio.Event()

    async def script(turn):
        yield turn.model
        await switched.wait()
        yield f" {turn.model}"

    async with open_service(picky(script)) as service:
        conversation = await open_session(service, model="small")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.switch_model("large")
        switched.set()
        came = await stream.until("agent_end")
        stream.close()
        assert data_of(came[0])["from"] == "small"
        assert data_of(came[0])["to"] == "large"
        assert text(stream.events) == "small large"
        assert info_of(conversation)["model"] == "large"
        assert service.store.get(f"acme/{conversation.session_id}").model == "large"


@pytest.mark.parametrize("models", [("*",), ("sm*",)])
async def test_a_model_that_cannot_or_may_not_be_is_refused_and_nothing_changes(models):
    async def script(turn):
        yield "x"

    async with open_service(picky(script, models)) as service:
        conversation = await open_session(service, model="small")
        with pytest.raises(ModelRefused):
            conversation.switch_model("huge")
        assert conversation.model == "small"
        assert conversation.log.last_index == 0


# -- the meter, and the end ------------------------------------------------------------------------


async def test_usage_is_metered_for_the_key_and_tenant_even_when_the_session_is_gone():
    gone, reported = asyncio.Event(), asyncio.Event()

    async def script(turn):
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            while not gone.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await gone.wait()
            turn.usage(prompt=7, completion=3, cached=2, cost=0.5)
            reported.set()

    meter = RecordingMeter()
    async with open_service(scripted(script), meter=meter, end_grace_s=0.05) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        stream.close()
        gone.set()
        await asyncio.wait_for(reported.wait(), BOUND_S)
        assert meter.recorded[-1] == {
            "tenant_id": "acme",
            "api_key": "key-1",
            "model": "none",
            "tokens": TokenUsage(7, 3, 2, 0.5),
        }


async def test_no_verb_works_on_a_session_that_has_ended_but_its_views_do():
    async with open_service(parrot, call_tool=RecordingToolCaller()) as service:
        conversation = await open_session(service)
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        for verb, arguments in {
            "prompt": ("x",),
            "approve": ("x",),
            "reject": ("x",),
            "respond": ("x", "y"),
            "abort": (),
            "steer": ("x",),
            "switch_model": ("x",),
            "attach_tool": (callback_tool(),),
            "detach_tool": ("x",),
        }.items():
            with pytest.raises(SessionDead) as dead:
                getattr(conversation, verb)(*arguments)
            assert str(dead.value.reason) == "deleted"
        (
            info_of(conversation),
            stats_of(conversation),
            status_of(conversation),
            messages_of(conversation),
        )


async def test_the_stream_of_a_prompt_whose_turn_never_came_tells_how_the_session_ended():
    gate = asyncio.Event()

    async def script(turn):
        await gate.wait()
        yield "x"

    async with open_service(scripted(script)) as service:
        conversation = await open_session(service)
        conversation.prompt("one")
        await passes(5)
        conversation.prompt("two")
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        stream = Stream(conversation, since=None)
        assert not stream.reader.drained
        events = await stream.rest()
        assert names(events) == ["session_end"]
        assert data_of(events[0]) == {"reason": "deleted"}
