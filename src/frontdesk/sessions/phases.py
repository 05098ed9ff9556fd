"""The phases of a session and of a turn, each with its one transition function."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

P = TypeVar("P", bound=StrEnum)


class SessionPhase(StrEnum):
    """What a session is in the middle of.

        opening -> live <-> restarting <-> dormant
           |        |           |           ^  |
           |        +-> ending <+-----------+  |
           |        |     |     |              |
           +--------+-> ended <-+--------------+

    `opening`: its first agent is being started. `live`: an agent answers. `restarting`: its agent
    ended and the next one is being started. `dormant`: it is stored and has no agent, until
    something is asked. `ending`: it is being ended, and takes nothing new.
    `ended`: its stream is over. An agent that dies while its session is `ending` ends it; nothing
    leads out of `ended`.
    """

    OPENING = "opening"
    LIVE = "live"
    RESTARTING = "restarting"
    DORMANT = "dormant"
    ENDING = "ending"
    ENDED = "ended"

    def to(self, phase: SessionPhase) -> SessionPhase:
        """Return the next phase; `RuntimeError` for a step that the diagram does not have."""
        return _step(self, phase, _SESSION_STEPS)


class TurnPhase(StrEnum):
    """How far a turn has come.

        running -> stopping -> finished
           |                      ^
           +----------------------+

    `running`: its agent answers. `stopping`: somebody asked for its end, and its agent cleans up.
    `finished`: it had its one `agent_end` or `agent_abort`; what its agent still does is discarded.
    """

    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"

    def to(self, phase: TurnPhase) -> TurnPhase:
        """Return the next phase; `RuntimeError` for a step that the diagram does not have."""
        return _step(self, phase, _TURN_STEPS)


_SESSION_STEPS: Mapping[SessionPhase, frozenset[SessionPhase]] = {
    SessionPhase.OPENING: frozenset({SessionPhase.LIVE, SessionPhase.DORMANT, SessionPhase.ENDED}),
    SessionPhase.LIVE: frozenset(
        {SessionPhase.RESTARTING, SessionPhase.DORMANT, SessionPhase.ENDING, SessionPhase.ENDED}
    ),
    SessionPhase.RESTARTING: frozenset(
        {SessionPhase.LIVE, SessionPhase.DORMANT, SessionPhase.ENDING, SessionPhase.ENDED}
    ),
    SessionPhase.DORMANT: frozenset(
        {SessionPhase.RESTARTING, SessionPhase.ENDING, SessionPhase.ENDED}
    ),
    SessionPhase.ENDING: frozenset({SessionPhase.DORMANT, SessionPhase.ENDED}),
    SessionPhase.ENDED: frozenset(),
}

_TURN_STEPS: Mapping[TurnPhase, frozenset[TurnPhase]] = {
    TurnPhase.RUNNING: frozenset({TurnPhase.STOPPING, TurnPhase.FINISHED}),
    TurnPhase.STOPPING: frozenset({TurnPhase.FINISHED}),
    TurnPhase.FINISHED: frozenset(),
}


def _step(now: P, then: P, steps: Mapping[P, frozenset[P]]) -> P:
    if then not in steps[now]:
        raise RuntimeError(f"no step leads from {now} to {then}")
    return then
