"""The answers that this node has claimed, so that it can claim them again.

A claim is the engine's word for who answers a request that comes more than once. The engine forgets
it with what it loses, and where it held the node to be dead. The answer is still here then, and so
is the session that it opened: a repetition that comes to another node must not open a second one.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_CLAIMS", "OwnClaim", "OwnClaims"]

MAX_CLAIMS = 10_000
"""As many as a gateway holds answers. Past that the oldest is not claimed again."""


@dataclass(frozen=True, slots=True)
class OwnClaim:
    """A claim of this node.

    Attributes:
        digest (str): Of the request's body.
        until_s (float): When it runs out, by the node's own clock.
    """

    digest: str
    until_s: float


class OwnClaims:
    """The claims that the engine knows of, and those that it has forgotten, by slot.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._known: dict[str, OwnClaim] = {}
        self.forgotten: dict[str, OwnClaim] = {}

    def add(self, slot: str, claim: OwnClaim, *, now_s: float) -> None:
        """Say that this node has a claim; one that it had already runs out as it did."""
        known = self._known
        if slot not in known or known[slot].until_s <= now_s:
            known.pop(slot, None)
            known[slot] = claim
        # Oldest first, and all last equally long.
        while known and (len(known) > MAX_CLAIMS or next(iter(known.values())).until_s <= now_s):
            del known[next(iter(known))]

    def forget(self) -> None:
        """Say that the engine knows of none of them."""
        self.forgotten, self._known = self._known | self.forgotten, {}
