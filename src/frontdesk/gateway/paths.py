"""The paths: who may ask for each, what answers it, and whether it is logged.

The one list. Whatever treats requests differently by their path reads it here: the middleware (who
is let in, what is limited, what bypasses the application), each route (which right it needs),
`auth.py` (where a key may stand in the query), the access log and the API description. A new
protocol adds its lines here; a route whose path has none is closed to everybody.

A path is what the router matches: without the prefix that the application is mounted under.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

# The router's own: whatever it takes a path for, this is what its rule is found by.
from starlette._utils import get_route_path


class Access(Enum):
    """Who may ask."""

    OPEN = auto()
    """Everybody."""
    CREDENTIAL = auto()
    """Whoever has a tenant's key; web pages of every origin may; counted by the rate limit."""
    OPERATOR = auto()
    """Whoever has an operator's key."""
    NONE = auto()
    """Nobody: nothing is there."""


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
    _rule(r"/\.well-known/agent\.json\Z", Access.OPEN),
    _rule(r"/(openapi\.json|docs)\Z", Access.OPEN),
    _rule(r"", Access.NONE),
)
"""The first that matches counts."""


def path_of(scope: MutableMapping[str, Any]) -> str:
    """Return the path that the router matches, below whatever prefix there is."""
    return get_route_path(scope)


def match_path(path: str) -> MatchedPath:
    """Return what holds for a path."""
    for rule in PATHS:
        if found := rule.pattern.match(path):
            return MatchedPath(rule, found.groupdict().get("session_id"))
    raise AssertionError("the last rule matches every path")
