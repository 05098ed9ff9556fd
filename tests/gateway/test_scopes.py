"""Scopes: which one each route and action needs, and what a key without it gets."""

import json

import pytest
from websockets.sync.client import connect

from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.actions import ACTIONS
from frontdesk.gateway.app import ROUTERS, make_routes
from frontdesk.gateway.dependencies import GatewayRoute
from frontdesk.gateway.keys import Key, digest_of
from frontdesk.gateway.middleware import GatewayMiddleware
from frontdesk.gateway.paths import Access, match_path, scope_of_action
from frontdesk.gateway.scopes import KeyScope
from gateway.asgi import ask, filled
from gateway.requirements import covers
from gateway.running import KEYS, RunningGateway, create

SECRETS = {scope: f"{scope}-only-0123456789abcdef" for scope in KeyScope}
SCOPED = tuple(
    Key(f"k-{scope}", "acme", scope, digest_of(secret), scopes=frozenset({scope}))
    for scope, secret in SECRETS.items()
)
ROUTES = sorted(
    {(method, route.path) for module in ROUTERS for route in module.router.routes
     for method in route.methods if match_path(route.path).rule.access is Access.CREDENTIAL}
)  # fmt: skip
NEEDED = {
    "read": {
        "GET /v1/sessions", "GET /v1/sessions/{sessionId}", "GET /v1/usage",
        *(f"GET /v1/sessions/{{sessionId}}/{name}"
          for name in ("events", "ws", "stats", "status", "messages", "checkpoints", "export")),
    },
    "prompt": {
        f"POST /v1/sessions/{{sessionId}}/{name}"
        for name in ("prompt", "steer", "abort", "respond")
    },
    "approve": {f"POST /v1/sessions/{{sessionId}}/{name}" for name in ("approve", "reject")},
    "create": {
        "POST /v1/sessions", "DELETE /v1/sessions/{sessionId}/tools/{name}",
        "POST /v1/sessions/import", "DELETE /v1/sessions/{sessionId}/checkpoints/{name}",
        "POST /v1/sessions/{sessionId}/checkpoints/{name}/resume",
        *(f"POST /v1/sessions/{{sessionId}}/{name}"
          for name in ("tools", "switch_model", "checkpoints")),
    },
    "delete": {"DELETE /v1/sessions/{sessionId}"},
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with RunningGateway(tmp_path_factory.mktemp("state"), keys=(*KEYS, *SCOPED)) as running:
        yield running


# -- the one table -------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_of_a_tenant_says_which_scope_each_of_its_verbs_needs(method, path):
    assert match_path(path).rule.scope_of(method) is not None, (
        f"{method} {path}: nobody is let in; say in gateway/paths.py which scope it needs"
    )


def test_the_scopes_that_routes_need_are_these():
    needed = {scope: set() for scope in KeyScope}
    for method, path in ROUTES:
        needed[match_path(path).rule.scope_of(method)].add(f"{method} {path}")
    for scope, routes in NEEDED.items():
        assert routes <= needed[scope], scope


def test_an_action_needs_what_the_route_of_its_name_needs():
    assert {name: str(scope_of_action(name)) for name in ACTIONS} == {
        "prompt": "prompt", "steer": "prompt", "abort": "prompt", "respond": "prompt",
        "approve": "approve", "reject": "approve",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/sessions/a/new"), ("GET", "/v1/new"), ("PUT", "/v1/sessions/a"),
     ("PATCH", "/v1/usage"), ("POST", "/v1/sessions/a/stats")],
)  # fmt: skip
def test_a_route_without_a_rule_is_closed_to_a_key_that_may_do_everything(gateway, method, path):
    app = make_routes(gateway.gateway)

    async def opened(request):
        raise AssertionError("it was answered")

    app.router.routes.insert(0, GatewayRoute(path, opened, methods=[method]))
    app = GatewayMiddleware(app, gateway=gateway.gateway, log=AccessLog(None))
    headers = ((b"x-api-key", b"acme-secret-0123456789abcdef"),)

    async def asked():
        return await ask(app, path, method=method, headers=headers)

    assert gateway.call(asked).status == 401


# -- what is answered ----------------------------------------------------------------------------


@covers("keys.scopes", "errors.forbidden")
@pytest.mark.parametrize("scope", KeyScope)
def test_a_key_without_the_scope_is_answered_403_which_names_it(gateway, scope):
    with gateway.client(SECRETS[scope]) as client:
        for method, path in ROUTES:
            needed = match_path(path).rule.scope_of(method)
            if needed is scope and path == "/v1/feed":
                # Without an end: its beginning is what it is answered with.
                with client.stream(method, path) as feed:
                    assert feed.status_code == 200
                continue
            answer = client.request(method, filled(path))
            if needed is scope:
                assert answer.status_code != 403, (method, path)
            else:
                assert answer.status_code == 403, (method, path)
                assert answer.json() == {
                    "error": "forbidden",
                    "message": f"this needs the scope {needed}, which the credential does not have",
                    "scope": needed,
                }
                assert answer.headers["cache-control"] == "no-store"
                challenge = (
                    f'Bearer realm="frontdesk", error="insufficient_scope", scope="{needed}"'
                )
                assert answer.headers["www-authenticate"] == challenge


def test_whether_a_session_exists_is_not_told_to_a_key_that_may_not_see_it(gateway, acme, sid):
    create(acme, sid)
    with gateway.client(SECRETS[KeyScope.DELETE]) as client:
        known, unknown = client.get(f"/v1/sessions/{sid}"), client.get("/v1/sessions/never")
    assert known.status_code == unknown.status_code == 403
    assert known.content == unknown.content


def test_a_wrong_verb_and_an_unknown_route_are_told_whatever_the_scopes(gateway):
    with gateway.client(SECRETS[KeyScope.DELETE]) as client:
        assert client.put("/v1/sessions").status_code == 405
        assert client.get("/v1/none").status_code == 404


@covers("keys.scopes")
@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_on_a_websocket_needs_its_own_scope(gateway, acme, sid, action):
    create(acme, sid)
    fields = {"text": "x", "approvalId": "x", "ref": "x", "response": "x"}
    takes = {field.alias or name for name, field in ACTIONS[action].body.model_fields.items()}
    message = {"action": action} | {name: fields[name] for name in takes if name in fields}
    url = f"{gateway.ws_url}/v1/sessions/{sid}/ws?api_key={SECRETS[KeyScope.READ]}"
    with connect(url, proxy=None) as socket:
        for _ in range(2):
            socket.send(json.dumps(message))
            answer = json.loads(socket.recv(20))
            assert answer == {
                "action": action,
                "error": "forbidden",
                "message": f"this needs the scope {scope_of_action(action)}, which the credential"
                " does not have",
                "scope": scope_of_action(action),
            }


def test_a_websocket_is_not_opened_without_the_scope_to_read(gateway, acme, sid):
    create(acme, sid)
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    with gateway.client(SECRETS[KeyScope.PROMPT]) as client:
        refused = client.get(f"/v1/sessions/{sid}/ws", headers=headers)
    assert (refused.status_code, refused.json()["scope"]) == (403, "read")
