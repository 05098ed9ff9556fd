"""Function models for the tests of Pydantic AI: what they say, and what they were sent."""

from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint
from support.sessions import Stream, open_service, open_session


def assistant(program=None, **models):
    """Make the blueprint, with function models of the test's own by name."""
    named = {
        name: model if not callable(model) else FunctionModel(stream_function=model)
        for name, model in models.items()
    }
    return pydantic_ai_blueprint(program=program or PydanticAIProgram(named=named))


def prompts(messages):
    """Return what users said in the messages that a model got."""
    return [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart)
    ]


def returns(messages):
    """Return what tools returned in the messages that a model got."""
    return [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]


async def echo(messages, info):
    """Say the last prompt in words."""
    for word in prompts(messages)[-1].split():
        yield f"{word} "


def calls_once(tool, args="{}"):
    """Make a model function that calls one tool and then says what it returned."""

    async def model(messages, info):
        got = returns(messages)
        if not got:
            yield {0: DeltaToolCall(name=tool, json_args=args, tool_call_id="c1")}
        else:
            yield f"got {got[-1]}"

    return model


async def one_turn(blueprint, *, prompt="go", during=None, order=None, **options):
    """Run one turn and return its events."""
    async with open_service(blueprint, **options) as service:
        conversation = await open_session(service, **{"model": "fn", **(order or {})})
        stream = Stream(conversation)
        conversation.prompt(prompt)
        if during is not None:
            await during(conversation, stream)
        await stream.until("agent_end", "agent_abort")
        stream.close()
        return stream.events
