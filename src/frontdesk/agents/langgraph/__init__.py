"""Agents on LangGraph: the blueprint kind `langgraph`.

One compiled graph serves all sessions of a blueprint, each with a thread of its own; or a function
builds a graph for each session. It works the same in the gateway and in a process, as it knows only
its `Turn`.

`session.py` is what one session keeps, `run.py` one turn, `translate.py` its events,
`interrupts.py` what it asks for, `callbacks.py` what it used, `memory.py` what is remembered
between turns, `tools.py` the client's callback tools.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from frontdesk.errors import InvalidArgument, InvalidType, MissingExtra

try:
    from langchain_core.tools import BaseTool
    from langgraph.pregel import Pregel

    from frontdesk.agents.langgraph.run import Graph
    from frontdesk.agents.langgraph.session import MESSAGES, OWN_MODEL, LangGraphSession
except ImportError as _missing:
    raise MissingExtra(
        "langgraph", part="the blueprint kind langgraph", missing="langgraph"
    ) from _missing

from frontdesk.agents.blueprints import AuthorRules
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.records import SessionContext
from frontdesk.agents.targets import building, import_target
from frontdesk.agents.turn import Turn

OPTIONS = frozenset({"max_turns", "user_data"})
"""The options of a session that are of use to a graph that was built without asking for them."""


class LangGraphProgram:
    """Answer with a compiled LangGraph graph, or with one that a function builds for each session.

    `target` is the graph, a function of the `SessionContext` (and of `tools`, the client's callback
    tools, if it takes those) that returns one, or the name of either (`module:name`). `context`, a
    function of the turn or its name, returns LangGraph's `context`. The prompt goes into the
    `messages` of the state, or as text into its key `input`; the answer is what models say, or what
    the key `output` has in the end.

    Raises `InvalidType` and `InvalidArgument` for a graph that cannot be served so.
    """

    input: str
    output: str

    def __init__(
        self,
        target: Any,
        *,
        context: Callable[[Turn], Any] | str | None = None,
        input: str = MESSAGES,  # noqa: A002 - as the setting is called
        output: str = MESSAGES,
    ) -> None:
        found = import_target(target) if isinstance(target, str) else target
        self._target = target if isinstance(target, str) else "target"
        self.context: Any = import_target(context) if isinstance(context, str) else context
        self.input, self.output = input, output
        self._function = found if callable(found) and not inspect.isclass(found) else None
        self._graph = None if self._function is not None else self._checked(found)
        self.takes_tools: bool = (
            self._function is not None and "tools" in inspect.signature(self._function).parameters
        )
        self._built_once = self._function is None
        self._last: tuple[SessionContext, Graph] | None = None

    @property
    def rules(self) -> AuthorRules:
        """Return what sessions may ask for: of a graph that is built already, little."""
        if self._function is not None:
            return AuthorRules()
        return AuthorRules(
            models=(OWN_MODEL,),
            options=OPTIONS if self.context is None else None,
        )

    def ready(self, context: SessionContext) -> bool:  # noqa: ARG002 - the same for all
        """Say whether `check` is quick: a function's first call may import a provider."""
        return self._built_once

    def check(self, context: SessionContext) -> None:
        """Build the graph of a session where a function does: what it refuses is refused."""
        if self._function is not None:
            self._last = context, self.graph(context, ())
            self._built_once = True

    def open(self, context: SessionContext) -> AgentFunction:
        """Return a session's own part: a thread of its graph."""
        # The graph that `check` has just built, as long as no other session came between.
        last, self._last = self._last, None
        built = last[1] if last is not None and last[0] == context else self.graph(context, ())
        return LangGraphSession(self, context, built).answer

    def graph(self, context: SessionContext, tools: Sequence[BaseTool]) -> Graph:
        """Return the graph of a session; `CreateFailed` where its function returns none.

        A `CreateFailed` that the function raises itself is for the client, as it is.
        """
        if self._function is None:
            assert self._graph is not None, "a program has a graph or a function"
            return self._graph
        with building("graph", target=self._target):
            with_tools = {"tools": list(tools)} if self.takes_tools else {}
            return self._checked(self._function(context, **with_tools))

    def _checked(self, found: Any) -> Graph:
        if not isinstance(found, Pregel):
            raise InvalidType(
                self._target,
                expected="a compiled graph, or a function of the session that returns one",
                got=type(found).__name__,
            )
        missing = sorted({self.input, self.output} - set(found.channels))
        if missing:
            raise InvalidArgument(
                self._target,
                expected="a graph whose state has what `input` and `output` name",
                got=f"one without {', '.join(missing)}",
            )
        return found
