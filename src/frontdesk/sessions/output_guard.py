"""The filter in front of what an agent says: asked before each piece, and about each whole message.

Above the ports, below the open turn. A word may come in two pieces, so the filter sees each piece
behind the end of what was said before; it does not see the whole message each time, which would
cost the square of its length.
"""

from __future__ import annotations

from frontdesk.sessions.hooks import Guardrails

WINDOW_CHARACTERS = 4096
"""How much of what was said before the filter sees with each piece."""


class OutputGuard:
    """Ask one tenant's guardrails about one turn's text, or about its thoughts."""

    __slots__ = ("_guardrails", "_said", "_tenant_id")

    def __init__(self, guardrails: Guardrails, tenant_id: str) -> None:
        self._guardrails, self._tenant_id = guardrails, tenant_id
        self._said = ""

    def refuses(self, piece: str) -> str | None:
        """Return why the next piece may not go out, None where it may."""
        seen = self._said + piece
        self._said = seen[-WINDOW_CHARACTERS:]
        return self._guardrails.refuse_output(self._tenant_id, seen)

    def refuses_whole(self, text: str) -> str | None:
        """Return why a complete message should not have gone out; the next one begins."""
        self._said = ""
        return self._guardrails.refuse_output(self._tenant_id, text) if text else None
