"""What an operator's module raised while it was imported, and at which of its lines.

In the gateway and in fork servers alike; whoever wrote the module reads it.
"""

from __future__ import annotations

import traceback


def problem_of(error: BaseException) -> str:
    """Return an error's kind and words, with the line of the module that was being run, if one was.

    >>> problem_of(KeyError("a"))
    "KeyError: 'a'"
    """
    return f"{type(error).__name__}: {error}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """Return where a module's import broke off, to be put behind an error's words."""
    frames = traceback.extract_tb(error.__traceback__)
    # The first is the operator's: further ones are of what that module imports.
    line = next((each for each in frames if each.name == "<module>"), None)
    return "" if line is None else f" ({line.filename}, line {line.lineno})"
