"""What runs inside a session, and what a session can be asked to do: the house below HTTP.

Above the store, below the gateway. `turn.py` is what agents are written against, `agent.py` the
seam behind which they run, `conversation.py` what a client sees of a session, `desk.py` opens,
finds and ends them. Protocols (REST, SSE, WebSocket) are doors to this house and live above it.
"""

from __future__ import annotations

try:
    import msgspec as _msgspec  # noqa: F401 - asked for here, so that the error names the extra
except ImportError as _missing:
    from frontdesk.errors import MissingExtra

    raise MissingExtra("agents", part="frontdesk.agents", missing="msgspec") from _missing

from frontdesk.agents.blueprints import Blueprint, Blueprints, blueprint
from frontdesk.agents.records import Approval, CallbackTool, CreateSession
from frontdesk.agents.turn import EndSession, Turn

__all__ = [
    "Turn",
    "blueprint",
    "EndSession",
    "Blueprint",
    "Blueprints",
    "Approval",
    "CallbackTool",
    "CreateSession",
]
