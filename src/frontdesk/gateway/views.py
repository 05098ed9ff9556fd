"""How a conversation is shown: the bodies of `info`, `stats`, `status` and `messages`."""

from __future__ import annotations

from typing import Any

import msgspec

from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.history import MessagePage


def info(conversation: Conversation) -> dict[str, Any]:
    """Return the body of `GET /v1/sessions/{id}`."""
    counters = conversation.counters
    return {
        "sessionId": conversation.session_id,
        "state": conversation.state,
        "turns": counters.turns,
        "toolCalls": counters.tool_calls,
        "totalTokens": counters.tokens.total,
        "uptimeMs": conversation.uptime_ms,
        "model": conversation.model,
        "blueprint": conversation.blueprint,
        "createdAt": conversation.created_at,
        "tenantId": conversation.tenant_id,
        "restarts": conversation.restarts,
        "pid": conversation.pid,
    }


def created(conversation: Conversation) -> dict[str, Any]:
    """Return the body of the answer to `POST /v1/sessions`."""
    return {**info(conversation), "fence": str(conversation.fence)}


def stats(conversation: Conversation) -> dict[str, Any]:
    """Return the body of `GET .../stats`."""
    counters = conversation.counters
    return {
        "sessionId": conversation.session_id,
        "turns": counters.turns,
        "totalTokens": counters.tokens.total,
        "costUsd": counters.tokens.cost_usd,
        "promptCount": counters.prompts,
        "tokenUsage": {
            "promptTokens": counters.tokens.prompt,
            "completionTokens": counters.tokens.completion,
            "totalTokens": counters.tokens.total,
            "cachedTokens": counters.tokens.cached,
        },
        "lastEventIndex": conversation.log.last_index,
        "eventBufferCount": len(conversation.log),
    }


def status(conversation: Conversation) -> dict[str, Any]:
    """Return the body of `GET .../status`."""
    turn = conversation.turn
    running = () if turn is None else turn.running_tools.values()
    return {
        "sessionId": conversation.session_id,
        "state": conversation.state,
        "pendingTools": [msgspec.to_builtins(each) for each in running],
        "pendingApprovals": msgspec.to_builtins(list(conversation.parts.approvals.requests())),
        "pendingQuestions": msgspec.to_builtins(list(conversation.parts.questions.requests())),
        "queues": {
            "prompts": len(conversation.prompts),
            "steering": len(conversation.parts.steering_texts),
        },
        "lastEventIndex": conversation.log.last_index,
    }


def messages(page: MessagePage) -> dict[str, Any]:
    """Return the body of `GET .../messages`."""
    return {"messages": msgspec.to_builtins(page.messages), "next": page.next}
