"""What the session service needs from above without knowing it: meter, guardrails, tool caller.

The gateway implements these; whoever embeds the service without a gateway leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from frontdesk.agents.records import NO_USAGE, CallbackTool, TokenUsage


class Meter(Protocol):
    """Counts what keys and tenants use."""

    def record(
        self,
        *,
        tenant_id: str,
        api_key: str | None,
        prompts: int = 0,
        tokens: TokenUsage = NO_USAGE,
    ) -> None:
        """Add to the meters of a key and its tenant. Never waits, never raises."""
        ...


class Guardrails(Protocol):
    """Filters of what goes into and comes out of agents."""

    def refuse_input(self, tenant_id: str, text: str) -> str | None:
        """Return why a prompt is refused, None where it is not."""
        ...

    def refuse_tool_result(self, tenant_id: str, text: str) -> str | None:
        """Return why a text in a callback tool's result is refused, None where it is not."""
        ...

    def refuse_output(self, tenant_id: str, text: str) -> str | None:
        """Return why the text of a message is refused, None where it is not.

        Asked before each piece goes out, with the end of the message so far (the last 4,096
        characters and the piece), and once more with the whole message when it is complete.
        """
        ...


class ToolCaller(Protocol):
    """Runs callback tools."""

    async def call(
        self,
        tool: CallbackTool,
        *,
        call_id: str,
        args: Any,
        session_id: str,
        api_key: str | None,
    ) -> Any:
        """Call the tool and return its result; `ToolFailed` when it fails."""
        ...


class NoMeter:
    """Count nothing."""

    __slots__ = ()

    def record(self, **_: Any) -> None:
        """Forget it."""


def refusal_of(refuse: Callable[[str, str], str | None], tenant_id: str, value: Any) -> str | None:
    """Return why a value may not reach an agent, None where it may.

    `refuse` is asked about every text in it, the names of dicts included.
    """
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            if (why := refuse(tenant_id, each)) is not None:
                return why
        elif isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple):
            waiting += each
    return None
