"""The paths: who may ask for each, with which scope, what answers it, and whether it is logged.

The one list. Whatever treats requests differently by their path reads it here: the middleware (who
is let in, what is limited, what bypasses the application), each route (which right it needs), the
actions of a WebSocket, `auth.py` (where a key may stand in the query), the access log and the API
description. A new protocol adds its lines here; a route whose path or verb has none is closed to
everybody.

A path is what the router matches: without the prefix that the application is mounted under.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import Any

# The router's own: whatever it takes a path for, this is what its rule is found by.
from starlette._utils import get_route_path

from frontdesk.gateway.scopes import KeyScope


class Access(Enum):
    """Who may ask."""

    OPEN = auto()
    """Everybody."""
    CREDENTIAL = auto()
    """Whoever has a tenant's credential with the scope that the verb needs; web pages of every
    origin may; counted by the rate limit."""
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
    ROW_STREAM = auto()
    """GET is a feed of sessions that bypasses the application; its key may stand in the query."""
    FOR_TENANT = auto()
    """An operator's request becomes the tenant's own (`operator_requests.py`)."""
    WEBSOCKET = auto()
    """As a WebSocket it bypasses the application; its key may stand in the query."""


IN_QUERY = (Endpoint.EVENT_STREAM, Endpoint.ROW_STREAM, Endpoint.WEBSOCKET)
"""Where a browser can set no header, a key may stand in the query."""


@dataclass(frozen=True, slots=True)
class PathRule:
    """What holds for the paths that begin with a pattern."""

    pattern: re.Pattern[str]
    access: Access
    needs: Mapping[str, KeyScope]
    """The scope that each verb needs; a verb that is not here is answered by no route."""
    endpoint: Endpoint = Endpoint.APPLICATION
    logged: bool = True
    always_answered: bool = False
    """Also while the gateway is not open."""
    unnamed: frozenset[str] = frozenset()
    """The verbs under which the path names no session, though one may be called like that."""
    body_bytes: int = 0
    """How large a body of these verbs may be, where that is more than is set for all."""

    def scope_of(self, method: str) -> KeyScope | None:
        """Return the scope that a verb needs, None where no route may answer it."""
        return self.needs.get("GET" if method == "HEAD" else method)


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
    needs: Mapping[str, str] | None = None,
    logged: bool = True,
    always_answered: bool = False,
) -> PathRule:
    return PathRule(
        re.compile(pattern),
        access,
        MappingProxyType({verb: KeyScope(scope) for verb, scope in (needs or {}).items()}),
        endpoint,
        logged,
        always_answered,
    )


def _v1(pattern: str, endpoint: Endpoint = Endpoint.APPLICATION, /, **needs: str) -> PathRule:
    return _rule(pattern, Access.CREDENTIAL, endpoint, needs=needs)


# `$`, not `\Z`, after what needs a key: the framework's own patterns let a last line feed pass, and
# `/metrics` with one behind it is the same route.
MAX_IMPORT_BYTES = 64 * 1024 * 1024

SESSION = r"/v1/sessions/(?P<session_id>[^/]+)"
PATHS = (
    _v1(rf"{SESSION}/events\Z", Endpoint.EVENT_STREAM, GET="read"),
    _v1(rf"{SESSION}/ws\Z", Endpoint.WEBSOCKET, GET="read"),
    _v1(r"/v1/feed\Z", Endpoint.ROW_STREAM, GET="read"),
    _v1(rf"{SESSION}/(events|ws|stats|status|messages)$", GET="read"),
    _v1(rf"{SESSION}/(prompt|steer|abort|respond)$", POST="prompt"),
    _v1(rf"{SESSION}/(approve|reject)$", POST="approve"),
    _v1(rf"{SESSION}/resume$", POST="prompt"),
    _v1(rf"{SESSION}/close$", POST="delete"),
    _v1(rf"{SESSION}/(tools|switch_model|tokens)$", POST="create"),
    _v1(rf"{SESSION}/tools/[^/]+$", DELETE="create"),
    _v1(rf"{SESSION}/checkpoints$", GET="read", POST="create"),
    _v1(rf"{SESSION}/checkpoints/[^/]+$", DELETE="create"),
    _v1(rf"{SESSION}/checkpoints/[^/]+/resume$", POST="create"),
    _v1(rf"{SESSION}/export$", GET="read"),
    replace(
        _v1(r"/v1/sessions/(?P<session_id>import)$", GET="read", POST="create", DELETE="delete"),
        unnamed=frozenset({"POST"}),
        body_bytes=MAX_IMPORT_BYTES,
    ),
    _v1(rf"{SESSION}$", GET="read", DELETE="delete"),
    _v1(SESSION),
    _v1(r"/v1/sessions$", GET="read", POST="create"),
    _v1(r"/v1/(usage|blueprints|models|ends)$", GET="read"),
    _v1(r"/v1(/|$)"),
    _rule(r"/(healthz|readyz)\Z", Access.OPEN, logged=False, always_answered=True),
    _rule(r"/ops/feed\Z", Access.OPERATOR, Endpoint.ROW_STREAM),
    _rule(
        r"/ops/sessions/[^/]+/(?P<session_id>[^/]+)/(stop|abort|messages|events)\Z",
        Access.OPERATOR,
        Endpoint.FOR_TENANT,
    ),
    _rule(r"/(ops|metrics)(/|$)", Access.OPERATOR),
    _rule(r"/\.well-known/agent\.json\Z", Access.OPEN),
    _rule(r"/(dashboard/.*)?\Z", Access.OPEN),
    _rule(r"/(openapi\.json|docs)\Z", Access.OPEN),
    _rule(r"", Access.NONE),
)
"""The first that matches counts."""


def path_of(scope: MutableMapping[str, Any]) -> str:
    """Return the path that the router matches, below whatever prefix there is."""
    return get_route_path(scope)


def scope_of_action(name: str) -> KeyScope:
    """Return the scope that an action of a WebSocket needs: that of the route of its name."""
    return match_path(f"/v1/sessions/of-any-id/{name}").rule.needs["POST"]


def match_path(path: str) -> MatchedPath:
    """Return what holds for a path."""
    for rule in PATHS:
        if found := rule.pattern.match(path):
            return MatchedPath(rule, found.groupdict().get("session_id"))
    raise AssertionError("the last rule matches every path")
