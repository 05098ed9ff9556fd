"""Bearer tokens of an identity provider: a real signer, a real server of keys, and wrong ones."""

import base64
import hashlib
import hmac
import json
import socket
import sys
import threading
import time

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.sync.client import connect

import frontdesk.gateway
from frontdesk.gateway import identity_provider
from frontdesk.gateway.auth_settings import JwtSettings
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.signing_keys import signing_keys_of
from frontdesk.testing import ManualClock
from gateway.command import CONFIG, serving
from gateway.command import frontdesk as command
from gateway.identity import AUDIENCE, ISSUER, MAKES, Signer, provider
from gateway.requirements import covers
from gateway.running import RunningGateway, create, events, turn_of
from support.waiting import eventually

SIGNER = Signer()


def auth(server=None, **more):
    where = {} if server is None else {"keys_url": server.url}
    return {"jwt": {"issuer": ISSUER, "audience": AUDIENCE, **where, **more}}


@pytest.fixture(scope="module")
def keys():
    with provider(SIGNER) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, keys):
    limits = {"wrong_keys_per_minute": 100_000}
    place = tmp_path_factory.mktemp("state")
    with RunningGateway(place, auth=auth(keys), limits=limits) as running:
        eventually(lambda: running.gateway._provider.keys_for("k1", "ES256"))
        yield running


def clock_of_now():
    """A clock that shows what the signers' does, and stands."""
    clock = ManualClock()
    clock.advance(time.time() - clock.wall_ms() / 1000)
    return clock


def bearing(gateway, token):
    client = gateway.client(None)
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def status(gateway, token, path="/v1/sessions"):
    with bearing(gateway, token) as client:
        return client.get(path).status_code


# -- a caller like a key -------------------------------------------------------------------------


@covers("jwt.caller", "jwt.counts")
def test_a_bearer_token_opens_its_tenants_sessions_and_its_subject_is_what_counts(
    gateway, acme, sid
):
    create(acme, sid)
    with bearing(gateway, SIGNER.token(sub="carol")) as client:
        assert turn_of(client, sid, "hello there")[-1][1] == "agent_end"
        key = client.get("/v1/usage").json()["key"]
        assert (key["keyId"], key["prompts"]) == ("jwt:acme/carol", 1)
        opened = create(client, f"j-{sid}")
        assert opened["tenantId"] == "acme"
    assert acme.get(f"/v1/sessions/j-{sid}").status_code == 200
    lines = eventually(
        lambda: [each for each in gateway.log.lines if each.get("session_id") == sid]
    )
    assert "jwt:acme/carol" in {line["key_id"] for line in lines if "key_id" in line}


def test_a_token_of_another_tenant_sees_what_an_unknown_session_is(gateway, acme, sid):
    create(acme, sid)
    with bearing(gateway, SIGNER.token(tenant="umbrella")) as client:
        there, never = client.get(f"/v1/sessions/{sid}"), client.get("/v1/sessions/never")
    assert (there.status_code, never.status_code) == (404, 404)
    assert there.content.replace(sid.encode(), b"never") == never.content


@covers("jwt.scopes")
@pytest.mark.parametrize(
    ("claim", "opens"),
    [
        ({"scope": "read"}, True),
        ({"scope": "openid  read\tprompt"}, True),
        ({"scope": ["read"]}, True),
        ({"scope": "prompt"}, False),
        ({"scope": "READ reading"}, False),
        ({"scope": ""}, False),
        ({"scope": []}, False),
        ({"scope": {"read": True}}, False),
        ({"scope": [["read"], 1, None]}, False),
        ({"without": ("scope",)}, False),
    ],
)
def test_a_token_has_those_of_its_scopes_that_are_ours_and_none_by_default(gateway, claim, opens):
    assert status(gateway, SIGNER.token(**claim)) == (200 if opens else 403)


def test_a_token_opens_nothing_of_the_operators(gateway):
    token = SIGNER.token(scope="read operator", operator=True)
    assert status(gateway, token, "/ops/status") == 401
    assert status(gateway, token, "/metrics") == 401


@covers("jwt.header-only")
def test_a_token_counts_in_the_authorization_header_and_nowhere_else(gateway, acme, sid):
    create(acme, sid)
    token = SIGNER.token()
    with gateway.client(token) as client:
        assert client.get("/v1/sessions").status_code == 401
        assert client.get(f"/v1/sessions/{sid}/events?api_key={token}").status_code == 401
    with pytest.raises(Exception, match="401"):
        connect(f"{gateway.ws_url}/v1/sessions/{sid}/ws?api_key={token}", proxy=None)
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{gateway.ws_url}/v1/sessions/{sid}/ws"
    with connect(url, proxy=None, additional_headers=headers) as socket_:
        socket_.send(json.dumps({"action": "prompt", "text": "a"}))
        assert json.loads(socket_.recv(20))["status"] == "accepted"


def test_two_tenants_subjects_of_one_name_share_no_limit_and_no_answer(tmp_path, keys):
    with RunningGateway(tmp_path, auth=auth(keys), limits={"requests_per_minute": 3}) as gateway:
        eventually(lambda: gateway.gateway._provider.keys_for("k1", "ES256"))
        again = {"Idempotency-Key": "the same"}
        body = {"model": "test", "blueprint": "parrot", "sessionId": "s"}
        for tenant in ("acme", "umbrella"):
            with bearing(gateway, SIGNER.token(tenant=tenant)) as client:
                made = client.post("/v1/sessions", json=body, headers=again)
                assert (made.status_code, made.json()["tenantId"]) == (201, tenant)
                assert made.headers["x-ratelimit-remaining"] == "2"


@covers("tokens.ends-with-key")
def test_a_session_token_that_it_makes_ends_with_it_at_the_latest(gateway, acme, sid):
    create(acme, sid)
    ends = int(time.time()) + 60
    with bearing(gateway, SIGNER.token(exp=ends, scope="read create")) as client:
        path = f"/v1/sessions/{sid}/tokens"
        made = client.post(path, json={"scopes": ["read"], "ttlS": 3600}).json()
        assert made["expiresAt"] == ends * 1000
        assert client.post(path, json={"scopes": ["prompt"]}).json()["scope"] == "prompt"
    with gateway.client(made["token"]) as browser:
        assert browser.get(f"/v1/sessions/{sid}").status_code == 200
        assert browser.get(f"/v1/sessions/{sid}/tokens").status_code == 405


@covers("jwt.expiry")
def test_a_stream_ends_with_its_tokens_time(tmp_path, keys):
    clock = ManualClock()
    with RunningGateway(tmp_path, auth=auth(keys), clock=clock) as gateway:
        eventually(lambda: gateway.gateway._provider.keys_for("k1", "ES256"))
        now = clock.wall_ms() // 1000
        with bearing(gateway, SIGNER.token(iat=now, exp=now + 60)) as client:
            create(client, "s")
            with events(client, "s") as stream:
                clock.advance(59)
                assert client.get("/v1/sessions/s").status_code == 200
                clock.advance(1)
                assert list(stream) == []
            assert client.get("/v1/sessions/s").status_code == 401


@pytest.mark.parametrize("algorithm", MAKES)
def test_each_algorithm_of_the_list_is_verified(tmp_path, algorithm):
    signer = Signer(algorithm=algorithm)
    with provider(signer) as server, RunningGateway(tmp_path, auth=auth(server)) as gateway:
        assert status(gateway, signer.token()) == 200


def test_claims_are_found_by_name_and_by_path_and_scopes_behind_a_prefix(tmp_path, keys):
    settings = auth(
        keys,
        tenant_claim="https://example.com/tenant",
        subject_claim="user.name",
        scopes_claim="resource.roles",
        scopes_prefix="frontdesk:",
    )
    claims = {"https://example.com/tenant": "umbrella", "user": {"name": "dave"}}
    with RunningGateway(tmp_path, auth=settings) as gateway:
        roles = {"roles": ["frontdesk:read", "prompt"]}
        with bearing(gateway, SIGNER.token(**claims, resource=roles, without=("sub",))) as client:
            assert client.get("/v1/usage").json()["key"]["keyId"] == "jwt:umbrella/dave"
            refused = client.post("/v1/sessions/s/prompt", json={"text": "x"})
            assert (refused.status_code, refused.json()["scope"]) == (403, "prompt")
        assert status(gateway, SIGNER.token(**claims, resource={"roles": "read"})) == 403
        assert status(gateway, SIGNER.token(**{**claims, "user": "dave"})) == 401


# -- wrong everything ----------------------------------------------------------------------------


def unsigned(**head):
    """A token that says of itself how it is signed, and is not."""
    parts = [head, {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "tenant": "acme", "scope": "read",
                    "exp": int(time.time()) + 60}]  # fmt: skip
    texts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in parts]
    return b".".join(texts)


def hmac_with_the_public_key():
    public = SIGNER.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    said = unsigned(alg="HS256", kid="k1", typ="JWT")
    signed = base64.urlsafe_b64encode(hmac.digest(public, said, hashlib.sha256)).rstrip(b"=")
    return (said + b"." + signed).decode()


def reparted(token, **changes):
    """The token with other claims under the old signature."""
    head, said, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(said + "==")) | changes
    said = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return ".".join((head, said, signature))


NOW = int(time.time())
WRONG = {
    "expired": lambda: SIGNER.token(exp=NOW - 1),
    "at the end of time": lambda: SIGNER.token(exp=float("inf")),
    "an expiry that is text": lambda: SIGNER.token(exp=str(NOW + 600)),
    "an expiry that is true": lambda: SIGNER.token(exp=True),
    "an expiry that is huge": lambda: SIGNER.token(exp=10**400),
    "without an expiry": lambda: SIGNER.token(without=("exp",)),
    "not yet": lambda: SIGNER.token(nbf=NOW + 3600),
    "issued in the future": lambda: SIGNER.token(iat=NOW + 3600),
    "issued at no time": lambda: SIGNER.token(iat="then"),
    "another issuer": lambda: SIGNER.token(iss="https://evil.example.com/"),
    "an issuer that begins alike": lambda: SIGNER.token(iss=ISSUER + "x"),
    "without an issuer": lambda: SIGNER.token(without=("iss",)),
    "another audience": lambda: SIGNER.token(aud="another"),
    "other audiences": lambda: SIGNER.token(aud=["a", "b"]),
    "without an audience": lambda: SIGNER.token(without=("aud",)),
    "no tenant": lambda: SIGNER.token(without=("tenant",)),
    "a tenant that is none": lambda: SIGNER.token(tenant="Acme/x"),
    "a tenant that is a list": lambda: SIGNER.token(tenant=["acme"]),
    "a tenant with a line feed": lambda: SIGNER.token(tenant="acme\n"),
    "no subject": lambda: SIGNER.token(without=("sub",)),
    "an empty subject": lambda: SIGNER.token(sub=""),
    "a long subject": lambda: SIGNER.token(sub="x" * 201),
    "a subject with a line feed": lambda: SIGNER.token(sub="a\nb"),
    "a subject that is a number": lambda: reparted(SIGNER.token(), sub=7),
    "another key of that name": lambda: Signer().token(),
    "a key of no such name": lambda: Signer("k9").token(),
    "a name that is a path": lambda: SIGNER.token(head={"kid": "../../etc/passwd"}),
    "another algorithm's key": lambda: Signer(algorithm="EdDSA").token(),
    "changed claims": lambda: reparted(SIGNER.token(tenant="umbrella"), tenant="acme"),
    "a critical extension": lambda: SIGNER.token(head={"crit": ["exp"]}),
    "an unsigned payload": lambda: SIGNER.token(head={"b64": True, "crit": ["b64"]}),
    "no signature": lambda: (unsigned(alg="none", kid="k1") + b".").decode(),
    "none, with a signature": lambda: (unsigned(alg="none", kid="k1") + b".AAAA").decode(),
    "None in capitals": lambda: (unsigned(alg="NONE", kid="k1") + b".AAAA").decode(),
    "no algorithm": lambda: (unsigned(kid="k1") + b".AAAA").decode(),
    "an algorithm that is a list": lambda: (unsigned(alg=["ES256"]) + b".AAAA").decode(),
    "a name that is a list": lambda: (unsigned(alg="ES256", kid=["k1"]) + b".AAAA").decode(),
    "HMAC with the public key": hmac_with_the_public_key,
    "a key of its own in the head": lambda: Signer().token(head={"jwk": SIGNER.jwk()}),
    "four parts": lambda: SIGNER.token() + ".AAAA",
    "two parts": lambda: SIGNER.token().rpartition(".")[0],
    "an empty head": lambda: "e30." + SIGNER.token().partition(".")[2],
    "a head that is no JSON": lambda: "AAAA." + SIGNER.token().partition(".")[2],
    "a head of brackets": lambda: (
        base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode() + ".AAAA.AAAA"
    ),
    "too long": lambda: SIGNER.token(more="x" * 8192),
}


@covers("jwt.wrong")
@pytest.mark.parametrize("wrong", WRONG)
def test_a_token_that_is_wrong_in_any_way_opens_nothing(gateway, wrong):
    with bearing(gateway, WRONG[wrong]()) as client:
        refused = client.get("/v1/sessions")
    assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")
    assert set(refused.json()) == {"error", "message"}


def test_wrong_tokens_count_as_wrong_keys(tmp_path, keys):
    limits = {"wrong_keys_per_minute": 3}
    with RunningGateway(tmp_path, auth=auth(keys), limits=limits) as gateway:
        assert status(gateway, SIGNER.token()) == 200
        for _ in range(3):
            assert status(gateway, Signer().token()) == 401
        assert status(gateway, Signer("k7").token()) == 429
        assert status(gateway, SIGNER.token()) == 200, "whoever was here before goes on"


def test_without_a_provider_no_token_is_looked_at(tmp_path):
    with RunningGateway(tmp_path) as gateway:
        assert status(gateway, SIGNER.token()) == 401


# -- the provider's keys -------------------------------------------------------------------------


@covers("jwt.rotation")
def test_a_new_key_counts_at_once_and_one_that_is_gone_counts_no_more(tmp_path):
    clock = clock_of_now()
    old, new = Signer("old"), Signer("new")
    with (
        provider(old) as server,
        RunningGateway(tmp_path, auth=auth(server), clock=clock) as gateway,
    ):
        assert status(gateway, old.token()) == 200
        clock.advance(identity_provider.PAUSE_S)
        server.publish(new)
        with bearing(gateway, old.token()) as client:
            create(client, "s")
            with events(client, "s") as stream:
                assert status(gateway, new.token()) == 200
                assert list(stream) == []
        assert status(gateway, old.token()) == 401


@covers("jwt.flood")
def test_a_flood_of_unknown_keys_is_no_flood_of_fetches(tmp_path):
    limits = {"wrong_keys_per_minute": 100_000}
    clock = clock_of_now()
    with (
        provider(SIGNER) as server,
        RunningGateway(tmp_path, auth=auth(server), limits=limits, clock=clock) as gateway,
    ):
        token = SIGNER.token()  # of now, as the gateway's clock is: it stands still
        assert status(gateway, token) == 200
        for number in range(50):
            assert status(gateway, Signer(f"k{number + 2}").token()) == 401
        assert status(gateway, token) == 200
        assert server.asked == 1
        clock.advance(identity_provider.PAUSE_S)
        for number in range(10):
            assert status(gateway, Signer(f"k{number + 52}").token()) == 401
        assert server.asked == 2


@covers("jwt.never-delays")
def test_a_slow_provider_keeps_nobody_waiting_but_those_whose_key_it_has(tmp_path):
    clock = clock_of_now()
    new = Signer("new")
    with (
        provider(SIGNER) as server,
        RunningGateway(tmp_path, auth=auth(server), clock=clock) as gateway,
    ):
        assert status(gateway, SIGNER.token()) == 200
        clock.advance(identity_provider.PAUSE_S)
        server.publish(SIGNER, new)
        server.may_answer.clear()
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(status(gateway, new.token())))
            for _ in range(3)
        ]
        for each in threads:
            each.start()
        eventually(lambda: server.asked == 2)
        with gateway.client() as client:
            for _ in range(3):
                assert client.get("/v1/sessions").status_code == 200
        assert status(gateway, SIGNER.token()) == 200
        assert answers == []
        server.may_answer.set()
        for each in threads:
            each.join(20)
        assert (answers, server.asked) == ([200] * 3, 2)


@covers("jwt.down")
def test_without_a_provider_to_ask_a_token_is_503_and_keys_of_ours_go_on(tmp_path, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/keys"
        with RunningGateway(tmp_path, auth=auth(keys_url=url)) as gateway:
            with bearing(gateway, SIGNER.token()) as client:
                refused = client.get("/v1/sessions")
            assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) > 0
            with gateway.client() as acme:
                assert acme.get("/v1/sessions").status_code == 200
            assert status(gateway, "not-a-token") == 401
    assert any("cannot be had" in each.getMessage() for each in caplog.records)


NO_KEYS = {
    "an error": (500, b"{}"),
    "a page": (200, b"<html>"),
    "no set": (200, b"{}"),
    "too much": (200, b" " * 300_000),
    "too many keys": (200, json.dumps({"keys": [{}] * 101}).encode()),
    "deep lists": (200, b"[" * 100_000),
}


@covers("jwt.down")
@pytest.mark.parametrize("what", [*NO_KEYS, "elsewhere"])
def test_what_was_fetched_last_stays_in_force_where_there_is_no_answer_or_a_wrong_one(
    tmp_path, what
):
    clock = clock_of_now()
    with (
        provider(SIGNER) as server,
        provider(Signer("k2")) as elsewhere,
        RunningGateway(tmp_path, auth=auth(server), clock=clock) as gateway,
    ):
        assert status(gateway, SIGNER.token()) == 200
        server.status, server.content = NO_KEYS.get(what, (302, b""))
        server.location = elsewhere.url if what == "elsewhere" else None
        clock.advance(identity_provider.PAUSE_S)
        assert status(gateway, Signer("k2").token()) == 503
        assert server.asked == 2
        assert status(gateway, SIGNER.token()) == 200
        assert elsewhere.asked == 0


def test_a_reload_fetches_the_keys_again(tmp_path):
    clock, new = clock_of_now(), Signer("new")
    with (
        provider(SIGNER) as server,
        RunningGateway(tmp_path, auth=auth(server), clock=clock) as gateway,
    ):
        assert status(gateway, SIGNER.token()) == 200
        server.publish(new)
        assert status(gateway, new.token()) == 401, "not again for a while"
        running = gateway.gateway
        gateway.call(lambda: running.reload(running.config, keys=running._keys))
        eventually(lambda: status(gateway, new.token()) == 200)
        assert status(gateway, SIGNER.token()) == 401


def test_a_set_without_keys_takes_them_all_back(tmp_path):
    clock = clock_of_now()
    with (
        provider(SIGNER) as server,
        RunningGateway(tmp_path, auth=auth(server), clock=clock) as gateway,
    ):
        assert status(gateway, SIGNER.token()) == 200
        server.publish()
        clock.advance(identity_provider.PAUSE_S)
        assert status(gateway, Signer("k2").token()) == 401
        assert status(gateway, SIGNER.token()) == 401


@covers("jwt.file")
@pytest.mark.parametrize("form", ["set", "pem"])
def test_keys_come_from_a_file_which_a_reload_reads_again(tmp_path, form):
    file = tmp_path / "keys"

    def write(signer):
        if form == "set":
            file.write_text(json.dumps({"keys": [signer.jwk()]}))
        else:
            public = signer.private.public_key()
            file.write_bytes(public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ))  # fmt: skip

    old, new = Signer("old"), Signer("new")
    write(old)
    with RunningGateway(tmp_path / "state", auth=auth(keys_file=file)) as gateway:
        running = gateway.gateway
        assert status(gateway, old.token()) == 200
        assert status(gateway, new.token()) == 401
        write(new)
        gateway.call(lambda: running.reload(running.config, keys=running._keys))
        assert status(gateway, old.token()) == 401
        assert status(gateway, new.token()) == 200
        file.write_text("nonsense")
        with pytest.raises(ConfigurationWrong, match="keys_file"):
            gateway.call(lambda: running.reload(running.config, keys=running._keys))
        assert status(gateway, new.token()) == 200


def test_a_file_without_keys_stops_the_start(tmp_path):
    for file in (tmp_path / "none", tmp_path):
        with (
            pytest.raises(ConfigurationWrong, match=r"auth\.jwt\.keys_file"),
            RunningGateway(tmp_path / "state", auth=auth(keys_file=file)),
        ):
            pass


def test_only_public_keys_for_signatures_are_taken():
    signer, weak = Signer(), rsa.generate_private_key(65537, 1024)
    short = Signer(algorithm="RS256")
    short.private = weak
    jwks = [
        signer.jwk(use="enc"), signer.jwk(key_ops=["sign"]), signer.jwk(key_ops=7),
        signer.jwk(alg="HS256"), signer.jwk(alg="none"), signer.jwk(d="AAAA"), signer.jwk(crv="x"),
        signer.jwk(x=7), signer.jwk(kty="oct"), signer.jwk(alg={}), signer.jwk(crv=[]),
        signer.jwk(alg=None), signer.jwk(x=None), signer.jwk(use={}), signer.jwk(kty=[]),
        {"kty": "oct", "k": "AAAA", "kid": "k1"},
        short.jwk(), {}, 7, None, [],
    ]  # fmt: skip
    assert signing_keys_of(json.dumps({"keys": jwks}).encode()) == ()
    taken = signing_keys_of(json.dumps({"keys": [*jwks, signer.jwk(kid=7)]}).encode())
    assert [(each.key_id, each.algorithms) for each in taken] == [(None, {"ES256"})]


# -- the settings --------------------------------------------------------------------------------


@covers("jwt.settings")
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "keys_url or keys_file"),
        ({"keys_url": "https://a/b", "keys_file": "keys"}, "keys_url or keys_file"),
        ({"keys_url": "http://login.example.com/keys"}, "must be https"),
        ({"keys_url": "ftp://login.example.com/keys"}, "keys_url"),
        ({"keys_file": "keys", "algorithms": ["none"]}, "algorithms"),
        ({"keys_file": "keys", "algorithms": ["HS256"]}, "algorithms"),
        ({"keys_file": "keys", "algorithms": []}, "algorithms"),
        ({"keys_file": "keys", "issuer": ""}, "issuer"),
        ({"keys_file": "keys", "audience": ""}, "audience"),
    ],
)
def test_settings_that_would_let_in_too_many_are_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        JwtSettings(**{"issuer": ISSUER, "audience": AUDIENCE, **settings})


def test_without_its_extra_the_settings_say_which_one_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)
    for name in ("signing_keys", "identity_provider", "bearer_tokens"):
        monkeypatch.delitem(sys.modules, f"frontdesk.gateway.{name}", raising=False)
        monkeypatch.delattr(frontdesk.gateway, name, raising=False)
    with pytest.raises(ValueError, match=r"pip install 'frontdesk\[jwt\]'"):
        JwtSettings(issuer=ISSUER, audience=AUDIENCE, keys_file="keys")


CONFIGURATION = f"""
[auth.jwt]
issuer = "{ISSUER}"
audence = "{AUDIENCE}"
keys_file = "keys.json"
"""


def test_mistakes_of_the_table_are_said_with_their_lines(tmp_path):
    run = configured(tmp_path, CONFIGURATION)
    assert run.returncode == 2
    assert "line 4: auth.jwt.audence: there is no such setting; is audience meant?" in run.stderr
    assert "auth.jwt.audience: is missing" in run.stderr
    run = configured(tmp_path, CONFIGURATION.replace("audence", "audience"))
    assert "line 5: auth.jwt.keys_file: No such file or directory" in run.stderr


@pytest.mark.slow
def test_the_command_lets_tokens_in_and_prints_the_signing_secret_of_a_subject(tmp_path, keys):
    config = CONFIGURATION.replace("audence", "audience").replace(
        'keys_file = "keys.json"', f'keys_url = "{keys.url}"'
    )
    with serving(tmp_path, config=CONFIG + config) as server:
        with httpx.Client(trust_env=False, timeout=20) as client:
            headers = {"Authorization": f"Bearer {SIGNER.token()}"}
            answer = client.get(f"{server.url}/v1/sessions", headers=headers)
        assert answer.status_code == 200
        assert server.terminate() == 0
    where = ("--state-dir", str(tmp_path / "state"), "--config", str(tmp_path / "frontdesk.toml"))
    told = command(tmp_path, "keys", "signing", "jwt:acme/alice", *where)
    assert len(told.stdout.strip()) == 64
    assert command(tmp_path, "keys", "signing", "jwt:alice", *where).returncode == 2


def configured(tmp_path, config):
    (tmp_path / "frontdesk.toml").write_text(config)
    return command(tmp_path, "config", "check")
