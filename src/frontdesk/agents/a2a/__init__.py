"""Remote agents that speak A2A 1.0: the blueprint kind `a2a`.

A session is a context of the remote agent, a turn is a task of it there. `a2a_client.py` is the
connection and its bounds, `turn.py` a turn, `parts.py` what messages and artifacts say.
"""

from __future__ import annotations

from frontdesk.errors import MissingExtra

try:
    import a2a.client as _client  # noqa: F401 - asked for here, so that the error names the extra
except ImportError as _missing:
    raise MissingExtra("a2a", part="the blueprint kind a2a", missing="a2a-sdk") from _missing

from frontdesk.agents.a2a.a2a_client import A2AClient, RemoteContext
from frontdesk.agents.a2a.turn import TaskTurn
from frontdesk.agents.blueprints import AuthorRules
from frontdesk.agents.errors import ModelRefused
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.records import SessionContext
from frontdesk.agents.remote_address import RemoteAddress
from frontdesk.agents.turn import Turn

KIND = "a2a"

OPTIONS = frozenset({"user_data"})
"""The options of a session that it knows: the protocol has a place for none of the others."""


class A2AProgram:
    """Answer with a remote agent that speaks A2A 1.0.

    `target` is its address, below which its card is at `/.well-known/agent-card.json`, or that of
    the card itself; `credential` is the name of the variable that holds its key; `timeout_s` is how
    long nothing may come. Raises `InvalidArgument`.
    """

    rules: AuthorRules = AuthorRules(options=OPTIONS)

    def __init__(
        self, target: str, *, credential: str | None = None, timeout_s: float = 120.0
    ) -> None:
        address = RemoteAddress(target, credential=credential)
        self._client = A2AClient(address, timeout_s=timeout_s)

    def check(self, context: SessionContext) -> None:
        """Refuse another model than its own: a client has no say in it."""
        if context.model != "default":
            problem = "the agent has no choice of models: ask for default"
            raise ModelRefused(context.model, problem=problem)

    def open(self, context: SessionContext) -> AgentFunction:  # noqa: ARG002
        """Return a session's own part: its context there."""
        there = RemoteContext()

        async def answer(turn: Turn) -> None:
            """Run one turn."""
            async with self._client.opened(there) as client:
                await TaskTurn(turn, client, there).go()

        return answer
