"""The paths: who may ask for each, what answers it, and whether it is logged.

The one list. Whatever treats requests differently by their path reads it here: the middleware (who
is let in, what is limited, what bypasses the application), `auth.py` (where a key may stand in the
query), the access log and the API description. A new protocol adds its lines here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto


class Access(Enum):
    """Who may ask."""

    OPEN = auto()
    """Everybody."""
    CREDENTIAL = auto()
    """Whoever has a tenant's key; web pages of every origin may; counted by the rate limit."""
    OPERATOR = auto()
    """Whoever has an operator's key."""


class Endpoint(Enum):
    """What answers."""

    APPLICATION = auto()
    """A route, whatever the verb."""
    EVENT_STREAM = auto()
    """GET is a stream that bypasses the application; its key may stand in the query."""
    WEBSOCKET = auto()
    """As a WebSocket it bypasses the application; its key may stand in the query."""


@dataclass(frozen=True, slots=True)
class PathRule:
    """What holds for the paths that begin with a pattern."""

    pattern: re.Pattern[str]
    access: Access
    endpoint: Endpoint = Endpoint.APPLICATION
    logged: bool = True
    always_answered: bool = False
    """Also while the gateway is not open."""


@dataclass(frozen=True, slots=True)
class MatchedPath:
    """The rule of a path, and the session that the path names, as it is written there."""

    rule: PathRule
    session_id: str | None


def _rule(
    pattern: str,
    access: Access,
    endpoint: Endpoint = Endpoint.APPLICATION,
    *,
    logged: bool = True,
    always_answered: bool = False,
) -> PathRule:
    return PathRule(re.compile(pattern), access, endpoint, logged, always_answered)


# `$`, not `\Z`, after what needs a key: the framework's own patterns let a last line feed pass, and
# `/metrics` with one behind it is the same route.
SESSION = r"/v1/sessions/(?P<session_id>[^/]+)"
PATHS = (
    _rule(rf"{SESSION}/events\Z", Access.CREDENTIAL, Endpoint.EVENT_STREAM),
    _rule(rf"{SESSION}/ws\Z", Access.CREDENTIAL, Endpoint.WEBSOCKET),
    _rule(SESSION, Access.CREDENTIAL),
    _rule(r"/v1(/|$)", Access.CREDENTIAL),
    _rule(r"/(healthz|readyz)\Z", Access.OPEN, logged=False, always_answered=True),
    _rule(r"/(ops|metrics)(/|$)", Access.OPERATOR),
    _rule(r"", Access.OPEN),
)
"""The first that matches counts. Open are the card, the description, and what is not there."""


def match_path(path: str) -> MatchedPath:
    """Return what holds for a path."""
    for rule in PATHS:
        if found := rule.pattern.match(path):
            return MatchedPath(rule, found.groupdict().get("session_id"))
    raise AssertionError("the last rule matches every path")
