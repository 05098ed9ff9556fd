"""What clients are told of how an agent ended: the kind and the type, never an exception's text.

Operators find the text in the log and in the registry's memory of ends.
"""

from __future__ import annotations

from frontdesk.records import ExitKind, ExitReason


def public_reason(reason: ExitReason) -> str:
    """Return an exit reason as clients may see it.

    >>> public_reason(ExitReason.crashed(ValueError("the text of it")))
    'crashed: ValueError'
    >>> public_reason(ExitReason.signalled(9))
    'signalled: 9 (SIGKILL)'
    """
    if reason.kind is ExitKind.CRASHED:
        return f"crashed: {reason.error}"
    return str(reason)
