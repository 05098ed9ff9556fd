"""What a credential may do with its tenant's sessions: five rights, which a key has all or some of.

Below the keys, which have them, and `paths.py`, which says which of them each route needs.
"""

from __future__ import annotations

from enum import StrEnum


class KeyScope(StrEnum):
    """One right."""

    READ = "read"
    """See sessions, their events, history and numbers; what may be opened; what was used."""
    PROMPT = "prompt"
    """Talk: prompt, steer, abort, answer the agent's questions."""
    APPROVE = "approve"
    """Let the agent use a tool, or not."""
    CREATE = "create"
    """Open sessions; change what they are made of (tools, model); hand out tokens for them."""
    DELETE = "delete"
    """End sessions."""


ALL_SCOPES = frozenset(KeyScope)


def in_order(scopes: frozenset[KeyScope]) -> tuple[KeyScope, ...]:
    """Return scopes in the order in which the documents have them."""
    return tuple(each for each in KeyScope if each in scopes)
