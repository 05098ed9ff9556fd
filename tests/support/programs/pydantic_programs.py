"""Pydantic AI programs that the tests run as tasks and in processes alike."""

import asyncio
import json
import os
import signal

from pydantic_ai import ModelRetry, RunContext, Tool
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from frontdesk.agents.pydantic_ai import PydanticAIProgram
from support.pydantic_models import prompts


async def refund(order: int) -> str:
    """Pay back an order."""
    return f"paid back {order}"


async def stuck() -> str:
    """Never come to an end."""
    await asyncio.Event().wait()
    return "never"


async def broken() -> str:
    """Fail."""
    raise ValueError("not for clients")


TOOLS = (refund, stuck, broken)


def done_in(messages):
    """Return what a model can read of what was done: each call with the result behind it."""
    done = []
    for message, behind in zip(messages, [*messages[1:], None], strict=True):
        if isinstance(message, ModelResponse):
            returned = {
                part.tool_call_id: part.content
                for part in getattr(behind, "parts", ())
                if part.part_kind == "tool-return"
            }
            done += [
                (part.tool_name, returned.pop(part.tool_call_id))
                for part in message.parts
                if isinstance(part, ToolCallPart)
            ]
            assert not returned, "a result without a call"
    return done


async def obedient(messages, info):
    """Do what the prompt says: call tools, a step at a time, and then end in one of many ways.

    A prompt is JSON: a list of steps, each a list of [tool, arguments], and the end. The prompt
    `tell` is answered with what was done before it.
    """
    if prompts(messages)[-1] == "instructions":
        yield info.instructions or "none"
        return
    if prompts(messages)[-1] == "tell":
        yield json.dumps(done_in(messages))
        return
    asked = prompts(messages)[-1]
    steps, end = json.loads(asked if isinstance(asked, str) else asked[0])
    step = sum(isinstance(each, ModelResponse) for each in messages[_begin_of(messages) :])
    if step < len(steps):
        yield "let me see "
        for place, (tool, args) in enumerate(steps[step]):
            call_id = f"c{len(messages)}x{place}"
            yield {place: DeltaToolCall(tool, json.dumps(args), tool_call_id=call_id)}
        return
    yield "so far "
    match end:
        case "hang":
            await asyncio.Event().wait()
        case "half a call":
            yield {1: DeltaToolCall("refund", '{"ord', tool_call_id="half")}
            await asyncio.Event().wait()
        case "raise":
            raise RuntimeError("not for clients")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)


def _begin_of(messages):
    """Return where the turn under way begins."""
    last = prompts(messages)[-1]
    return max(
        place
        for place, message in enumerate(messages)
        for part in message.parts
        if part.part_kind == "user-prompt" and part.content == last
    )


obedient_program = PydanticAIProgram(
    tools=TOOLS, named={"fn": FunctionModel(stream_function=obedient)}
)


async def transfer(amount: int) -> str:
    """Send money, once somebody has agreed."""
    return f"sent {amount}"


async def careful(ctx: RunContext, amount: int) -> str:
    """Send much money only once somebody has agreed."""
    if amount > 10 and not ctx.tool_call_approved:
        raise ApprovalRequired
    return f"sent {amount} carefully"


async def elsewhere(question: str) -> str:
    """Have somebody else do it."""
    raise CallDeferred


async def picky() -> str:
    """Never be content."""
    raise ModelRetry("say please")


waiting_program = PydanticAIProgram(
    tools=(*TOOLS, Tool(transfer, requires_approval=True), careful, elsewhere, picky),
    named={"fn": FunctionModel(stream_function=obedient)},
)
