"""One turn's text, or its thoughts, on the way out: shown to the guardrails piece by piece.

A word may come in two pieces, so they see each piece behind the end of what went out before; not
the whole message each time, which would cost the square of its length. And whether a word is whole
may be seen in the next piece only: what is undecided waits for it.
"""

from __future__ import annotations

from collections import deque

from frontdesk.sessions.errors import GuardrailRefused
from frontdesk.sessions.hooks import (
    PENDING,
    SHOWN_CHARACTERS,
    Guardrails,
    MessageSoFar,
    Pending,
)


class OutputFilter:
    """Ask one tenant's guardrails about one message after another."""

    __slots__ = ("_characters", "_guardrails", "_sent", "_tenant_id", "_waiting")

    def __init__(self, guardrails: Guardrails, tenant_id: str) -> None:
        self._guardrails, self._tenant_id = guardrails, tenant_id
        self._sent = ""
        self._waiting: deque[str] = deque()
        self._characters = 0
        """Of the message so far, what waits included."""

    def feed(self, piece: str) -> list[str]:
        """Return the pieces that can go out now; `GuardrailRefused`."""
        self._waiting.append(piece)
        self._characters += len(piece)
        return self._passing(complete=False)

    def end(self, before: str | None) -> list[str]:
        """Return the pieces that waited: the message is complete; `GuardrailRefused`.

        `before` is the message without them, where it is to be looked at as a whole.
        """
        passed = self._passing(complete=True) if self._waiting else []
        self._sent, self._characters = "", 0
        if before is not None and (whole := before + "".join(passed)):
            self._refuse(self._guardrails.refuse_message(self._tenant_id, whole))
        return passed

    def check(self, text: str) -> None:
        """Let a text pass that is a message by itself; `GuardrailRefused`."""
        message = MessageSoFar(text, len(text), complete=True)
        self._refuse(self._guardrails.refuse_output(self._tenant_id, message))
        self._refuse(self._guardrails.refuse_message(self._tenant_id, text))

    def _passing(self, *, complete: bool) -> list[str]:
        text = self._sent + "".join(self._waiting)
        message = MessageSoFar(text, self._characters, complete)
        verdict = self._guardrails.refuse_output(self._tenant_id, message)
        passed: list[str] = []
        if verdict is PENDING and not complete:
            # The latest waits, and as much before it as it may depend on.
            waiting = sum(map(len, self._waiting))
            while waiting > SHOWN_CHARACTERS and len(self._waiting) > 1:
                passed.append(self._waiting.popleft())
                waiting -= len(passed[-1])
        else:
            self._refuse(verdict)
            passed += self._waiting
            self._waiting.clear()
        self._sent = (self._sent + "".join(passed))[-SHOWN_CHARACTERS:]
        return passed

    def _refuse(self, verdict: str | Pending | None) -> None:
        if verdict is not None:
            raise GuardrailRefused(verdict if isinstance(verdict, str) else "it is not decided")
