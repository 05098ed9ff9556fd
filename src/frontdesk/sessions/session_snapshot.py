"""What a client is shown of a session: as it was at one moment, whole.

Of a session that is stored that is the moment of its last commit (`ConversationRecord.public`), so
that nothing is shown that a crash could take back; of any other it is now.
"""

from __future__ import annotations

import msgspec

from frontdesk.agents.events import ApprovalRequired, AskUser, ToolExecutionStart
from frontdesk.agents.records import State, TokenUsage


class SessionSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a session was doing and waiting for, and what it had used.

    Whatever is pending is of the turn under way, `request_id`, and goes with it.
    """

    state: State
    ended: bool
    model: str
    restarts: int
    last_activity_at: int
    turns: int
    prompts: int
    tool_calls: int
    tokens: TokenUsage
    unknown_usage: int
    request_id: str | None
    running_tools: tuple[ToolExecutionStart, ...]
    approvals: tuple[ApprovalRequired, ...]
    questions: tuple[AskUser, ...]
    queued: int
    """Prompts that wait."""
    steering: int
    """Steering texts that wait."""
