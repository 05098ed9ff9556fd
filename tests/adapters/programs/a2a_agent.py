"""A remote A2A agent with the tools of the suite: elsewhere, as far as the gateway can tell.

It lives in a thread of the tests' process, with a loop of its own, and has the tests' model.
"""

import asyncio
import json
from pathlib import Path

from a2a.server.tasks import TaskUpdater
from a2a.types import Part, TaskState
from google.protobuf import json_format, struct_pb2
from openai import AsyncOpenAI

from adapters.model_server import VARIABLES


def add(a, b):
    return str(a + b)


def broken():
    raise ValueError("not for clients")


async def stuck(path):
    Path(f"{path}.begun").touch()
    try:
        await asyncio.Event().wait()
    finally:
        Path(f"{path}.ended").touch()


def refund(order):
    return f"paid back {order}"


TOOLS = {each.__name__: each for each in (add, broken, stuck, refund)}


class Contexts:
    """What the agent keeps of its clients: messages by context."""

    def __init__(self):
        self.messages = {}

    async def answer(self, context, updater: TaskUpdater):
        """Answer one message: call the model, run its tools, or ask the user."""
        messages = self.messages.setdefault(context.context_id, [])
        said = {"role": "user", "content": context.get_user_input()}
        if messages and messages[-1].get("tool_calls"):  # what was asked of the user
            call = messages[-1]["tool_calls"][0]["id"]
            said = {"role": "tool", "tool_call_id": call, "content": said["content"]}
        messages.append(said)
        used = [0, 0]
        # A client for each message: the server of each test is another one.
        async with AsyncOpenAI(
            base_url=VARIABLES["OPENAI_BASE_URL"], api_key="none", max_retries=0
        ) as client:
            while (call := await self._ask_model(client, messages, updater, used)) is not None:
                if call.name == "ask_user":
                    question = json.loads(call.arguments)["question"]
                    asked = updater.new_agent_message([Part(text=question)])
                    return await updater.requires_input(asked)
                result = await run(call)
                messages.append({"role": "tool", "tool_call_id": "call_1", "content": result})
        usage = {"usage": {"prompt_tokens": used[0], "completion_tokens": used[1]}}
        metadata = json_format.ParseDict(usage, struct_pb2.Struct())
        return await updater.update_status(TaskState.TASK_STATE_COMPLETED, metadata=metadata)

    async def _ask_model(self, client, messages, updater, used):
        """Call the model, pass on its text, and return the tool that it calls, if it does."""
        chunks = await client.chat.completions.create(
            model="small", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        text, calls, artifact = "", [], f"artifact-{len(messages)}"
        async for chunk in chunks:
            if chunk.usage is not None:
                used[0] += chunk.usage.prompt_tokens
                used[1] += chunk.usage.completion_tokens
            for choice in chunk.choices:
                calls += [each.function for each in choice.delta.tool_calls or ()]
                if choice.delta.content:
                    parts = [Part(text=choice.delta.content)]
                    await updater.add_artifact(parts, artifact_id=artifact, append=bool(text))
                    text += choice.delta.content
        message = {"role": "assistant", "content": text}
        if calls:
            function = {"name": calls[0].name, "arguments": calls[0].arguments}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        messages.append(message)
        return calls[0] if calls else None


async def run(call):
    """Run a tool of the agent's, and return what the model reads of it."""
    try:
        result = TOOLS[call.name](**json.loads(call.arguments))
        return str(await result if asyncio.iscoroutine(result) else result)
    except Exception as error:
        return f"failed: {type(error).__name__}"
