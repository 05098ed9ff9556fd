"""One run of a graph for one turn: from the prompt to its end, over everything that it stops for.

A run is one stream of the graph after another. The first begins with the prompt; each following
one with the answers to what the graph stopped for, or with a steering text between two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.messages import AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, InvalidUpdateError
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import Command, Interrupt

from frontdesk.agents.langgraph.interrupts import approved, resume_values, text_of
from frontdesk.agents.langgraph.memory import messages_of, unanswered
from frontdesk.agents.langgraph.translate import StreamTranslator
from frontdesk.agents.turn import Turn

Graph: TypeAlias = "Pregel[Any, Any, Any, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStart:
    """What a graph is run with, until the model or the callback tools change.

    `context` is LangGraph's own, `steers` says whether texts can be given to it on its way.
    """

    graph: Graph
    config: RunnableConfig
    context: Any
    model: str
    callback_tools: frozenset[str]
    steers: bool


class GraphRun:
    """Run a graph for one turn."""

    __slots__ = (
        "_asked",
        "_at_breakpoint",
        "_begin",
        "_start",
        "_steering",
        "_translator",
        "_turn",
    )

    def __init__(
        self, turn: Turn, begin: Callable[[], GraphStart], translator: StreamTranslator
    ) -> None:
        self._turn, self._begin, self._translator = turn, begin, translator
        self._start = begin()
        self._asked: dict[str, Interrupt[Any]] = {}
        self._at_breakpoint = False
        self._steering: list[str] = []

    async def go(self, given: Any) -> None:
        """Run the graph until it is done. It goes on after each stream

        1. that stopped for answers: with those;
        2. that stopped for another model, or for a steering text: with that, unless calls wait
           for their results;
        3. that stopped where its author had it stop: if somebody approves;
        4. that is done, while a text came with its last step: with that as one more prompt.
        """
        going = True
        while going:
            drained = await self._stream(given)
            given = None
            if self._asked:
                asked, self._asked = self._asked, {}
                given = Command(resume=await resume_values(self._turn, asked))
            elif drained:
                await self._steer()
            elif self._at_breakpoint:
                self._at_breakpoint = False
                going = await self._passes_breakpoint()
            elif self._steering:
                given = {"messages": self._take_steering()}
            else:
                going = False

    async def answer(self, key: str) -> None:
        """Say what the graph has as its answer, where its state has one that was not said."""
        graph, config = self._start.graph, self._start.config
        if key in graph.channels and not self._translator.has_spoken:
            state = await graph.aget_state(config)
            if (found := state.values.get(key)) is not None:
                self._translator.emit_text(text_of(found))

    async def _stream(self, given: Any) -> bool:
        """Run the graph as far as it goes; true where it stopped for what a client changed."""
        start, control = self._begin(), RunControl()
        self._start, self._translator.callback_tools = start, start.callback_tools
        stream: Any = start.graph.astream(
            given,
            start.config,
            context=start.context,
            stream_mode=["messages", "tools", "updates"],
            subgraphs=True,
            control=control,
        )
        try:
            async with aclosing(stream) as parts:
                async for namespace, mode, part in parts:
                    if mode == "messages":
                        self._translator.on_message(*part)
                    elif mode == "tools":
                        self._translator.on_tool(part)
                    else:
                        self._on_updates(part)
                        if not namespace and self._is_changed():
                            control.request_drain("the client changed something")
        except GraphDrained:
            return True
        return False

    def _on_updates(self, updates: dict[str, Any]) -> None:
        for node, update in updates.items():
            if node == "__interrupt__":
                self._at_breakpoint = not update
                self._asked.update({each.id: each for each in update})
            else:
                self._translator.on_update(update)

    # -- steering ----------------------------------------------------------------------------------

    def _is_changed(self) -> bool:
        if self._start.steers:
            self._steering += self._turn.steering()
        return bool(self._steering) or self._turn.model != self._start.model

    def _take_steering(self) -> list[AnyMessage]:
        texts, self._steering = self._steering, []
        return [HumanMessage(text) for text in texts]

    async def _steer(self) -> None:
        """Write the texts into the state, unless a model's calls wait for their results there."""
        graph, config = self._start.graph, self._start.config
        state = await graph.aget_state(config)
        if not self._steering or unanswered(messages_of(state.values)):
            return
        texts = list(self._steering)
        try:
            await graph.aupdate_state(config, {"messages": self._take_steering()})
        except InvalidUpdateError:
            # Several nodes ran last: only after the graph's end there is a place for it.
            self._steering = texts

    # -- breakpoints -------------------------------------------------------------------------------

    async def _passes_breakpoint(self) -> bool:
        """Ask whether to go on where the graph's author had it stop; say whether it goes on."""
        graph, config = self._start.graph, self._start.config
        state = await graph.aget_state(config)
        if not state.next:
            return False
        calls = unanswered(messages_of(state.values))
        refusal = await approved(self._turn, state.next, calls)
        if refusal is None:
            return True
        if not calls:
            return False
        results = [
            ToolMessage(refusal, tool_call_id=call["id"], name=call["name"]) for call in calls
        ]
        await graph.aupdate_state(config, {"messages": results}, as_node=state.next[0])
        return True
