"""What one session keeps of its graph between turns: a thread, and how the last turn ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from frontdesk.agents.ids import registry_key
from frontdesk.agents.langgraph.callbacks import TurnCallbacks
from frontdesk.agents.langgraph.memory import CutTurn, SessionSaver, mended, messages_of
from frontdesk.agents.langgraph.run import Graph, GraphRun, GraphStart
from frontdesk.agents.langgraph.tools import callback_tool
from frontdesk.agents.langgraph.translate import StreamTranslator
from frontdesk.agents.records import SessionContext, ToolSpec
from frontdesk.agents.turn import Turn

MESSAGES = "messages"

STRUCTURED = "structured_response"
"""Where LangChain's agents have a structured answer, which their model may have said by a call."""

OWN_MODEL = "default"
"""The model that a client asks for where the graph is to have its own."""


class GraphSource(Protocol):
    """Where a session gets its graph from, and how that is spoken to."""

    input: str
    output: str
    takes_tools: bool
    context: Callable[[Turn], Any] | None

    def graph(self, context: SessionContext, tools: Sequence[BaseTool]) -> Graph:
        """Return the graph for a session's model and callback tools."""
        ...


class LangGraphSession:
    """One session: its graph is built anew where the model or the client's tools have changed."""

    __slots__ = ("_built_for", "_context", "_cut", "_graph", "_saver", "_source", "_turn")

    _turn: Turn
    """The turn under way, or the last one."""

    def __init__(self, source: GraphSource, context: SessionContext, graph: Graph) -> None:
        self._source, self._context, self._graph = source, context, graph
        self._built_for: tuple[str, tuple[ToolSpec, ...]] = context.model, ()
        self._saver = SessionSaver()
        self._cut: CutTurn | None = None

    async def answer(self, turn: Turn) -> None:
        """Run one turn. What cuts it short leaves what it has said and done to be remembered."""
        source, self._turn = self._source, turn
        callbacks = TurnCallbacks(turn, max_calls=self._context.max_turns)
        begin = partial(self._begin, turn, callbacks)
        prompt = HumanMessage(turn.text, id=turn.request_id)
        given: Any = turn.text
        if source.input == MESSAGES:
            start = begin()
            latest = await start.graph.aget_state(start.config)
            # As it was at its checkpoint: what tasks of a cut step have written since is shown in
            # the latest state, and dropped by the graph when a prompt comes.
            state = await start.graph.aget_state(latest.config)
            given = [*mended(messages_of(state.values), self._cut, turn.history), prompt]
        cut = self._cut = CutTurn(prompt)
        translator = StreamTranslator(
            turn, cut, callbacks=callbacks, speaks=source.output == MESSAGES
        )
        run = GraphRun(turn, begin, translator)
        try:
            async with callbacks.bounded():
                await run.go({source.input: given})
            await run.answer(source.output if source.output != MESSAGES else STRUCTURED)
            self._cut = None
        finally:
            translator.close()
        if self._graph.checkpointer is self._saver:
            self._saver.forget_the_past(self._graph.channels)

    def _begin(self, turn: Turn, callbacks: TurnCallbacks) -> GraphStart:
        """Return what the graph is run with now; the model is what LangChain calls `model`."""
        graph, context = self._graph_for(turn), self._context
        configurable = {"thread_id": registry_key(context.tenant_id, context.session_id)}
        if turn.model != OWN_MODEL:
            configurable["model"] = turn.model
        return GraphStart(
            graph=graph,
            config=RunnableConfig(callbacks=[callbacks], configurable=configurable),
            context=None if self._source.context is None else self._source.context(turn),
            model=turn.model,
            callback_tools=frozenset(each.name for each in self._built_for[1]),
            steers=self._source.input == MESSAGES,
        )

    def _graph_for(self, turn: Turn) -> Graph:
        tools = tuple(turn.tools) if self._source.takes_tools else ()
        if self._built_for != (turn.model, tools):
            built = [callback_tool(each, turn=lambda: self._turn) for each in tools]
            context = msgspec.structs.replace(self._context, model=turn.model)
            self._graph = self._source.graph(context, built)
            self._built_for = turn.model, tools
        if self._graph.checkpointer in (None, False, True):
            # None of its own: what it remembers is the session's, and ends with it.
            self._graph = self._graph.copy({"checkpointer": self._saver})
        return self._graph
