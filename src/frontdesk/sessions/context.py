"""What all conversations of one service share: settings, time, hooks, and abandoned tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frontdesk.clock import Clock, SystemClock
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.sessions.attachment_room import AttachmentRoom
from frontdesk.sessions.hooks import (
    Budgets,
    Guardrails,
    Meter,
    NoMeter,
    SessionObserver,
    ToolCaller,
    TurnTracer,
)

if TYPE_CHECKING:
    # Late: without a cluster, nothing of it is imported.
    from frontdesk.cluster.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What an operator may set about all sessions. Durations are in seconds.

    `turn_timeout_s` is a turn's deadline, `abort_grace_s` how long a cancelled turn may clean up
    before it is abandoned, `end_grace_s` how long an agent may take to end. An event is at most
    `max_event_bytes` long. Attachments of a tenant's prompts that wait or run take
    `max_attachment_bytes` at most. Each tenant's directories resolve under
    `<tenants_root>/<tenant>`; without a root, sessions have none.
    """

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
    max_event_bytes: int = 1024 * 1024
    min_events: int = 1024
    max_log_bytes: int = 8 * 1024 * 1024
    recent_ends: int = 1000
    recent_ends_bytes: int = 64 * 1024 * 1024
    max_attachment_bytes: int = 64 * 1024 * 1024
    tenants_root: Path | None = None


def _nothing(_: Any) -> None:
    """Do nothing: no session is dormant."""


@dataclass(slots=True, kw_only=True)
class ServiceContext:
    """Settings, clock and hooks of the service, and what its conversations ask of it.

    `update_model` writes a new model into the registry, `expire` ends a session whose time has run
    out (or, where it only idled and is stored, its agent). Of one that is dormant, `touch` says
    that it is used, `wake` starts an agent for it, and `require_resumable` raises where none can be
    had. Of one that is stored, `require_room` raises where it is full, `on_turn_stored` is called
    at each turn's end, and `on_grown` with its key while it grows. `commits` takes what is stored,
    None where nothing is. `stuck` holds the turns that were abandoned while their task still ran: a
    task cannot be killed. `node` is this process's part in a cluster, None without one.
    """

    update_model: Callable[[Any, str], None]
    expire: Callable[[Any], None]
    touch: Callable[[Any], None] = _nothing
    wake: Callable[[Any], None] = _nothing
    require_resumable: Callable[[Any], None] = _nothing
    require_room: Callable[[Any], None] = _nothing
    on_turn_stored: Callable[[Any], None] = _nothing
    on_grown: Callable[[str], None] = _nothing
    settings: SessionSettings = field(default_factory=SessionSettings)
    clock: Clock = field(default_factory=SystemClock)
    meter: Meter = field(default_factory=NoMeter)
    budgets: Budgets | None = None
    guardrails: Guardrails | None = None
    call_tool: ToolCaller | None = None
    observer: SessionObserver | None = None
    tracer: TurnTracer | None = None
    node: Node | None = None
    commits: CommitQueue | None = None
    latest_fence: int = 0
    draining: bool = False
    stuck: set[asyncio.Task[None]] = field(default_factory=set)
    attachments: AttachmentRoom = field(init=False)

    def __post_init__(self) -> None:
        self.attachments = AttachmentRoom(self.settings.max_attachment_bytes)

    def next_fence(self) -> int:
        """Return a fence above every stored one and the clock: a restored backup repeats none."""
        self.latest_fence = max(self.latest_fence + 1, self.clock.wall_ms() * 1000)
        return self.latest_fence

    def abandon(self, task: asyncio.Task[None]) -> None:
        """Cancel a task and wait for it no longer; it is held, and counted, until it ends."""
        task.cancel()
        self.stuck.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self.stuck.discard(task)
        if not task.cancelled():
            # Read, so that asyncio does not report what was given up on as never retrieved.
            task.exception()
