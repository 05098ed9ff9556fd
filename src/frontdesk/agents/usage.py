"""What one conversation has used: turns, tool calls, tokens, cost.

The meter that bills keys and tenants is
the gateway's; these are the figures that `info` and `stats` show.
"""

from __future__ import annotations


class Usage:
    """Counters of one conversation, or of one turn. Plain numbers, changed on one event loop."""

    __slots__ = (
        "cached_tokens",
        "completion_tokens",
        "cost_usd",
        "prompt_tokens",
        "prompts",
        "tool_calls",
        "turns",
    )

    def __init__(self) -> None:
        self.turns = self.prompts = self.tool_calls = 0
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.cost_usd = 0.0

    @property
    def total_tokens(self) -> int:
        """Return prompt and completion tokens together; cached ones are prompt tokens already."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, *, prompt: int, completion: int, cached: int, cost_usd: float) -> None:
        """Add what a model call used."""
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.cached_tokens += cached
        self.cost_usd += cost_usd
