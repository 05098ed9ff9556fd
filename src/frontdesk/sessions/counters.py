"""What a session, or a turn, has used so far."""

from __future__ import annotations

from dataclasses import dataclass

from frontdesk.agents.events import TurnTokens
from frontdesk.agents.records import NO_USAGE, TokenUsage


@dataclass(slots=True)
class Counters:
    """What a session, or a turn, has used so far. Changed on one event loop."""

    turns: int = 0
    prompts: int = 0
    tool_calls: int = 0
    tokens: TokenUsage = NO_USAGE
    unknown_usage: int = 0
    """Turns whose agent did not say what they used."""

    @property
    def turn_tokens(self) -> TurnTokens | None:
        """Return the tokens as an event tells them; None where the agent did not say."""
        used = self.tokens
        if self.unknown_usage and not used.total:
            return None
        return TurnTokens(used.prompt, used.completion, used.total)
