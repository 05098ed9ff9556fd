"""Graphs of the tests' own, over chat models that follow a script: no key, no network."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


class ScriptedModel(BaseChatModel):
    """A chat model that streams what an async generator function of the messages yields."""

    script: Any

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **rest):
        """Have the script alone say what is called."""
        return self

    def _generate(self, messages, stop=None, run_manager=None, **rest):
        raise NotImplementedError

    async def _astream(self, messages, stop=None, run_manager=None, **rest):
        async for piece in self.script(messages):
            message = AIMessageChunk(content=piece) if isinstance(piece, str) else piece
            chunk = ChatGenerationChunk(message=message)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


def calls(name, arguments="{}", call_id="call-1", index=0):
    """Return what a model says that calls a tool."""
    call = {"name": name, "args": arguments, "id": call_id, "index": index}
    return AIMessageChunk(content="", tool_call_chunks=[call])


def used(prompt, completion, cached=0):
    """Return what a model says of its usage."""
    return AIMessageChunk(
        content="",
        usage_metadata={
            "input_tokens": prompt,
            "output_tokens": completion,
            "total_tokens": prompt + completion,
            "input_token_details": {"cache_read": cached},
        },
    )


def agent(script, *tools, **compiled):
    """Return a graph of a model and its tools, which calls them until it is done."""
    model = ScriptedModel(script=script)

    async def think(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    if tools:
        graph.add_node("tools", ToolNode(list(tools)))
        graph.add_conditional_edges("think", tools_condition)
        graph.add_edge("tools", "think")
    return graph.compile(**compiled)


def has_result(messages):
    return isinstance(messages[-1], ToolMessage)


def said(messages):
    """Return who said what, in short."""
    return [(each.type, each.text) for each in messages if each.text]
