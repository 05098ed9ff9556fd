"""The frameworks whose agents are served by name, and what each can do: one record a framework.

Every test of this folder runs over every record that says how its agents are made, as a task and in
processes. What a framework cannot do is said in its record, and the test then holds it to what the
documents say instead. The table in the documents is made of these records.
"""

import importlib.util
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.dialects import Gemini, OpenAIChat
from adapters.model_server import ORIGIN, Dialect

A2A_LISTENING = socket.create_server(("127.0.0.1", 0))

A2A_ADDRESS = f"http://127.0.0.1:{A2A_LISTENING.getsockname()[1]}"
"""Where the remote agent of the tests is, which runs for all of them."""

BEHAVIOURS = {
    "text": "text as it comes",
    "tools": "a tool's begin and end, with arguments, result and status",
    "approvals": "approvals: approved, rejected, expired",
    "questions": "questions to the user",
    "usage": "tokens of each turn, as they were served",
    "history": "the turns before",
    "restart": "the turns before, after a restart of its process",
    "steering": "steering",
    "models": "a switch of the model",
    "callbacks": "callback tools of the client",
    "structured": "structured output",
    "abort": "an abort that stops the model's call and the tool",
    "errors": "an error that ends the turn, and not the session",
    "cut_turns": "what tools did in a turn that was cut short",
    "apart": "sessions that share nothing",
}
"""What is tested, in the words of the documents' table."""


@dataclass(frozen=True, kw_only=True)
class Framework:
    """A framework's adapter, and how the tests make agents of it.

    `targets` names an agent of each kind (module:name): `agent` has the tools `add(a, b)`,
    `broken()`, which raises ValueError("not for clients"), `stuck(path)`, which makes the file
    `path` + ".begun" and then waits for ever, and in its `finally` makes `path` + ".ended",
    `refund(order)`, which needs approval and returns "paid back <order>", and `ask_user(question)`,
    which asks the user; `structured` answers with an object of `city` and `population`.
    `table` has further settings of the blueprint's table. `other_model` is what a client may switch
    to, whose name a request then ends in. `failing_tool` is what becomes of a turn whose tool
    raises: it ends ("error"), or the model is told ("told").
    """

    kind: str
    name: str
    needs: str
    """The module without which it is not there."""
    dialect: Dialect
    targets: Mapping[str, str]
    table: Mapping[str, Any] = field(default_factory=dict)
    isolations: tuple[str, ...] = ("task", "process")
    model: str = "default"
    other_model: str | None = None
    failing_tool: str = "told"
    cannot: Mapping[str, str] = field(default_factory=dict)
    """What it cannot do: the key of a behaviour, and what there is instead, for the documents."""

    def __post_init__(self):
        assert set(self.cannot) <= set(BEHAVIOURS), "name what is in BEHAVIOURS"

    def can(self, behaviour):
        """Say whether it can do what is asked of all."""
        return behaviour not in self.cannot

    @property
    def here(self):
        """Say whether it is installed."""
        try:
            return importlib.util.find_spec(self.needs) is not None
        except ModuleNotFoundError:
            return False


FRAMEWORKS = (
    Framework(
        kind="pydantic-ai",
        name="Pydantic AI",
        needs="pydantic_ai",
        dialect=OpenAIChat(),
        targets={
            "agent": "adapters.programs.pydantic_ai_agents:agent",
            "structured": "adapters.programs.pydantic_ai_agents:structured",
        },
        table={"models": ["default", "openai-chat:*"]},
        other_model="openai-chat:other",
        failing_tool="error",
    ),
    Framework(
        kind="openai-agents",
        name="OpenAI Agents SDK",
        needs="agents.tracing",  # `agents` alone is a folder of the tests as well
        dialect=OpenAIChat(),
        targets={
            "agent": "adapters.programs.openai_agents_agents:agent",
            "structured": "adapters.programs.openai_agents_agents:structured",
        },
        other_model="other",
    ),
    Framework(
        kind="langgraph",
        name="LangGraph",
        needs="langgraph",
        dialect=OpenAIChat(),
        targets={
            "agent": "adapters.programs.langgraph_agents:agent",
            "structured": "adapters.programs.langgraph_agents:structured",
        },
        table={"models": ["default", "openai:*"]},
        other_model="openai:other",
        failing_tool="error",
        cannot={
            "callbacks": "only where a function of the session builds the graph, with `tools`",
        },
    ),
    Framework(
        kind="openai",
        name="a remote agent, OpenAI-compatible",
        needs="httpx2",
        dialect=OpenAIChat(),
        targets={"agent": f"{ORIGIN}/v1"},
        table={"model": "small"},
        isolations=("task",),
        other_model="other",
        cannot={
            "tools": "it runs its own where it is, unseen",
            "approvals": "none: the API has no place for them",
            "questions": "none: what it asks is its answer",
            "restart": "sent along with each turn",
            "structured": "what it answers, as text",
            "cut_turns": "what it keeps itself",
        },
    ),
    Framework(
        kind="a2a",
        name="a remote agent, A2A",
        needs="a2a.client",
        dialect=OpenAIChat(),
        targets={"agent": A2A_ADDRESS},
        isolations=("task",),
        cannot={
            "tools": "it runs its own where it is, unseen",
            "approvals": "none: the protocol has no place for them",
            "restart": "told in the first message to it",
            "steering": "none",
            "models": "none: it has its own",
            "callbacks": "none",
            "structured": "data, as JSON",
        },
    ),
    Framework(
        kind="adk",
        name="Google ADK",
        needs="google.adk",
        dialect=Gemini(),
        targets={
            "agent": "adapters.programs.adk_agents:agent",
            "structured": "adapters.programs.adk_agents:structured",
        },
        table={"models": ["default", "gemini-*"]},
        other_model="gemini-other",
        failing_tool="error",
    ),
)


def tested():
    """Return those that are tested here: all that are installed, and with the variable all."""
    everything = os.environ.get("TESTED_FRAMEWORKS") == "all"
    return [each for each in FRAMEWORKS if everything or each.here]
