"""The session service: conversations, turns, event log, supervision. It knows no HTTP.

`service.py` opens, finds and ends sessions, `tenant.py` is how one tenant sees them,
`conversation.py` what a client sees of one. `runner.py` runs its turns.

The public names are imported when they are asked for: modules of this package import each other,
and none should have to wait for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frontdesk.sessions.context import SessionSettings
    from frontdesk.sessions.conversation import Conversation
    from frontdesk.sessions.errors import (
        Draining,
        GuardrailRefused,
        PromptQueueFull,
        ReaderTooSlow,
        SessionDead,
        SteeringQueueFull,
        ToolRefused,
        UnknownReference,
    )
    from frontdesk.sessions.event_reader import EventReader
    from frontdesk.sessions.hooks import Guardrails, Meter, ToolCaller
    from frontdesk.sessions.service import SessionService
    from frontdesk.sessions.tenant import TenantSessions

_MODULE_OF = {
    "Conversation": "conversation",
    "EventReader": "event_reader",
    "Guardrails": "hooks",
    "Meter": "hooks",
    "SessionService": "service",
    "SessionSettings": "context",
    "TenantSessions": "tenant",
    "ToolCaller": "hooks",
}

__all__ = [
    "SessionService",
    "SessionSettings",
    "TenantSessions",
    "Conversation",
    "EventReader",
    # what an embedder may give to the service
    "Guardrails",
    "Meter",
    "ToolCaller",
    # errors
    "Draining",
    "GuardrailRefused",
    "PromptQueueFull",
    "ReaderTooSlow",
    "SessionDead",
    "SteeringQueueFull",
    "ToolRefused",
    "UnknownReference",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)
