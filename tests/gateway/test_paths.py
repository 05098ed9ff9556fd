"""The list of paths: who may ask for what, read by all that treat paths differently."""

import pytest

from frontdesk.gateway.app import ROUTERS
from frontdesk.gateway.paths import PATHS, Access, Endpoint, match_path

ROUTES = sorted({route.path_format for module in ROUTERS for route in module.router.routes})
OPEN = {"/healthz", "/readyz", "/.well-known/agent.json", "/openapi.json", "/docs"}
DASHBOARD = {"/", "/dashboard/{path}", "/dashboard/login", "/dashboard/logout", "/dashboard/me"}
OPERATORS = {
    "/ops/status",
    "/ops/usage",
    "/ops/sessions",
    "/ops/sessions/{tenant}/{sessionId}",
    "/ops/sessions/{tenant}/{sessionId}/stop",
    "/ops/sessions/{tenant}/{sessionId}/abort",
    "/ops/sessions/{tenant}/{sessionId}/messages",
    "/ops/sessions/{tenant}/{sessionId}/events",
    "/ops/feed",
    "/ops/ends",
    "/ops/nodes",
    "/ops/nodes/{node}/drain",
    "/ops/tenants/{tenant}/conversations",
    "/metrics",
}


def test_what_everybody_and_what_operators_may_ask_for_is_this_and_no_more():
    of = {path: match_path(path).rule.access for path in ROUTES}
    assert {path for path in ROUTES if of[path] is Access.OPEN} == OPEN | DASHBOARD
    assert {path for path in ROUTES if of[path] is Access.OPERATOR} == OPERATORS
    assert {path for path in ROUTES if of[path] is Access.CREDENTIAL} == {
        path for path in ROUTES if path.startswith("/v1/")
    }


def test_streams_bypass_the_application_and_nothing_else_does():
    of = {path: match_path(path).rule.endpoint for path in ROUTES}
    assert {path for path in ROUTES if of[path] is Endpoint.EVENT_STREAM} == {
        "/v1/sessions/{sessionId}/events"
    }
    assert {path for path in ROUTES if of[path] is Endpoint.WEBSOCKET} == {
        "/v1/sessions/{sessionId}/ws"
    }
    assert {path for path in ROUTES if of[path] is Endpoint.ROW_STREAM} == {"/v1/feed", "/ops/feed"}


@pytest.mark.parametrize(
    ("path", "access"),
    [
        ("/v1", Access.CREDENTIAL),
        ("/v1/", Access.CREDENTIAL),
        ("/v1/no/such/route", Access.CREDENTIAL),
        ("/v1\n", Access.CREDENTIAL),
        ("/v1/sessions\n", Access.CREDENTIAL),
        ("/v1/usage\n", Access.CREDENTIAL),
        ("/metrics\n", Access.OPERATOR),
        ("/ops/status\n", Access.OPERATOR),
        ("/ops", Access.OPERATOR),
        ("/v10", Access.NONE),
        ("/metricsx", Access.NONE),
        ("/docs", Access.OPEN),
        ("/openapi.json", Access.OPEN),
        ("/", Access.OPEN),
        ("/dashboard/app.js", Access.OPEN),
        ("/dashboard", Access.NONE),
        ("/dashboardx", Access.NONE),
        ("/\n", Access.NONE),
        ("/docs/", Access.NONE),
        ("/docs\n", Access.NONE),
        ("/docs/oauth2-redirect", Access.NONE),
        ("/healthz\n", Access.NONE),
        ("", Access.NONE),
    ],
    ids=repr,
)
def test_a_path_is_opened_by_what_its_route_needs(path, access):
    assert match_path(path).rule.access is access


@pytest.mark.parametrize("path", ["/metrics%0A", "/ops/status%0A", "/v1/usage%0A"])
def test_a_line_feed_behind_a_path_opens_nothing(gateway, path):
    with gateway.client(None) as client:
        assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    ("path", "session_id"),
    [
        ("/v1/sessions/a", "a"),
        ("/v1/sessions/a/prompt", "a"),
        ("/v1/sessions/a/events", "a"),
        ("/v1/sessions/a/ws", "a"),
        ("/v1/sessions/a/events/more", "a"),
        ("/v1/sessions/", None),
        ("/v1/sessions", None),
        ("/v1/usage", None),
        ("/healthz", None),
    ],
)
def test_the_session_that_a_path_names_is_known_from_the_path_alone(path, session_id):
    assert match_path(path).session_id == session_id


def test_only_health_checks_are_answered_always_and_leave_no_line():
    quiet = [rule for rule in PATHS if not rule.logged]
    assert quiet == [rule for rule in PATHS if rule.always_answered]
    assert all(match_path(path).rule in quiet for path in ("/healthz", "/readyz"))
    assert match_path("/healthz/more").rule not in quiet
