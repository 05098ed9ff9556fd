"""Session tokens: what opens one session for a while, and nothing beside it."""

import json
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from frontdesk.clock import SystemClock
from frontdesk.gateway.key_file import KeyFile
from frontdesk.gateway.keys import Key, digest_of
from frontdesk.gateway.scopes import KeyScope
from frontdesk.gateway.state_dir import StateDir
from gateway.requirements import covers
from gateway.running import ACME, KEYS, RunningGateway, create, events, turn_of, until
from support.waiting import eventually

READER = "reader-secret-0123456789abcdef"
MAKER = "maker-secret-0123456789abcdef"
SOME = frozenset({KeyScope.READ, KeyScope.CREATE})
ACTING = (
    *KEYS,
    Key("k-reader", "acme", "reader", digest_of(READER), scopes=frozenset({KeyScope.READ})),
    Key("k-maker", "acme", "maker", digest_of(MAKER), scopes=SOME),
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with RunningGateway(tmp_path_factory.mktemp("state"), keys=ACTING) as running:
        yield running


def made(client, session_id, *scopes, **fields):
    """Make a token and return it."""
    body = {"scopes": scopes or ["read", "prompt"], **fields}
    answer = client.post(f"/v1/sessions/{session_id}/tokens", json=body)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"token", "expiresAt"}
    return answer.json()["token"]


def shape(answer):
    """What of an answer somebody could tell two apart by."""
    headers = {name for name in answer.headers if name != "date"}
    return answer.status_code, answer.content, headers


@covers("tokens.opens", "tokens.url")
def test_a_token_streams_and_prompts_in_its_session_by_header_bearer_and_query(gateway, acme, sid):
    create(acme, sid)
    token = made(acme, sid)
    with gateway.client(token) as client:
        assert turn_of(client, sid, "hello")[-1][1] == "agent_end"
    with gateway.client(None) as client:
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.get(f"/v1/sessions/{sid}", headers=bearer).status_code == 200
        with events(client, sid, api_key=token, since="0") as stream:
            until(stream, "agent_end")
    with connect(f"{gateway.ws_url}/v1/sessions/{sid}/ws?api_key={token}", proxy=None) as socket:
        socket.send(json.dumps({"action": "prompt", "text": "a b"}))
        assert json.loads(socket.recv(20))["status"] == "accepted"


@covers("tokens.one-session")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/stats", None),
        ("GET", "/messages", None),
        ("GET", "/events", None),
        ("POST", "/prompt", {"text": "x"}),
        ("POST", "/prompt", {}),
        ("POST", "/approve", {"approvalId": "x"}),
        ("POST", "/tokens", {"scopes": ["read"]}),
        ("POST", "/tools", {}),
        ("DELETE", "/tools/x", None),
        ("DELETE", "", None),
    ],
)
def test_elsewhere_a_token_gets_byte_for_byte_what_an_unknown_session_gets(
    gateway, acme, sid, method, path, body
):
    other, never = f"o-{sid}", f"n-{sid}"
    create(acme, sid)
    create(acme, other)
    token = made(acme, sid, *KeyScope)
    with gateway.client(token) as client:
        there = client.request(method, f"/v1/sessions/{other}{path}", json=body)
        nothing = client.request(method, f"/v1/sessions/{never}{path}", json=body)
    assert there.status_code in (400, 404)
    assert there.content.replace(other.encode(), never.encode()) == nothing.content
    assert shape(there)[0::2] == shape(nothing)[0::2]
    assert acme.get(f"/v1/sessions/{other}").status_code == 200


def test_a_websocket_to_another_session_is_refused_as_to_an_unknown_one(gateway, acme, sid):
    create(acme, sid)
    create(acme, f"o-{sid}")
    token = made(acme, sid)
    for other in (f"o-{sid}", f"n-{sid}"):
        with pytest.raises(Exception, match="404"):
            connect(f"{gateway.ws_url}/v1/sessions/{other}/ws?api_key={token}", proxy=None)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/sessions"), ("POST", "/v1/sessions"), ("GET", "/v1/usage"),
     ("GET", "/v1/models"), ("GET", "/v1/blueprints")],
)  # fmt: skip
def test_what_is_of_no_session_is_closed_to_a_token_whatever_its_scopes(
    gateway, acme, sid, method, path
):
    create(acme, sid)
    with gateway.client(made(acme, sid, *KeyScope)) as client:
        refused = client.request(method, path, json={"model": "test"})
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
        assert client.get("/v1/none").status_code == 404
        assert client.get("/ops/status").status_code == 401
        assert client.get("/metrics").status_code == 401


@covers("tokens.scopes")
def test_a_token_has_never_more_scopes_than_the_key_that_makes_it(gateway, acme, sid):
    create(acme, sid)
    with gateway.client(MAKER) as maker:
        refused = maker.post(f"/v1/sessions/{sid}/tokens", json={"scopes": ["read", "prompt"]})
        assert (refused.status_code, refused.json()["scope"]) == (403, "prompt")
        token = made(maker, sid, "read")
    with gateway.client(token) as client:
        assert client.get(f"/v1/sessions/{sid}").status_code == 200
        refused = client.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
        assert (refused.status_code, refused.json()["scope"]) == (403, "prompt")
    with gateway.client(READER) as reader:
        refused = reader.post(f"/v1/sessions/{sid}/tokens", json={"scopes": ["read"]})
        assert (refused.status_code, refused.json()["scope"]) == (403, "create")


def test_a_token_that_a_token_makes_has_no_more_scopes_and_no_longer_life(gateway, acme, sid):
    create(acme, sid)
    first = acme.post(
        f"/v1/sessions/{sid}/tokens", json={"scopes": ["read", "create"], "ttlS": 60}
    ).json()
    with gateway.client(first["token"]) as client:
        second = client.post(
            f"/v1/sessions/{sid}/tokens", json={"scopes": ["read"], "ttlS": 3600}
        ).json()
        assert second["expiresAt"] == first["expiresAt"]
        refused = client.post(f"/v1/sessions/{sid}/tokens", json={"scopes": ["delete"]})
        assert refused.json()["scope"] == "delete"


@covers("tokens.bounded")
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["all"]}, "scopes"),
        ({"scopes": "read"}, "scopes"),
        ({"scopes": ["read"], "ttlS": 0}, "ttlS"),
        ({"scopes": ["read"], "ttlS": 3601}, "ttlS"),
        ({"scopes": ["read"], "ttlS": "60"}, "ttlS"),
        ({"scopes": ["read"], "ttl": 60}, "ttl"),
    ],
)
def test_what_cannot_be_a_token_is_refused_with_its_field(gateway, acme, sid, body, named):
    create(acme, sid)
    refused = acme.post(f"/v1/sessions/{sid}/tokens", json=body)
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
    assert named in refused.json()["message"]


def test_there_is_no_token_for_a_session_that_there_is_not(gateway, acme, umbrella, sid):
    create(umbrella, sid)
    foreign = acme.post(f"/v1/sessions/{sid}/tokens", json={"scopes": ["read"]})
    assert (foreign.status_code, foreign.json()["error"]) == (404, "not_found")


def changed(token):
    """Yield the token with each of its characters changed, one at a time, and cut or extended."""
    for index, letter in enumerate(token):
        yield token[:index] + ("A" if letter != "A" else "B") + token[index + 1 :]
    yield from (token[:-1], token + "A", token + ".", token.replace(".", ""), "fds_", "fds_.")


def test_a_token_that_was_changed_anywhere_opens_nothing(gateway, acme, sid):
    create(acme, sid)
    token = made(acme, sid)
    tokens, now_ms = gateway.gateway.tokens, gateway.gateway.clock.wall_ms()
    true = tokens.caller_of(token, now_ms=now_ms)
    assert true.key_id == "k-acme"
    # The last character carries bits that are no part of the content: the same token, then.
    others = {tokens.caller_of(each, now_ms=now_ms) for each in changed(token)}
    assert others <= {None, true}
    with gateway.client(token[:-3] + "AAA") as client:
        assert client.get(f"/v1/sessions/{sid}").status_code == 401


def test_a_token_of_another_gateway_opens_nothing(gateway, acme, sid, tmp_path):
    create(acme, sid)
    with RunningGateway(tmp_path) as other, other.client() as theirs:
        create(theirs, sid)
        token = made(theirs, sid)
    with gateway.client(token) as client:
        assert client.get(f"/v1/sessions/{sid}").status_code == 401


# -- its end -------------------------------------------------------------------------------------


@covers("tokens.ends-with-session")
def test_a_token_ends_with_its_session_also_where_another_takes_the_id(gateway, acme, sid):
    create(acme, sid)
    token = made(acme, sid, *KeyScope)
    acme.delete(f"/v1/sessions/{sid}")
    with gateway.client(token) as client:
        dead = client.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
        assert (dead.status_code, dead.json()["error"]) == (404, "session_dead")
        create(acme, sid)
        never = client.get("/v1/sessions/never")
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", ""), ("GET", "/status")):
            gone = client.request(method, f"/v1/sessions/{sid}{path}")
            assert gone.status_code == 404
            assert gone.content == never.content.replace(b"never", sid.encode())
    assert acme.get(f"/v1/sessions/{sid}").status_code == 200


def test_what_an_ended_session_has_left_is_read_with_its_token(gateway, acme, sid):
    create(acme, sid)
    token = made(acme, sid)
    with gateway.client(token) as client, events(client, sid, since="0") as stream:
        acme.delete(f"/v1/sessions/{sid}")
        last = until(stream, "session_end")[-1][0]
        resumed = client.get(f"/v1/sessions/{sid}/events", headers={"Last-Event-ID": last})
        assert resumed.status_code == 204


@covers("tokens.ends-with-time")
def test_a_token_ends_with_its_time_open_streams_and_sockets_included(tmp_path, clock):
    with RunningGateway(tmp_path, clock=clock) as gateway, gateway.client() as acme:
        create(acme, "s")
        answer = acme.post("/v1/sessions/s/tokens", json={"scopes": ["read"], "ttlS": 60}).json()
        assert answer["expiresAt"] == clock.wall_ms() + 60_000
        token = answer["token"]
        url = f"{gateway.ws_url}/v1/sessions/s/ws?api_key={token}"
        with (
            gateway.client(token) as client,
            events(client, "s") as stream,
            connect(url, proxy=None) as socket,
        ):
            clock.advance(59)
            assert client.get("/v1/sessions/s").status_code == 200
            clock.advance(1)
            assert client.get("/v1/sessions/s").status_code == 401
            assert list(stream) == []
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd.code == 1008
        assert acme.get("/v1/sessions/s").status_code == 200


@covers("tokens.ends-with-key")
def test_a_token_ends_with_its_key_within_a_second_open_streams_included(tmp_path):
    with KeyFile(StateDir.make(tmp_path), clock=SystemClock()) as file:
        new = file.create(tenant_id="acme", name="ci")
        with RunningGateway(tmp_path) as gateway, gateway.client(new.secret) as maker:
            create(maker, "s")
            with gateway.client(made(maker, "s")) as client, events(client, "s") as stream:
                file.revoke(new.key.key_id)
                assert list(stream) == []
                eventually(lambda: client.get("/v1/sessions/s").status_code == 401, within_s=5)


def test_a_token_ends_with_the_expiry_of_its_key(tmp_path, clock):
    key = Key("k-short", "acme", "short", digest_of(ACME), 0, clock.wall_ms() + 30_000)
    with RunningGateway(tmp_path, keys=(key,), clock=clock) as gateway, gateway.client() as acme:
        create(acme, "s")
        body = {"scopes": ["read"], "ttlS": 60}
        answer = acme.post("/v1/sessions/s/tokens", json=body).json()
        assert answer["expiresAt"] == key.expires_at
        clock.advance(31)
        with gateway.client(answer["token"]) as client:
            assert client.get("/v1/sessions/s").status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"digest": digest_of("another-secret-0123456789")},
        {"tenant_id": "umbrella"},
        {"scopes": frozenset({KeyScope.PROMPT})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_token_ends_when_its_key_gets_another_secret_tenant_or_less_to_do(tmp_path, change):
    with RunningGateway(tmp_path) as gateway, gateway.client() as acme:
        create(acme, "s")
        with gateway.client(made(acme, "s")) as client, events(client, "s") as stream:
            keys = (replace(KEYS[0], **change), *KEYS[1:])
            gateway.call(lambda: gateway.gateway.reload(gateway.config, keys=keys))
            assert list(stream) == []
            assert client.get("/v1/sessions/s").status_code == 401


# -- what counts ---------------------------------------------------------------------------------


@covers("tokens.acting-key")
def test_what_a_token_asks_for_counts_for_the_key_that_made_it(gateway, acme, sid):
    create(acme, sid)
    token = made(acme, sid)
    before = gateway.gateway.meter.of_key("acme", "k-acme").prompts
    with gateway.client(token) as client:
        turn_of(client, sid, "hello")
    assert gateway.gateway.meter.of_key("acme", "k-acme").prompts == before + 1
    lines = eventually(
        lambda: [each for each in gateway.log.lines if each.get("session_id") == sid]
    )
    assert {line["key_id"] for line in lines if "key_id" in line} == {"k-acme"}
    assert token not in str(gateway.log.lines)


def test_tokens_share_the_limits_of_the_key_that_made_them(tmp_path):
    limits = {"streams_per_key": 2, "requests_per_minute": 8}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as acme:
        create(acme, "s")
        first, second = made(acme, "s"), made(acme, "s", ttlS=60)
        with gateway.client(first) as one, gateway.client(second) as two:
            with events(one, "s"), events(two, "s"):
                assert acme.get("/v1/sessions/s/events").status_code == 429
            left = [each.get("/v1/sessions/s").headers["x-ratelimit-remaining"]
                    for each in (one, two)]  # fmt: skip
        assert left == ["1", "0"]


def test_a_token_is_in_no_repr(gateway, acme, sid):
    create(acme, sid)
    token = made(acme, sid)
    caller = gateway.gateway.tokens.caller_of(token, now_ms=gateway.gateway.clock.wall_ms())
    assert caller.digest.hex() not in repr(caller)
    assert repr(caller.digest) not in repr(caller)
