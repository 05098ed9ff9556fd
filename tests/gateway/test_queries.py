"""What a route does not know in a query is refused by name, on the real socket, on every route."""

import json
import urllib.parse

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from frontdesk.agents.events import EVENTS
from frontdesk.gateway.app import ROUTERS
from frontdesk.gateway.paths import PATHS, Access, match_path
from gateway.asgi import filled
from gateway.running import ACME, OPERATOR, RunningGateway, create, events, until

ROUTES = sorted(
    (method, route.path_format)
    for module in ROUTERS
    for route in module.router.routes
    for method in (*route.methods, *(["HEAD"] if "GET" in route.methods else []))
)
FILTERS = {"keyId", "blueprint", "model", "state", "node", "olderThan", "prefix"}
TAKES = {
    "/v1/feed": {*FILTERS, "since", "api_key"},
    "/ops/feed": {*FILTERS, "since", "api_key", "tenant"},
    "/ops/usage": {"limit", "after"},
    "/ops/sessions": {*FILTERS, "limit", "after", "sort", "tenant"},
    "/ops/sessions/{tenant}/{sessionId}/messages": {"limit", "after"},
    "/ops/sessions/{tenant}/{sessionId}/events": {"since", "types", "api_key", "envelope"},
    "/v1/sessions": {"limit", "after", "kept", "state", "blueprint", "label", "from", "to"},
    "/v1/sessions/{sessionId}": {"fence"},
    "/v1/usage": {"limit", "after", "by", "from", "to"},
    "/v1/sessions/{sessionId}/messages": {"limit", "after"},
    "/v1/sessions/{sessionId}/events": {"since", "types", "api_key", "envelope"},
    "/v1/sessions/{sessionId}/ws": {"since", "types", "api_key"},
}
ALSO_TAKES = {"/v1/sessions/import": {"sessionId", "label"}}
"""Of the other verbs."""
FIELDS = {
    "limit",
    "after",
    "since",
    "types",
    "api_key",
    "state",
    "sessionId",
    "text",
    "wait",
    "x",
    "envelope",
    "fence",
    "kept",
    "label",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway whose operators may ask for everything."""
    server = {"operators_read_text": True}
    with RunningGateway(tmp_path_factory.mktemp("state"), server=server) as running:
        yield running


@pytest.fixture(scope="module")
def asked(gateway):
    """Ask a route for something on the socket, as whoever it is there for."""
    with gateway.client() as acme, gateway.client(OPERATOR) as operator:
        create(acme, "queried")

        def ask(method, path, query):
            client = operator if match_path(path).rule.access is Access.OPERATOR else acme
            url = filled(path.replace("{tenant}", "acme"), "queried") + "?" + query
            return client.request(method, url)

        yield ask


def test_the_routes_of_this_test_are_all_that_the_list_of_paths_opens():
    found = {match_path(path).rule.pattern for _, path in ROUTES}
    opening = [rule for rule in PATHS if rule.access is not Access.CREDENTIAL or rule.needs]
    assert found == {rule.pattern for rule in opening if rule.access is not Access.NONE}


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda each: each)
def test_a_field_that_a_route_does_not_know_is_refused_by_name(asked, method, path):
    answer = asked(method, path, "sytemPrompt=a+secret&stat=")
    assert answer.status_code == 400, answer.text
    if method != "HEAD":
        refusal = answer.json()
        assert refusal["error"] == "bad_request"
        assert refusal["message"] == "sytemPrompt: unknown; stat: unknown"


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda each: each)
def test_what_another_route_takes_is_unknown_to_this_one(asked, method, path):
    takes = TAKES.get(path, set()) if method in ("GET", "HEAD") else ALSO_TAKES.get(path, set())
    unknown = FIELDS - takes
    for field in sorted(unknown):
        answer = asked(method, path, f"{field}=1")
        assert answer.status_code == 400, (field, answer.text)
        assert method == "HEAD" or answer.json()["message"] == f"{field}: unknown"


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        ("/v1/sessions", "limit=0&stat=idle&after=" + "a" * 600, ["limit", "after", "stat"]),
        ("/v1/sessions", "limit=x&a=1&b=2&c=3", ["limit", "a", "b", "c"]),
        ("/v1/sessions/{sessionId}/messages", "limit=1001&since=1", ["limit", "since"]),
        ("/v1/sessions/{sessionId}/events", "since=x&types=a,b&type=c",
         ["since", "types.0", "types.1", "type"]),
        ("/v1/sessions/{sessionId}/ws", "since=1-&envelop=1", ["since", "envelop"]),
        ("/v1/usage", "by=day&by=week&to=1&of=x", ["by.1", "to", "of"]),
    ],
)  # fmt: skip
def test_all_mistakes_of_a_query_are_told_at_once(asked, path, query, named):
    answer = asked("GET", path, query)
    assert answer.status_code == 400
    sentences = answer.json()["message"].split("; ")
    assert [sentence.partition(":")[0] for sentence in sentences] == named


@pytest.mark.parametrize("query", ["stat=1", "since=x", "types=nothing", "limit=1"])
def test_a_websockets_handshake_is_refused_for_its_query(asked, gateway, query):
    url = f"{gateway.ws_url}/v1/sessions/queried/ws?api_key={ACME}&{query}"
    with pytest.raises(InvalidStatus) as refused, connect(url, proxy=None):
        pass
    answer = refused.value.response
    assert (answer.status_code, json.loads(answer.body)["error"]) == (400, "bad_request")


def test_a_secret_in_the_query_of_a_route_that_takes_none_there_is_not_repeated(asked):
    answer = asked("GET", "/v1/usage", f"api_key={ACME}&token={ACME}")
    assert answer.json()["message"] == "api_key: unknown; token: unknown"


def test_whose_key_is_missing_is_told_that_first(gateway):
    with gateway.client(None) as nobody:
        for path in ("/v1/usage", "/v1/sessions/queried/events", "/ops/status"):
            assert nobody.get(f"{path}?stat=1").status_code == 401
        assert nobody.get("/nothing?stat=1").status_code == 404


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(ROUTES), st.text(min_size=1, max_size=30), st.text(max_size=10))
@example(("GET", "/healthz"), "\x00", "")
@example(("GET", "/v1/sessions"), "é", "é")
@example(("GET", "/v1/sessions"), "Limit", "5")
@example(("GET", "/v1/sessions/{sessionId}/events"), "since ", "1")
def test_whatever_an_unknown_field_is_called_it_is_refused(asked, route, name, value):
    method, path = route
    if name in TAKES.get(path, ()):
        return
    query = urllib.parse.urlencode({name: value}, errors="replace")
    answer = asked(method, path, query)
    assert answer.status_code == 400
    assert method == "HEAD" or answer.json()["message"].endswith("unknown")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/sessions", "limit=1&after="),
        ("/v1/sessions", "after=0"),
        ("/v1/sessions/{sessionId}/messages", "after=&limit=1000"),
        ("/v1/usage", ""),
        ("/v1/usage", "&&"),
        ("/healthz", ""),
    ],
)
def test_what_a_route_knows_is_taken(asked, path, query):
    assert asked("GET", path, query).status_code == 200


def test_types_are_a_list_with_commas_or_the_field_again(gateway, asked):
    with gateway.client() as acme:
        acme.post("/v1/sessions/queried/prompt", json={"text": "two words"})
        commas = {"types": "message_delta,agent_end"}
        again = {"types": ["message_delta", "agent_end"]}
        for query in (commas, again):
            with events(acme, "queried", since="0", **query) as stream:
                seen = {each[1] for each in until(stream, "agent_end")}
            assert seen == {"message_delta", "agent_end"}
        with events(acme, "queried", since="", types="") as stream:
            assert next(stream)[1] == "prompt_received"
    assert len({event.name for event in EVENTS}) == len(EVENTS)
