"""Where a remote agent is, and what lets us in there: an operator's words, read once.

Of the kinds whose `target` is an address. The credential stands in an environment variable, whose
name alone is written down; its value is in no repr, no error and no log.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from frontdesk.errors import InvalidArgument

ADDRESS = r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#@\\]*)?"
"""What an address may be: no user, no query, no fragment."""

VARIABLE = r"[A-Z_][A-Z0-9_]*"
"""What a variable may be called: few credentials look like that, should one stand there instead."""

_SENDABLE = re.compile(r"[!-~]+( [!-~]+)*")


def problem_with_variable(name: str) -> str | None:
    """Return what is wrong with the variable of a credential, None where it can be sent."""
    value = os.environ.get(name, "")
    if not value:
        return f"the environment has no variable {name}, or it is empty"
    if not _SENDABLE.fullmatch(value):
        return f"what the variable {name} has cannot stand in a header"
    return None


class RemoteAddress:
    """An agent's address, and the header that lets us in. Raises `InvalidArgument`."""

    __slots__ = ("_credential", "url")

    def __init__(self, url: str, *, credential: str | None = None) -> None:
        if not re.fullmatch(ADDRESS, url):
            expected = "an http or https address without user, query and fragment"
            raise InvalidArgument("target", expected=expected, got=url[:80])
        self.url: str = url.rstrip("/")
        self._credential: str | None = None
        if credential is not None:
            problem = problem_with_variable(credential)
            if problem is not None:
                raise InvalidArgument("credential", expected="a variable that is set", got=problem)
            self._credential = os.environ[credential]

    @property
    def origin(self) -> tuple[str, str]:
        """Return scheme, and host with port."""
        return origin_of(self.url)

    def headers(self) -> dict[str, str]:
        """Return the header that lets us in, if there is one."""
        return {} if self._credential is None else {"authorization": f"Bearer {self._credential}"}

    def __repr__(self) -> str:
        return f"RemoteAddress({self.url!r})"


def origin_of(url: str) -> tuple[str, str]:
    """Return scheme, and host with port, of an address.

    >>> origin_of("https://Agents.example/v1") == origin_of("https://agents.example:443")
    True
    """
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, f"{parts.hostname}:{port}"
