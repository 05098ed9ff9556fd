"""What a turn adds to a run of a Pydantic AI agent, whoever made that agent and for what deps.

A capability of the run: it holds its turn itself, so that it asks nothing of the agent, and an
agent's own capabilities come before it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models import Model, ModelSelectionContext
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.toolsets import AbstractToolset

from frontdesk.agents.pydantic_ai.suspension import TurnSuspension
from frontdesk.agents.pydantic_ai.tools import TurnToolset
from frontdesk.agents.turn import Turn

Selected = Model | str
Selector = Callable[[ModelSelectionContext[Any]], Selected | Awaitable[Selected]]


@dataclass
class TurnCapability(AbstractCapability[Any]):
    """One turn's part of a run: which model answers, the tools' events, approvals, questions.

    `find_model` returns the model of a name, None for the agent's own, which is `own_model`: what
    the agent's capabilities say, or else the model that it was made with. `returned` gets what
    tools return, by the ids of their calls. What is asked goes by way of the `suspension`.
    """

    turn: Turn
    suspension: TurnSuspension
    find_model: Callable[[str], Model | None]
    own_model: Selected | Selector | None = None
    chosen: frozenset[str] = frozenset()
    returned: dict[str, Any] = field(default_factory=dict)
    _made_with: Model | None = field(default=None, init=False, repr=False)

    def get_model(self) -> Selector:
        """Return what is asked before each model call: the session's model may be switched."""
        return self._select

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the agent's tools with their events, and the client's beside them."""
        return TurnToolset(toolset, self.turn, self.chosen, self.returned, self.suspension)

    async def handle_deferred_tool_calls(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - Pydantic AI's signature
        *,
        requests: DeferredToolRequests,
    ) -> DeferredToolResults:
        """Ask the client for what the agent's own capabilities have not resolved."""
        return await self.suspension.resolve(requests)

    async def _select(self, ctx: ModelSelectionContext[Any]) -> Selected:
        if ctx.run_step == 1:
            self._made_with = ctx.model  # later it is the one of the step before
        if (found := self.find_model(self.turn.model)) is not None:
            return found
        own = self.own_model
        if callable(own) and not isinstance(own, Model):
            answer = own(ctx)
            own = await answer if isinstance(answer, Awaitable) else answer
        return cast("Selected", own if own is not None else self._made_with)
