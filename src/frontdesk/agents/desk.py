"""The desk: opens sessions, finds them, ends them. (Interface; the rest follows.)"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from frontdesk.agents.conversation import Conversation
from frontdesk.agents.records import CreateSession


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskSettings:
    """What an operator may set about all sessions. Durations are in seconds."""

    turn_timeout_s: float = 900.0
    approval_timeout_s: float = 120.0
    question_timeout_s: float = 300.0
    abort_grace_s: float = 5.0
    end_grace_s: float = 5.0
    max_queued_prompts: int = 16
    max_steering: int = 3
    max_messages: int = 1000
    max_history_bytes: int = 4 * 1024 * 1024
    max_tools: int = 64
    min_events: int = 1024
    max_log_bytes: int = 8 * 1024 * 1024
    recent_ends: int = 1000
    recent_ends_bytes: int = 64 * 1024 * 1024
    tenants_root: Path | None = None
    """Each tenant's directories resolve under `<tenants_root>/<tenant>`; None refuses them."""


class TenantDesk(Protocol):
    """The desk as one key of one tenant sees it. `Desk.tenant(tenant_id, api_key)` makes it."""

    async def create(self, order: CreateSession) -> Conversation:
        """Open a session.

        `SessionAlreadyExists`, `SessionLimitExceeded`, `CreateFailed`, `Draining`,
        `InvalidArgument`. A refused or cancelled create leaves nothing behind.
        """
        ...

    def find(self, session_id: str) -> Conversation:
        """Return a live session; `SessionNotFound`, or `SessionDead` where it ended recently."""
        ...

    def recent(self, session_id: str) -> Conversation:
        """Return a live or recently ended session (its stream replays); `SessionNotFound`."""
        ...

    def sessions(
        self, *, limit: int = 100, after: str | None = None
    ) -> tuple[list[Conversation], str | None]:
        """Return live sessions, oldest first, and the cursor of the next page."""
        ...

    async def delete(self, session_id: str) -> None:
        """End a session; returns within its grace period and a second, whatever its agent does."""
        ...


# class Desk:
#     Desk(store, blueprints, *, clock=None, settings=None, meter=None, guardrails=None,
#          call_tool=None); async context manager, on one event loop
#     draining: bool;  stuck: int;  blueprints (settable: reload)
#     async drain(grace_s)
#     tenant(tenant_id, api_key) -> TenantDesk
