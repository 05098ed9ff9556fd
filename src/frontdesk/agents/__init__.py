"""What runs inside a session: tasks, processes, Pydantic AI, ACP. It knows no sessions and no HTTP.

`turn.py` is what agents are written against, with its `records.py` and `events.py`;
`blueprints.py` holds the recipes that an operator opens; `protocol.py` is the seam behind which
agents run: tasks there, processes in `process/`. `pydantic_ai/` and `acp/` are two kinds of agents.
"""

from __future__ import annotations

try:
    import msgspec as _msgspec  # noqa: F401 - asked for here, so that the error names the extra
except ImportError as _missing:
    from frontdesk.errors import MissingExtra

    raise MissingExtra("agents", part="frontdesk.agents", missing="msgspec") from _missing

from typing import TYPE_CHECKING

from frontdesk.agents import errors as _errors
from frontdesk.agents.attachments import AttachedFile, Attachment
from frontdesk.agents.blueprints import Blueprint, Blueprints, blueprint
from frontdesk.agents.errors import *  # noqa: F403 - each is public
from frontdesk.agents.events import (
    Error,
    MessageDelta,
    MessageStart,
    ThinkingDelta,
    ThinkingStart,
    ToolCalls,
    ToolExecutionEnd,
    ToolExecutionStart,
)
from frontdesk.agents.records import (
    Approval,
    CallbackTool,
    CreateSession,
    Memory,
    Restored,
    SessionContext,
)
from frontdesk.agents.restart import RestartLimit
from frontdesk.agents.turn import EndSession, Turn
from frontdesk.keeper import errors as _keeper_errors
from frontdesk.keeper.errors import *  # noqa: F403 - each is public

if TYPE_CHECKING:
    from frontdesk.agents.pydantic_ai import PydanticAIProgram
    from frontdesk.agents.pydantic_ai.tools import TurnDeps, ask_user

__all__ = [
    "Turn",
    "blueprint",
    "EndSession",
    "Blueprint",
    "Blueprints",
    "RestartLimit",
    "Approval",
    "Attachment",
    "AttachedFile",
    "CallbackTool",
    "CreateSession",
    "SessionContext",
    "Memory",
    "Restored",
    "PydanticAIProgram",
    "TurnDeps",
    "ask_user",
    # events that an agent may emit
    "MessageStart",
    "MessageDelta",
    "ThinkingStart",
    "ThinkingDelta",
    "ToolCalls",
    "ToolExecutionStart",
    "ToolExecutionEnd",
    "Error",
]
__all__ += _errors.__all__
__all__ += _keeper_errors.__all__


def __getattr__(name: str) -> object:
    # Late: its framework takes longer to import than everything else of this package.
    if name in ("PydanticAIProgram", "TurnDeps", "ask_user"):
        from frontdesk.agents import pydantic_ai

        return getattr(pydantic_ai, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
