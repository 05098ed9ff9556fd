"""Which right each route needs: every route, every kind of key, every prefix, odd spellings."""

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.app import ROUTERS, create_app, make_routes
from frontdesk.gateway.dependencies import GatewayRoute
from frontdesk.gateway.middleware import GatewayMiddleware
from frontdesk.gateway.paths import Access, match_path
from gateway.asgi import ask, filled
from gateway.running import ACME, OPERATOR, Lines, RunningGateway

TO_EVERYBODY = {
    "/dashboard/login": {400},
    "/dashboard/logout": {204, 400},
    "/dashboard/me": {200, 204},
}
"""What becomes of a request without a body, where it is not 200."""
ROUTES = sorted(
    {(route.path_format, method) for module in ROUTERS for route in module.router.routes
     for method in route.methods}
)  # fmt: skip
IMPORT = "/v1/sessions/import"
OF_A_TENANT = "/ops/tenants/{tenant}/conversations"
TEXT_OF_TENANTS = {
    f"/ops/sessions/{{tenant}}/{{sessionId}}/{each}" for each in ("messages", "events")
}
"""Closed to operators, unless the configuration opens them."""
CALLERS = {
    "no key": ((), set()),
    "a wrong key": (((b"x-api-key", b"wrong"),), set()),
    "a tenant's key": (((b"x-api-key", ACME.encode()),), {Access.CREDENTIAL}),
    "an operator's key": (((b"x-api-key", OPERATOR.encode()),), {Access.OPERATOR}),
}
SPELLINGS = {
    "a trailing slash": lambda path: path + "/",
    "a double slash in front": lambda path: "/" + path,
    "double slashes": lambda path: path.replace("/", "//"),
    "a dot segment": lambda path: "/." + path,
    "dot segments behind an open route": lambda path: "/healthz/.." + path,
    "dot segments behind the description": lambda path: "/docs/.." + path,
    "dot segments behind a tenant's route": lambda path: "/v1/.." + path,
    "encoded dot segments": lambda path: "/docs/%2e%2e" + path,
    "an encoded slash in front": lambda path: "/%2F" + path[1:],
    "an encoded letter": lambda path: (
        path[:1] + "".join(f"%{ord(each):02x}" for each in path[1:2]) + path[2:]
    ),
    "upper case": lambda path: path.upper(),
    "a line feed": lambda path: path + "%0A",
    "a zero byte": lambda path: path + "%00",
    "a matrix parameter": lambda path: path + ";x=/healthz",
    "an encoded question mark": lambda path: path + "%3F",
    "a backslash": lambda path: "/" + path[1:].replace("/", "%5C"),
    "the prefix twice": lambda path: "/fd" + path,
}


def under_mounts(app):
    return Starlette(routes=[Mount("/a", Starlette(routes=[Mount("/fd", app)]))])


def under_fastapi(app):
    outer = FastAPI()
    outer.mount("/fd", app)
    return outer


# name: the application around ours, what stands before the path, the server's own prefix
PREFIXES = {
    "plain": (lambda app: app, "", ""),
    "root_path": (lambda app: app, "", "/fd"),
    "a root_path with a slash": (lambda app: app, "", "/fd/"),
    "Mount": (lambda app: Starlette(routes=[Mount("/fd", app)]), "/fd", ""),
    "Mount in Mount": (under_mounts, "/a/fd", ""),
    "Mount under a root_path": (lambda app: Starlette(routes=[Mount("/fd", app)]), "/fd", "/x"),
    "mount of FastAPI": (under_fastapi, "/fd", ""),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    limits = {"wrong_keys_per_minute": 100_000}
    with RunningGateway(tmp_path_factory.mktemp("state"), limits=limits) as running:
        yield running


def walked(gateway, app, prefix, root_path, spell, *, caller):
    """Ask for every route; return (path, method, right that the route needs, answer)."""
    headers, _ = CALLERS[caller]

    async def walk():
        answers = []
        for path, method in ROUTES:
            spelled = prefix + spell(filled(path))
            answer = await ask(app, spelled, method=method, headers=headers, root_path=root_path)
            answers.append((path, method, match_path(path).rule.access, answer))
        return answers

    return gateway.call(walk)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_route_asks_for_its_right_under_every_prefix(gateway, prefix, caller):
    wrap, before, root_path = PREFIXES[prefix]
    app = wrap(create_app(gateway.gateway))
    rights = CALLERS[caller][1] | {Access.OPEN}
    for path, method, needed, answer in walked(
        gateway, app, before, root_path, lambda path: path, caller=caller
    ):
        if needed not in rights:
            assert (answer.status, answer.error) == (401, "unauthorized"), (method, path)
        elif needed is Access.OPEN:
            assert answer.status in TO_EVERYBODY.get(path, {200}), (method, path, answer)
        elif path in TEXT_OF_TENANTS:
            assert (answer.status, answer.error) == (403, "forbidden"), (method, path)
        elif path == OF_A_TENANT:
            # There is nothing to erase of one that has nothing.
            assert answer.status == 200, (method, path, answer)
        elif "{" in path:
            assert answer.status in (400, 404), (method, path, answer)
            assert answer.error in ("bad_request", "not_found"), (method, path)
        elif method == "GET":
            assert answer.status == 200, (method, path, answer)
        elif path == IMPORT:
            # Of its lines, not of its body, it says what is wrong.
            assert (answer.status, answer.error) == (422, "import_refused"), answer
        else:
            assert answer.status == 400, (method, path, answer)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("prefix", ["plain", "root_path", "Mount"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_a_path_opens_what_the_route_does_not(gateway, spelling, prefix, caller):
    wrap, before, root_path = PREFIXES[prefix]
    app = wrap(create_app(gateway.gateway))
    for path, method, needed, answer in walked(
        gateway, app, before, root_path, SPELLINGS[spelling], caller=caller
    ):
        assert answer.status < 500, (method, path)
        if needed not in CALLERS[caller][1] | {Access.OPEN}:
            assert answer.status in (401, 404), (method, path, answer)
            assert answer.error in ("unauthorized", "not_found")


@pytest.mark.parametrize("caller", CALLERS)
def test_what_depends_on_a_key_is_stored_by_no_cache_refusals_included(gateway, caller):
    app = create_app(gateway.gateway)
    for spell in (lambda path: path, *SPELLINGS.values()):
        for path, method, needed, answer in walked(gateway, app, "", "", spell, caller=caller):
            if needed is not Access.OPEN:
                stored = answer.headers[b"cache-control"]
                stream = answer.headers.get(b"content-type", b"").startswith(b"text/event-stream")
                assert stored == (b"no-cache" if stream else b"no-store"), (method, path, answer)


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v1/none", "GET"), ("/v1", "PUT"), ("/ops", "GET"), ("/none", "GET"), ("/v1/usage", "PUT"),
     ("/v1/sessions", "OPTIONS"), ("/v1/sessions?limit=0", "GET"), ("/v1/sessions", "POST")],
)  # fmt: skip
def test_no_cache_stores_a_refusal(acme, path, method):
    answer = acme.request(method, path)
    assert answer.status_code >= 400
    assert answer.headers.get_list("cache-control") == ["no-store"]


def test_a_refusal_for_too_many_requests_and_one_before_the_start_are_not_stored(tmp_path):
    with RunningGateway(tmp_path, limits={"requests_per_minute": 1}) as running:
        with running.client() as client:
            answers = [client.get("/v1/usage") for _ in range(2)]
        assert [each.status_code for each in answers] == [200, 429]
        assert [each.headers["cache-control"] for each in answers] == ["no-store"] * 2
        app = create_app(running.gateway)
    headers = CALLERS["a tenant's key"][0]

    async def before():
        return await ask(app, "/v1/usage", headers=headers)

    with RunningGateway(tmp_path) as other:
        answer = other.call(before)
    assert (answer.status, answer.headers[b"cache-control"]) == (503, b"no-store")


def test_an_event_stream_says_no_cache_and_its_refusal_no_store(gateway, acme, sid):
    acme.post("/v1/sessions", json={"model": "test", "blueprint": "parrot", "sessionId": sid})
    with acme.stream("GET", f"/v1/sessions/{sid}/events") as stream:
        assert stream.headers.get_list("cache-control") == ["no-cache"]
    assert acme.get("/v1/sessions/none/events").headers["cache-control"] == "no-store"


# -- where the middleware has granted nothing ----------------------------------------------------


def test_every_route_of_ours_is_one_that_asks():
    routes = [route for module in ROUTERS for route in module.router.routes]
    assert all(isinstance(route, GatewayRoute) for route in routes)
    assert all(route.rule.access is not Access.NONE for route in routes)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("caller", CALLERS)
def test_routes_without_the_middleware_answer_nobody(gateway, prefix, caller):
    wrap, before, root_path = PREFIXES[prefix]
    app = wrap(make_routes(gateway.gateway))
    for path, method, _, answer in walked(
        gateway, app, before, root_path, lambda path: path, caller=caller
    ):
        assert (answer.status, answer.error) == (401, "unauthorized"), (method, path)


@pytest.mark.parametrize("asked", ["/healthz", "/docs", "/v1/sessions"])
def test_a_path_that_is_changed_behind_the_middleware_opens_nothing(gateway, asked):
    routes = make_routes(gateway.gateway)

    async def changing(scope, receive, send):
        await routes({**scope, "path": "/ops/sessions"}, receive, send)

    app = GatewayMiddleware(changing, gateway=gateway.gateway, log=AccessLog(None))
    headers = CALLERS["a tenant's key"][0]

    async def request():
        return await ask(app, asked, headers=headers)

    assert gateway.call(request).status == 401


def test_routes_that_another_application_took_in_under_a_prefix_answer_nobody(gateway):
    outer = make_routes(gateway.gateway)
    for module in ROUTERS:
        outer.include_router(module.router, prefix="/healthz")
    app = GatewayMiddleware(outer, gateway=gateway.gateway, log=AccessLog(None))
    for caller in CALLERS:
        answers = walked(gateway, app, "/healthz", "", lambda path: path, caller=caller)
        assert {answer.status for *_, answer in answers} <= {401, 404}


# -- streams, sockets and the log under a prefix -------------------------------------------------


@pytest.mark.parametrize("prefix", ["root_path", "Mount", "Mount in Mount"])
def test_streams_and_sockets_take_their_key_from_the_query_under_a_prefix(
    gateway, acme, sid, prefix
):
    wrap, before, root_path = PREFIXES[prefix]
    app = wrap(create_app(gateway.gateway))
    acme.post("/v1/sessions", json={"model": "test", "blueprint": "parrot", "sessionId": sid})
    acme.delete(f"/v1/sessions/{sid}")

    async def asked(path, kind):
        return await ask(app, before + path, root_path=root_path, kind=kind)

    base = f"/v1/sessions/{sid}"
    assert gateway.call(asked, f"{base}/events?since=0&api_key={ACME}", "http").status == 200
    assert gateway.call(asked, f"{base}/events?since=0", "http").status == 401
    assert gateway.call(asked, f"{base}/stats?api_key={ACME}", "http").status == 401
    assert gateway.call(asked, f"{base}/ws?since=0&api_key={ACME}", "websocket").status == 101
    for path in (f"{base}/ws", "/ops/sessions", "/metrics"):
        refused = gateway.call(asked, path, "websocket")
        assert (refused.status, refused.error) == (401, "unauthorized")


@pytest.mark.parametrize("prefix", ["plain", "root_path", "Mount"])
def test_the_log_and_the_rate_limit_go_by_the_path_of_the_route(gateway, prefix):
    wrap, before, root_path = PREFIXES[prefix]
    lines = Lines()
    app = wrap(create_app(gateway.gateway, log=AccessLog(lines)))
    headers = CALLERS["a tenant's key"][0]

    async def asked(path):
        return await ask(app, before + path, headers=headers, root_path=root_path)

    assert gateway.call(asked, "/healthz").status == 200
    assert b"x-ratelimit-limit" in gateway.call(asked, "/v1/sessions/a/stats").headers
    assert [(line["path"], line["session_id"]) for line in lines.lines] == [
        ("/v1/sessions/a/stats", "a")
    ]
