"""Prompts, approvals, questions, steering, models and tools of one conversation."""

import asyncio
import contextlib

import pytest

from frontdesk.agents import CallbackTool
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import (
    CreateFailed,
    ModelRefused,
    QuestionExpired,
    ToolFailed,
    UnknownTool,
)
from frontdesk.agents.records import TokenUsage
from frontdesk.agents.task import FunctionProgram, TaskAgentFactory
from frontdesk.sessions.errors import (
    GuardrailRefused,
    PromptQueueFull,
    SessionDead,
    SteeringQueueFull,
    ToolRefused,
    UnknownReference,
)
from support.sessions import (
    BOUND_S,
    Stream,
    facts,
    info_of,
    messages_of,
    names,
    open_desk,
    open_session,
    parrot,
    passes,
    scripted,
    stats_of,
    status_of,
    text,
)

pytestmark = pytest.mark.anyio


class Ledger:
    """A meter that remembers."""

    def __init__(self):
        self.recorded = []

    def record(self, **what):
        self.recorded.append(what)

    def total(self, name):
        return sum(each.get(name, 0) for each in self.recorded)


# -- the queue -----------------------------------------------------------------------------------


async def test_prompts_run_one_after_another_in_the_order_they_came():
    running, most = 0, 0

    async def script(turn):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        yield turn.text
        running -= 1

    async with open_desk(scripted(script)) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        queued = [conversation.prompt(str(number)).queued for number in range(10)]
        await stream.until("agent_end", count=10)
        stream.close()
        assert text(stream.frames) == "0123456789"
        assert queued == [False] + [True] * 9
        assert most == 1


async def test_more_prompts_than_may_wait_are_refused_and_cost_nothing():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield turn.text

    ledger = Ledger()
    async with open_desk(scripted(script), meter=ledger, max_queued_prompts=16) as desk:
        conversation = await open_session(desk)
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
        assert ledger.total("prompts") == 17
        assert stats_of(conversation)["promptCount"] == 17


async def test_prompt_received_is_emitted_when_its_turn_begins():
    async with open_desk(parrot) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("one")
        conversation.prompt("two")
        await stream.until("agent_end", count=2)
        stream.close()
        assert [
            facts(frame)["text"] if frame.name == "prompt_received" else frame.name
            for frame in stream.frames
            if frame.name in {"prompt_received", "agent_end"}
        ] == ["one", "agent_end", "two", "agent_end"]


async def test_a_stream_opened_after_the_prompt_sees_that_turn_whole_however_fast_the_agent_was():
    async with open_desk(parrot) as desk:
        conversation = await open_session(desk)
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
            assert {facts(frame)["requestId"] for frame in came} == {accepted.request_id}
            stream.close()
        waiting.close()


async def test_a_stream_opened_while_the_latest_prompt_still_waits_begins_at_it():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield turn.text

    async with open_desk(scripted(script)) as desk:
        conversation = await open_session(desk)
        conversation.prompt("first")
        conversation.prompt("second")
        last = conversation.prompt("third")
        stream = Stream(conversation, since=None)
        go.set()
        came = await stream.until("agent_end")
        stream.close()
        assert facts(came[0]) == {"requestId": last.request_id, "text": "third"}


async def test_a_clients_disconnect_does_not_kill_the_turn():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield "finished"

    async with open_desk(scripted(script)) as desk:
        conversation = await open_session(desk)
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


# -- approvals -----------------------------------------------------------------------------------


async def approving(turn):
    answer = await turn.approval("rm", {"path": "/"}, hint="removes everything")
    yield f"{answer.status}:{answer.reason}:{bool(answer)}"


async def test_an_approval_waits_and_is_resolved_once():
    async with open_desk(scripted(approving)) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, required) = await stream.until("approval_required")
        shown = facts(required)
        assert (shown["toolName"], shown["args"]) == ("rm", {"path": "/"})
        assert shown["hint"] == "removes everything"
        assert conversation.state == "waiting_approval"
        (pending,) = status_of(conversation)["pendingApprovals"]
        assert pending["approvalId"] == shown["approvalId"]
        conversation.approve(shown["approvalId"], "fine")
        with pytest.raises(UnknownReference):
            conversation.reject(shown["approvalId"])
        came = await stream.until("agent_end")
        stream.close()
        assert facts(came[0])["status"] == "approved"
        assert text(came) == "approved:fine:True"
        assert status_of(conversation)["pendingApprovals"] == []


async def test_a_rejection_is_told_to_the_agent_and_the_turn_goes_on():
    async with open_desk(scripted(approving)) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, required) = await stream.until("approval_required")
        conversation.reject(facts(required)["approvalId"])
        came = await stream.until("agent_end")
        stream.close()
        assert names(came)[0] == "approval_resolved"
        assert facts(came[0])["status"] == "rejected"
        assert text(came) == "rejected:None:False"


async def test_an_approval_that_nobody_answers_expires_and_the_turn_goes_on():
    async with open_desk(scripted(approving), approval_timeout_s=0.02) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        came = await stream.until("agent_end")
        stream.close()
        (resolved,) = [frame for frame in came if frame.name == "approval_resolved"]
        assert facts(resolved)["status"] == "expired"
        assert text(came) == "expired:None:False"
        with pytest.raises(UnknownReference):
            conversation.approve(facts(resolved)["approvalId"])


async def test_an_abort_cancels_the_approval_that_is_waited_for():
    async with open_desk(scripted(approving)) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("approval_required")
        conversation.abort()
        came = await stream.until("agent_abort")
        stream.close()
        assert names(came) == ["approval_resolved", "agent_abort"]
        assert facts(came[0])["status"] == "cancelled"


async def test_several_approvals_wait_at_once_and_are_answered_in_any_order():
    async def script(turn):
        answers = await asyncio.gather(*(turn.approval(f"t{n}") for n in range(3)))
        yield ",".join(answer.status for answer in answers)

    async with open_desk(scripted(script)) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        came = await stream.until("approval_required", count=3)
        refs = [facts(frame)["approvalId"] for frame in came if frame.name == "approval_required"]
        conversation.reject(refs[2])
        conversation.approve(refs[0])
        assert conversation.state == "waiting_approval"
        conversation.approve(refs[1])
        assert conversation.state == "working"
        assert text(await stream.until("agent_end")) == "approved,approved,rejected"
        stream.close()


@pytest.mark.parametrize("verb", ["approve", "reject", "respond"])
async def test_an_unknown_reference_is_refused(verb):
    async with open_desk(parrot) as desk:
        conversation = await open_session(desk)
        arguments = ("nothing", "x") if verb == "respond" else ("nothing",)
        with pytest.raises(UnknownReference):
            getattr(conversation, verb)(*arguments)


# -- questions -----------------------------------------------------------------------------------


async def asking(turn):
    try:
        yield f"you said {await turn.ask('which one?')}"
    except QuestionExpired:
        yield "nobody answered"


async def test_a_question_waits_for_its_response():
    async with open_desk(scripted(asking)) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        (*_, asked) = await stream.until("ask_user")
        assert facts(asked)["question"] == "which one?"
        assert conversation.state == "waiting_input"
        assert status_of(conversation)["pendingQuestions"][0]["ref"] == facts(asked)["ref"]
        conversation.respond(facts(asked)["ref"], "the left one")
        with pytest.raises(UnknownReference):
            conversation.respond(facts(asked)["ref"], "the right one")
        assert text(await stream.until("agent_end")) == "you said the left one"
        stream.close()


async def test_a_question_that_nobody_answers_expires():
    async with open_desk(scripted(asking), question_timeout_s=0.02) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        assert text(await stream.until("agent_end")) == "nobody answered"
        stream.close()


# -- steering ------------------------------------------------------------------------------------


async def test_steering_is_taken_at_the_next_step_and_three_may_wait():
    step, taken = asyncio.Event(), []

    async def script(turn):
        yield "step one "
        await step.wait()
        taken.extend(turn.steering())
        yield "step two"

    async with open_desk(scripted(script)) as desk:
        conversation = await open_session(desk)
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
        steered = [facts(frame) for frame in came if frame.name == "steering"]
        assert [each["text"] for each in steered] == ["left", "no", "right"]
        assert {each["requestId"] for each in steered} == {accepted.request_id}
        assert taken == ["left", "no", "right"]
        assert status_of(conversation)["queues"]["steering"] == 0


async def test_steering_that_a_turn_did_not_take_goes_with_it():
    async with open_desk(parrot) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        for _ in range(3):
            conversation.steer("before the turn")
        conversation.prompt("hello")
        await stream.until("agent_end")
        stream.close()
        conversation.steer("there is room again")


# -- the model -----------------------------------------------------------------------------------


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

    async with open_desk(picky(script)) as desk:
        conversation = await open_session(desk, model="small")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        conversation.switch_model("large")
        switched.set()
        came = await stream.until("agent_end")
        stream.close()
        assert facts(came[0])["from"] == "small"
        assert facts(came[0])["to"] == "large"
        assert text(stream.frames) == "small large"
        assert info_of(conversation)["model"] == "large"
        assert desk.store.get(f"acme/{conversation.session_id}").model == "large"


@pytest.mark.parametrize("models", [("*",), ("sm*",)])
async def test_a_model_that_cannot_or_may_not_be_is_refused_and_nothing_changes(models):
    async def script(turn):
        yield "x"

    async with open_desk(picky(script, models)) as desk:
        conversation = await open_session(desk, model="small")
        with pytest.raises(ModelRefused):
            conversation.switch_model("huge")
        assert conversation.model == "small"
        assert conversation.log.last_index == 0


# -- callback tools ------------------------------------------------------------------------------


class Caller:
    """A tool caller of the test's own."""

    def __init__(self):
        self.calls = []

    async def call(self, tool, *, call_id, args, session_id, api_key):
        self.calls.append((tool.name, args, session_id, api_key))
        if args == "fail":
            raise ToolFailed(tool.name, problem="it broke")
        return {"echo": args}


def tool(name="look", **rest):
    return CallbackTool(**{"name": name, "callback_url": "https://tools.example/", **rest})


async def test_a_callback_tool_runs_between_its_two_events_and_for_its_own_session():
    async def script(turn):
        assert [spec.name for spec in turn.tools] == ["look"]
        assert not hasattr(turn.tools[0], "callback_url")
        result = await turn.call_tool("look", {"at": 1})
        yield str(result)

    caller = Caller()
    async with open_desk(scripted(script), call_tool=caller) as desk:
        conversation = await open_session(desk)
        conversation.attach_tool(tool(description="look at it"))
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_end")
        stream.close()
        assert names(stream.frames)[0] == "tool_attached"
        began = facts(stream.frames[3])
        ended = facts(stream.frames[4])
        assert (began["toolName"], began["args"]) == ("look", {"at": 1})
        assert (ended["status"], ended["result"]) == ("ok", {"echo": {"at": 1}})
        assert ended["callId"] == began["callId"]
        assert caller.calls == [("look", {"at": 1}, conversation.session_id, "key-1")]


async def test_a_callback_tool_that_fails_is_told_to_the_agent():
    async def script(turn):
        try:
            await turn.call_tool("look", "fail")
        except ToolFailed as error:
            yield error.problem

    async with open_desk(scripted(script), call_tool=Caller()) as desk:
        conversation = await open_session(desk)
        conversation.attach_tool(tool())
        stream = Stream(conversation)
        conversation.prompt("go")
        came = await stream.until("agent_end")
        stream.close()
        assert text(came) == "it broke"
        assert facts(came[4])["status"] == "error"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 65},
        {"name": "1st"},
        {"description": "x" * 5000},
        {"parameters": {"type": "array"}},
        {"parameters": {"x": "y" * 100_000}},
        {"timeout_ms": 0},
    ],
    ids=str,
)
async def test_a_tool_that_cannot_be_is_refused(wrong):
    async with open_desk(parrot, call_tool=Caller()) as desk:
        conversation = await open_session(desk)
        with pytest.raises(ToolRefused):
            conversation.attach_tool(tool(**wrong))
        assert conversation.parts.tools.specs() == ()


async def test_a_tool_attached_twice_is_refused_and_one_detached_can_come_again():
    async with open_desk(parrot, call_tool=Caller(), max_tools=2) as desk:
        conversation = await open_session(desk)
        conversation.attach_tool(tool())
        with pytest.raises(ToolRefused):
            conversation.attach_tool(tool())
        conversation.detach_tool("look")
        with pytest.raises(UnknownTool):
            conversation.detach_tool("look")
        conversation.attach_tool(tool())
        conversation.attach_tool(tool("second"))
        with pytest.raises(ToolRefused):
            conversation.attach_tool(tool("third"))


async def test_a_desk_that_calls_no_tools_attaches_none():
    async with open_desk(parrot) as desk:
        conversation = await open_session(desk)
        with pytest.raises(ToolRefused):
            conversation.attach_tool(tool())


# -- guardrails ----------------------------------------------------------------------------------


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
    ledger = Ledger()
    async with open_desk(parrot, guardrails=Denied(), meter=ledger) as desk:
        conversation = await open_session(desk)
        for say in (conversation.prompt, conversation.steer):
            with pytest.raises(GuardrailRefused) as refused:
                say("something forbidden")
            assert refused.value.why == "a denied word"
        assert conversation.log.last_index == 0
        assert ledger.recorded == []


@pytest.mark.parametrize("pieces", [["forbidden"], ["a for", "bid", "den b"], [*"so forbidden"]])
async def test_refused_output_ends_the_turn_and_the_denied_word_never_goes_out(pieces):
    async def script(turn):
        for piece in pieces:
            yield piece
        yield "after"

    async with open_desk(scripted(script), guardrails=Denied()) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert names(stream.frames)[-2:] == ["error", "agent_abort"]
        assert facts(stream.frames[-1])["reason"] == "guardrail"
        assert "forbidden" not in text(stream.frames)


async def test_a_filter_on_the_whole_message_is_asked_when_it_is_complete():
    class Short(Denied):
        def refuse_output(self, tenant_id, text):
            return "too long" if len(text) > 10_000 else None

    async def script(turn):
        for _ in range(200):
            yield "x" * 100

    async with open_desk(scripted(script), guardrails=Short()) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert facts(stream.frames[-2])["reason"] == "guardrail"


async def test_the_filter_sees_a_bounded_window_and_not_the_whole_message_each_time():
    guardrails = Denied()

    async def script(turn):
        for _ in range(1000):
            yield "x" * 100
        raise ValueError("done")

    async with open_desk(scripted(script), guardrails=guardrails) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("agent_abort")
        stream.close()
        assert guardrails.longest <= 4096 + 100


# -- the meter, and the end ----------------------------------------------------------------------


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

    ledger = Ledger()
    async with open_desk(scripted(script), meter=ledger, end_grace_s=0.05) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await desk.tenant("acme", "key-1").delete(conversation.session_id)
        stream.close()
        gone.set()
        await asyncio.wait_for(reported.wait(), BOUND_S)
        assert ledger.recorded[-1] == {
            "tenant_id": "acme",
            "api_key": "key-1",
            "tokens": TokenUsage(7, 3, 2, 0.5),
        }


async def test_no_verb_works_on_a_session_that_has_ended_but_its_views_do():
    async with open_desk(parrot, call_tool=Caller()) as desk:
        conversation = await open_session(desk)
        await desk.tenant("acme", "key-1").delete(conversation.session_id)
        for verb, arguments in {
            "prompt": ("x",),
            "approve": ("x",),
            "reject": ("x",),
            "respond": ("x", "y"),
            "abort": (),
            "steer": ("x",),
            "switch_model": ("x",),
            "attach_tool": (tool(),),
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

    async with open_desk(scripted(script)) as desk:
        conversation = await open_session(desk)
        conversation.prompt("one")
        await passes(5)
        conversation.prompt("two")
        await desk.tenant("acme", "key-1").delete(conversation.session_id)
        stream = Stream(conversation, since=None)
        assert not stream.reader.drained
        frames = await stream.rest()
        assert names(frames) == ["session_end"]
        assert facts(frames[0]) == {"reason": "deleted"}
