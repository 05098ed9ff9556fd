"""What an ACP agent says that it has used, as what one turn used.

The protocol leaves open what the numbers of an answer count, and agents differ: those of the turn,
of the session so far, or of the last call of the model alone. Some tell elsewhere, some not at all.
"""

from __future__ import annotations

from typing import Any, Literal

from acp.schema import Usage

from frontdesk.agents.records import MAX_COST_USD, TokenUsage

UsageCount = Literal["turn", "session", "last-call"]
"""What the numbers in an agent's answer count."""

KNOWN_COUNTS: dict[str, UsageCount] = {
    "@mistralai/mistral-vibe": "session",
    "OpenCode": "last-call",
}
"""What agents count that were tried, by the name that they give."""

MAX_TOKENS = 1_000_000_000
"""Tokens that an agent may say it used in one turn, of each kind."""

_NAMES = {
    "prompt": ("inputTokens", "promptTokens", "input_tokens", "prompt_tokens"),
    "completion": ("outputTokens", "completionTokens", "output_tokens", "completion_tokens"),
    "cached": ("cachedReadTokens", "cachedTokens", "cached_read_tokens", "cached_tokens"),
}


class SessionUsage:
    """Turn what one session's agent says into what each of its turns used, nothing counted twice.

    `count` is what the numbers of its answers count; None goes by the name of the agent.
    """

    __slots__ = ("_cost_usd", "_count", "_may_begin_again", "_total")

    def __init__(self, count: UsageCount | None) -> None:
        self._count = count
        self._total = TokenUsage()
        self._cost_usd = 0.0
        self._may_begin_again = False

    @property
    def counted(self) -> tuple[TokenUsage, float]:
        """Return what of the session's sums is counted already: tokens, and USD."""
        return self._total, self._cost_usd

    def restore(self, used: TokenUsage, cost_usd: float) -> None:
        """Go on from what was counted in an earlier life."""
        self._total, self._cost_usd = used, cost_usd

    def on_agent_name(self, name: str | None) -> None:
        """Note the name that the agent gives, which says what it counts where nobody else does."""
        if self._count is None:
            self._count = KNOWN_COUNTS.get(name or "", "turn")

    def on_opened(self, *, reopened: bool) -> None:
        """Note that a process begins: its sums go on where it was given its session back.

        They may all the same begin again.
        """
        self._may_begin_again = reopened
        if not reopened:
            self._total, self._cost_usd = TokenUsage(), 0.0

    @property
    def is_partial(self) -> bool:
        """Say whether the numbers leave out a part of what a turn used."""
        return self._count == "last-call"

    def of_answer(self, counts: TokenUsage) -> TokenUsage:
        """Return what a turn used, of whose answer these are the numbers.

        Of a session's sum it is the increase; a sum that is smaller began again.
        """
        if self._count != "session":
            return counts
        former, self._total = self._total, counts
        if counts.prompt < former.prompt or counts.completion < former.completion:
            return counts
        return TokenUsage(
            counts.prompt - former.prompt,
            counts.completion - former.completion,
            max(0, counts.cached - former.cached),
        )

    def cost_of(self, total_usd: float) -> float:
        """Return what the session has cost more than it had; agents report the sum."""
        if self._may_begin_again and 0 < total_usd < self._cost_usd:
            self._cost_usd = 0.0
        if not self._cost_usd < total_usd <= MAX_COST_USD:
            return 0.0
        self._may_begin_again = False
        increase, self._cost_usd = total_usd - self._cost_usd, total_usd
        return increase


def tokens_of(usage: Usage) -> TokenUsage:
    """Return the tokens of prompts and of answers, caches and thoughts included.

    >>> tokens_of(Usage(input_tokens=7, output_tokens=5, cached_read_tokens=4, total_tokens=16))
    TokenUsage(prompt=11, completion=5, cached=4, cost_usd=0.0)
    """
    prompt, completion = usage.input_tokens, usage.output_tokens
    cached = usage.cached_read_tokens or 0
    if usage.total_tokens > prompt + completion:
        prompt += cached + (usage.cached_write_tokens or 0)
        completion += usage.thought_tokens or 0
    return TokenUsage(*(min(each, MAX_TOKENS) for each in (prompt, completion, cached)))


def tokens_in_meta(meta: Any) -> TokenUsage | None:
    """Return the tokens that some agents tell in `_meta`; None where it tells none.

    >>> tokens_in_meta({"usage": {"inputTokens": 3, "outputTokens": 2}})
    TokenUsage(prompt=3, completion=2, cached=0, cost_usd=0.0)
    >>> tokens_in_meta({"quota": {"token_count": {"input_tokens": 3, "output_tokens": 2}}})
    TokenUsage(prompt=3, completion=2, cached=0, cost_usd=0.0)
    >>> tokens_in_meta({"other": 1})
    """
    if not isinstance(meta, dict):
        return None
    quota = meta.get("quota")
    counts = meta.get("usage") or (quota.get("token_count") if isinstance(quota, dict) else None)
    if not isinstance(counts, dict):
        return None
    found = {}
    for kind, names in _NAMES.items():
        numbers = [counts[name] for name in names if name in counts]
        if numbers and type(numbers[0]) is int and numbers[0] >= 0:
            found[kind] = min(numbers[0], MAX_TOKENS)
    return TokenUsage(**found) if found.keys() & {"prompt", "completion"} else None
