"""Tenants: a foreign key meets nothing, on any route, with any verb."""

import itertools

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from frontdesk.gateway.app import ROUTERS
from gateway.requirements import covers
from gateway.running import ACME, UMBRELLA, create, events, turn_of

VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
BODIES = {
    "prompt": {"text": "x"},
    "steer": {"text": "x"},
    "approve": {"approvalId": "a"},
    "reject": {"approvalId": "a"},
    "respond": {"ref": "a", "response": "x"},
    "switch_model": {"model": "test"},
    "checkpoints": {"name": "here"},
    "tools": {
        "name": "t", "description": "d", "parameters": {}, "callbackUrl": "https://93.184.215.14/",
    },
}  # fmt: skip
CHANGES = {"date", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"}


def session_paths():
    """Every path of the application that names a session."""
    routes = [route for module in ROUTERS for route in module.router.routes]
    return sorted({route.path for route in routes if "{sessionId}" in route.path})


EVERYWHERE = list(itertools.product(VERBS, session_paths()))


def asked(client, method, path, session_id):
    """Return all that an answer tells: status, headers and body."""
    filled = path.replace("{sessionId}", session_id).replace("{name}", "t")
    body = BODIES.get(path.rpartition("/")[2])
    response = client.request(method, filled, json=body)
    headers = {name: value for name, value in response.headers.items() if name not in CHANGES}
    return response.status_code, headers, response.content


def test_the_paths_of_sessions_are_all_known():
    assert len(session_paths()) >= 15


@covers("tenants.foreign-is-absent", "tenants.other-key")
@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
def test_a_foreign_key_gets_byte_for_byte_what_a_session_that_never_was_gets(
    acme, umbrella, sid, method, path
):
    never = asked(umbrella, method, path, sid)
    create(acme, sid)
    foreign = asked(umbrella, method, path, sid)
    assert foreign == never
    assert acme.get(f"/v1/sessions/{sid}").json()["state"] == "idle"
    acme.delete(f"/v1/sessions/{sid}")
    after_its_end = asked(umbrella, method, path, sid)
    assert after_its_end == never


@covers("tenants.foreign-is-absent")
@pytest.mark.parametrize("query", ["", "&since=1", "&types=agent_end"])
def test_a_foreign_key_is_refused_by_the_websocket_as_if_there_were_no_session(
    gateway, acme, sid, query
):
    def refusal():
        url = f"{gateway.ws_url}/v1/sessions/{sid}/ws?api_key={UMBRELLA}{query}"
        with pytest.raises(InvalidStatus) as caught, connect(url):
            pass
        response = caught.value.response
        return response.status_code, response.body

    never = refusal()
    create(acme, sid)
    assert refusal() == never
    assert never[0] == 404


@covers("tenants.same-id")
def test_two_tenants_use_the_same_session_id_side_by_side(acme, umbrella, sid):
    create(acme, sid)
    create(umbrella, sid)
    assert turn_of(acme, sid, "for acme")[0][2]["text"] == "for acme"
    assert turn_of(umbrella, sid, "for umbrella")[0][2]["text"] == "for umbrella"
    for client, tenant in ((acme, "acme"), (umbrella, "umbrella")):
        assert client.get(f"/v1/sessions/{sid}").json()["tenantId"] == tenant
        with events(client, sid, since="0") as stream:
            assert next(stream)[2]["text"] == f"for {tenant}"
    acme.delete(f"/v1/sessions/{sid}")
    assert umbrella.get(f"/v1/sessions/{sid}").status_code == 200


@covers("tenants.listing")
def test_a_listing_shows_the_callers_tenant_only(acme, umbrella, sid):
    create(acme, sid)
    ids = [each["sessionId"] for each in umbrella.get("/v1/sessions?limit=1000").json()["sessions"]]
    assert sid not in ids
    assert all(each["tenantId"] == "acme" for each in acme.get("/v1/sessions").json()["sessions"])


@covers("tenants.names")
@pytest.mark.parametrize("name", ["%20", "a%00b", "x" * 129, "%2e%2e%2e%ff", "ä", "a%3fb", "a:b"])
def test_an_impossible_session_id_in_a_path_is_400(acme, name):
    response = acme.get(f"/v1/sessions/{name}")
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")


@pytest.mark.parametrize("name", ["a%2Fb", "acme%2Fa"])
def test_a_slash_in_a_session_id_is_another_path(acme, name):
    assert acme.get(f"/v1/sessions/{name}").status_code == 404


def test_a_key_of_the_same_tenant_may_use_the_session(gateway, acme, sid):
    create(acme, sid)
    with gateway.client(ACME) as same:
        assert same.get(f"/v1/sessions/{sid}").status_code == 200
