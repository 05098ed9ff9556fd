"""Remote agents that speak an API of OpenAI's: the blueprint kind `openai`.

The whole conversation is sent along with each turn by default, as chat completions: whatever calls
itself OpenAI-compatible has those, and nothing has to be kept where the agent is. An agent that
keeps its conversations itself is better asked by the Responses API (`api = "responses"`): a turn
then names the answer before it.

`remote_client.py` is the connection and its bounds, `turn.py` a turn by either of the two APIs,
`chat.py` and `responses.py`.
"""

from __future__ import annotations

from frontdesk.errors import MissingExtra

try:
    import httpx2 as _httpx2  # noqa: F401 - asked for here, so that the error names the extra
except ImportError as _missing:
    raise MissingExtra("openai", part="the blueprint kind openai", missing="httpx2") from _missing

from collections.abc import Callable
from typing import Literal

from frontdesk.agents.blueprints import AuthorRules
from frontdesk.agents.openai.chat import ChatCompletions
from frontdesk.agents.openai.remote_client import RemoteClient
from frontdesk.agents.openai.responses import Responses
from frontdesk.agents.openai.turn import Dialect, RemoteTurn
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.records import SessionContext
from frontdesk.agents.remote_address import RemoteAddress
from frontdesk.agents.turn import Turn

KIND = "openai"

OPTIONS = frozenset({"system_prompt", "max_turns", "max_tokens", "user_data"})
"""The options of a session that it knows."""

DIALECTS: dict[str, Callable[[], Dialect]] = {
    "chat-completions": ChatCompletions,
    "responses": Responses,
}


class OpenAIProgram:
    """Answer with a remote agent behind an OpenAI-compatible API.

    `target` is its address, without `/chat/completions` or `/responses`; `credential` the name of
    the variable that holds its key. `model` is what `default` stands for; any other name that a
    session asks for is sent as it is. `timeout_s` is how long nothing may come. Raises
    `InvalidArgument`.
    """

    rules: AuthorRules = AuthorRules(options=OPTIONS)

    def __init__(
        self,
        target: str,
        *,
        credential: str | None = None,
        api: Literal["chat-completions", "responses"] = "chat-completions",
        model: str = "default",
        timeout_s: float = 120.0,
    ) -> None:
        address = RemoteAddress(target, credential=credential)
        self._client = RemoteClient(address, timeout_s=timeout_s)
        self._dialect, self._model = DIALECTS[api], model

    def check(self, context: SessionContext) -> None:
        """Refuse nothing: which models there are is for the remote agent to say."""

    def open(self, context: SessionContext) -> AgentFunction:  # noqa: ARG002
        """Return a session's own part: what its API has to remember between turns."""
        dialect = self._dialect()

        async def answer(turn: Turn) -> None:
            """Run one turn."""
            await RemoteTurn(turn, self._client, dialect, default_model=self._model).go()

        return answer
