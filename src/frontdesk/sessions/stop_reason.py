"""Why a turn is ended before its agent is done."""

from __future__ import annotations

from dataclasses import dataclass

INTERRUPTED = "interrupted"
"""Why a turn ended, or a session has no agent, whose process went down."""


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a turn is ended before its agent is done; `error` explains it where something failed.

    A `silent` stop lets nothing more out; otherwise the agent may tell of its clean-up.
    """

    reason: str
    error: str | None = None
    silent: bool = False
