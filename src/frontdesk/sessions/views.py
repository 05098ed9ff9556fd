"""How a conversation is shown: the bodies of `info`, `stats` and `status`, in camelCase.

Above the conversation's parts, below the conversation. The shapes are the wire contract's.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from frontdesk.agents.records import Approval, State
from frontdesk.agents.usage import Usage
from frontdesk.sessions.event_log import EventLog
from frontdesk.sessions.pending import PendingRequests
from frontdesk.sessions.queue import PromptQueue
from frontdesk.sessions.running_turn import RunningTurn


class Shown(Protocol):
    """What is shown of a conversation."""

    session_id: str
    tenant_id: str
    model: str
    created_at: int
    restarts: int
    usage: Usage
    log: EventLog
    prompts: PromptQueue
    approvals: PendingRequests[Approval]
    questions: PendingRequests[Any]
    steering_texts: list[str]

    @property
    def blueprint(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def state(self) -> State: ...
    @property
    def uptime_ms(self) -> int: ...
    @property
    def turn(self) -> RunningTurn | None: ...


def info(conversation: Shown) -> dict[str, Any]:
    """Return the body of `GET /v1/sessions/{id}`."""
    usage = conversation.usage
    return {
        "sessionId": conversation.session_id,
        "state": conversation.state,
        "turns": usage.turns,
        "toolCalls": usage.tool_calls,
        "totalTokens": usage.total_tokens,
        "uptimeMs": conversation.uptime_ms,
        "model": conversation.model,
        "blueprint": conversation.blueprint,
        "createdAt": conversation.created_at,
        "tenantId": conversation.tenant_id,
        "restarts": conversation.restarts,
        "pid": conversation.pid,
    }


def stats(conversation: Shown) -> dict[str, Any]:
    """Return the body of `GET .../stats`."""
    usage = conversation.usage
    return {
        "sessionId": conversation.session_id,
        "turns": usage.turns,
        "totalTokens": usage.total_tokens,
        "costUsd": usage.cost_usd,
        "promptCount": usage.prompts,
        "tokenUsage": {
            "promptTokens": usage.prompt_tokens,
            "completionTokens": usage.completion_tokens,
            "totalTokens": usage.total_tokens,
            "cachedTokens": usage.cached_tokens,
        },
        "lastEventIndex": conversation.log.last_index,
        "eventBufferCount": len(conversation.log),
    }


def status(conversation: Shown) -> dict[str, Any]:
    """Return the body of `GET .../status`."""
    turn = conversation.turn
    running = () if turn is None else turn.running_tools.values()
    return {
        "sessionId": conversation.session_id,
        "state": conversation.state,
        "pendingTools": [msgspec.to_builtins(each) for each in running],
        "pendingApprovals": conversation.approvals.shown(),
        "pendingQuestions": conversation.questions.shown(),
        "queues": {
            "prompts": len(conversation.prompts),
            "steering": len(conversation.steering_texts),
        },
        "lastEventIndex": conversation.log.last_index,
    }
