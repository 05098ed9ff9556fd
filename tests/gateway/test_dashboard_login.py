"""A browser's login: who gets a cookie, what it opens, when it ends, and what opens nothing."""

import base64
import json
from dataclasses import replace

import pytest

from frontdesk.gateway.app import create_app
from frontdesk.gateway.dashboard_login import cookie_name
from frontdesk.gateway.keys import PreviousSecret, digest_of
from gateway.asgi import ask
from gateway.cluster_running import cluster
from gateway.requirements import covers
from gateway.running import ACME, KEYS, OPERATOR, UMBRELLA, RunningGateway, create
from support.waiting import eventually

READS = {"Sec-Fetch-Site": "same-origin"}
"""What a browser sends with what our page reads; and with what it changes."""
CHANGES = {**READS, "X-Frontdesk": "1"}
NAME = "frontdesk"


def logged_in(gateway, secret=ACME, **shown):
    """Log in as the page does, and return the cookie as a request has it."""
    with gateway.client(None) as client:
        answer = client.post("/dashboard/login", json=shown or {"key": secret}, headers=CHANGES)
        assert answer.status_code == 200, answer.text
        return f"{NAME}={answer.cookies[NAME]}"


def asked(gateway, path, *, cookie, method="GET", headers=READS, **more):
    """Ask with a cookie and return the answer."""
    with gateway.client(None) as client:
        return client.request(method, path, headers={**headers, "Cookie": cookie}, **more)


@covers("dashboard.login")
def test_a_key_gets_a_cookie_that_no_page_can_read_and_no_other_site_sends(gateway):
    with gateway.client(None) as client:
        answer = client.post("/dashboard/login", json={"key": ACME}, headers=CHANGES)
    value, *rest = answer.headers["set-cookie"].split("; ")
    assert value.startswith(f"{NAME}=")
    assert set(rest) == {"Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"}
    assert answer.json()["keyId"] == "k-acme"
    assert answer.json()["tenantId"] == "acme"
    assert not answer.json()["operator"]
    assert answer.headers["cache-control"] == "no-store"


@covers("dashboard.login")
@pytest.mark.parametrize(
    ("secret", "opens", "not_opened"),
    [(ACME, "/v1/sessions", "/ops/sessions"), (OPERATOR, "/ops/sessions", "/v1/sessions")],
    ids=["a tenant's", "an operator's"],
)
def test_a_login_opens_what_its_key_opens_and_no_more(gateway, secret, opens, not_opened):
    cookie = logged_in(gateway, secret)
    assert asked(gateway, opens, cookie=cookie).status_code == 200
    assert asked(gateway, not_opened, cookie=cookie).status_code == 401
    assert asked(gateway, "/dashboard/me", cookie=cookie).json()["operator"] is (secret == OPERATOR)


@covers("dashboard.login")
def test_a_login_sees_its_tenant_and_another_ones_sees_nothing_of_it(gateway, acme, sid):
    create(acme, sid)
    path = f"/v1/sessions/{sid}"
    assert asked(gateway, path, cookie=logged_in(gateway)).status_code == 200
    assert asked(gateway, path, cookie=logged_in(gateway, UMBRELLA)).status_code == 404


def test_where_nobody_is_logged_in_there_is_nothing_to_say(gateway):
    with gateway.client(None) as client:
        answer = client.get("/dashboard/me", headers=READS)
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_login_does_what_its_scopes_allow(tmp_path):
    reader = replace(KEYS[0], scopes=frozenset({"read"}))
    with RunningGateway(tmp_path, keys=(reader,)) as running:
        cookie = logged_in(running)
        assert asked(running, "/v1/sessions", cookie=cookie).status_code == 200
        body = {"model": "test"}
        answer = asked(
            running, "/v1/sessions", cookie=cookie, method="POST", headers=CHANGES, json=body
        )
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


def test_the_cookies_of_other_programs_on_this_machine_do_no_harm(gateway):
    cookie = logged_in(gateway)
    others = 'a={"b": 1}; c="; =x; [; frontdesk2=y'
    assert asked(gateway, "/v1/sessions", cookie=f"{others}; {cookie}").status_code == 200
    assert asked(gateway, "/v1/sessions", cookie=f"{cookie}; {others}").status_code == 200


# -- when it ends ----------------------------------------------------------------------------------


@covers("dashboard.twelve-hours")
def test_a_login_ends_after_twelve_hours_and_its_streams_with_it(tmp_path, clock):
    with RunningGateway(tmp_path, clock=clock) as running:
        cookie = logged_in(running)
        headers = {**READS, "Cookie": cookie}
        with (
            running.client(None) as client,
            client.stream("GET", "/v1/feed", headers=headers) as stream,
        ):
            assert stream.status_code == 200
            clock.advance(12 * 3600 - 1)
            assert asked(running, "/v1/sessions", cookie=cookie).status_code == 200
            clock.advance(1)
            for _ in stream.iter_raw():
                pass
        assert asked(running, "/v1/sessions", cookie=cookie).status_code == 401
        assert asked(running, "/dashboard/me", cookie=cookie).status_code == 204


@covers("dashboard.twelve-hours")
def test_a_login_ends_with_the_time_of_its_key(tmp_path, clock):
    soon = replace(KEYS[0], expires_at=clock.wall_ms() + 60_000)
    with RunningGateway(tmp_path, clock=clock, keys=(soon,)) as running:
        with running.client(None) as client:
            answer = client.post("/dashboard/login", json={"key": ACME}, headers=CHANGES)
        assert "Max-Age=60;" in answer.headers["set-cookie"]
        cookie = f"{NAME}={answer.cookies[NAME]}"
        clock.advance(60)
        assert asked(running, "/v1/sessions", cookie=cookie).status_code == 401


def reloaded(running, *keys):
    running.call(lambda: running.gateway.reload(running.config, keys=keys))


@covers("dashboard.twelve-hours")
def test_a_login_is_dead_with_its_key_and_its_streams_end(tmp_path):
    with RunningGateway(tmp_path) as running:
        cookie = logged_in(running)
        with running.client(None) as client:
            headers = {**READS, "Cookie": cookie}
            with client.stream("GET", "/v1/feed", headers=headers) as stream:
                reloaded(running, *KEYS[1:])
                for _ in stream.iter_raw():
                    pass
        assert asked(running, "/v1/sessions", cookie=cookie).status_code == 401
        # The same id with another secret is another key.
        reloaded(running, replace(KEYS[0], digest=digest_of("another-secret-0123456789")))
        assert asked(running, "/v1/sessions", cookie=cookie).status_code == 401
        reloaded(running, *KEYS)
        assert asked(running, "/v1/sessions", cookie=cookie).status_code == 200


@covers("dashboard.twelve-hours")
def test_a_login_lives_through_a_rotation_as_long_as_the_secret_that_it_was_made_with(
    tmp_path, clock
):
    new = "rotated-secret-0123456789"
    with RunningGateway(tmp_path, clock=clock) as running:
        before = logged_in(running)
        previous = PreviousSecret(KEYS[0].digest, clock.wall_ms() + 60_000)
        reloaded(running, replace(KEYS[0], digest=digest_of(new), previous=previous))
        after = logged_in(running, new)
        assert asked(running, "/v1/sessions", cookie=before).status_code == 200
        clock.advance(60)
        assert asked(running, "/v1/sessions", cookie=before).status_code == 401
        assert asked(running, "/v1/sessions", cookie=after).status_code == 200


@covers("dashboard.any-node")
@pytest.mark.slow
def test_a_login_is_good_on_every_node_and_for_sessions_of_every_node():
    with cluster("one", "two") as nodes:
        cookie = logged_in(nodes[0])
        with nodes[0].client() as client:
            create(client, "there")
        for node in nodes:
            answer = eventually(
                lambda node=node: (
                    found
                    if (found := asked(node, "/v1/sessions/there", cookie=cookie)).status_code
                    != 503
                    else None
                )
            )
            assert answer.status_code == 200, answer.text
        changed = asked(
            nodes[1], "/v1/sessions/there", cookie=cookie, method="DELETE", headers=CHANGES
        )
        assert changed.status_code == 200, changed.text


def test_a_login_of_another_gateway_opens_nothing(gateway, tmp_path):
    with RunningGateway(tmp_path) as other:
        cookie = logged_in(other)
    assert asked(gateway, "/v1/sessions", cookie=cookie).status_code == 401


# -- what opens nothing ----------------------------------------------------------------------------


def changed(text, **claims):
    """A cookie's value whose claims say something else, its signature as it was."""
    said, _, signature = text.partition(".")
    content = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    content = [claims.get("key_id", content[0]), claims.get("expires_at", content[1])]
    encoded = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode())
    return f"{encoded.decode().rstrip('=')}.{signature}"


WRONG = {
    "another key": lambda one, other: changed(one, key_id="k-umbrella"),
    "an operator's key": lambda one, other: changed(one, key_id="k-operator"),
    "a later end": lambda one, other: changed(one, expires_at=2**52),
    "another's signature": lambda one, other: one.partition(".")[0] + "." + other.partition(".")[2],
    "no signature": lambda one, other: one.partition(".")[0] + ".",
    "nothing but a signature": lambda one, other: "." + one.partition(".")[2],
    "a cut one": lambda one, other: one[:-1],
    "one that is cut in front": lambda one, other: one[1:],
    "a longer one": lambda one, other: one + "A",
    "one of another alphabet": lambda one, other: one.replace(".", "+"),
    "a key": lambda one, other: ACME,
    "nothing": lambda one, other: "",
    "a dot": lambda one, other: ".",
    "a very long one": lambda one, other: one + "A" * 5000,
    "what is no ASCII": lambda one, other: "ä" + one[1:],
    "claims of another form": lambda one, other: "e30." + one.partition(".")[2],
}


@covers("dashboard.wrong-cookies")
@pytest.mark.parametrize("name", WRONG)
def test_a_cookie_that_is_wrong_in_any_way_is_as_none_at_all(gateway, name):
    one, other = (logged_in(gateway, each).partition("=")[2] for each in (ACME, UMBRELLA))
    cookie = f"{NAME}={WRONG[name](one, other)}".encode("latin-1")
    answers = []
    with gateway.client(None) as client:
        for headers in ([(b"Cookie", cookie)], []):
            shown = [(b"Sec-Fetch-Site", b"same-origin"), *headers]
            answer = client.get("/v1/sessions", headers=shown)
            answers.append((answer.status_code, answer.content))
            assert client.get("/dashboard/me", headers=shown).status_code == 204
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


@covers("dashboard.strangers")
@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", None])
def test_what_another_page_asks_for_by_a_login_is_refused(gateway, acme, sid, site):
    create(acme, sid)
    cookie = logged_in(gateway)
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    for path in ("/v1/sessions", f"/v1/sessions/{sid}/events", "/v1/feed"):
        assert asked(gateway, path, cookie=cookie, headers=headers).status_code == 401
    headers |= {"X-Frontdesk": "1"}
    path = f"/v1/sessions/{sid}"
    answer = asked(gateway, path, cookie=cookie, method="DELETE", headers=headers)
    assert answer.status_code == 401
    assert acme.get(path).status_code == 200


@covers("dashboard.changes")
def test_a_change_by_a_login_needs_the_header_that_no_other_page_can_send(gateway, acme, sid):
    create(acme, sid)
    cookie = logged_in(gateway)
    path = f"/v1/sessions/{sid}"
    assert asked(gateway, path, cookie=cookie, method="DELETE").status_code == 401
    answer = asked(gateway, path, cookie=cookie, method="DELETE", headers=CHANGES)
    assert answer.status_code == 200


def test_a_preflight_of_another_origin_does_not_allow_the_header(gateway):
    with gateway.client(None) as client:
        headers = {
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "x-frontdesk",
        }
        answer = client.options("/v1/sessions/a", headers=headers)
    assert "x-frontdesk" not in answer.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in answer.headers


@covers("dashboard.changes")
def test_a_login_opens_no_websocket_as_no_page_can_give_one_the_header(gateway, acme, sid):
    create(acme, sid)
    cookie = logged_in(gateway)
    app = create_app(gateway.gateway)

    async def opened(*headers):
        shown = ((b"sec-fetch-site", b"same-origin"), (b"x-frontdesk", b"1"), *headers)
        return await ask(app, f"/v1/sessions/{sid}/ws", headers=shown, kind="websocket")

    own = (b"origin", b"http://127.0.0.1:4000")
    assert gateway.call(opened, (b"cookie", cookie.encode()), own).status == 401
    assert gateway.call(opened, (b"x-api-key", ACME.encode()), own).status == 101


# -- logging in and out ----------------------------------------------------------------------------


@covers("dashboard.changes")
@pytest.mark.parametrize("path", ["/dashboard/login", "/dashboard/logout"])
@pytest.mark.parametrize("headers", [{}, READS, {**CHANGES, "Sec-Fetch-Site": "same-site"}])
def test_only_our_own_page_logs_in_and_out(gateway, path, headers):
    with gateway.client(None) as client:
        answer = client.post(path, json={"key": ACME} if "in" in path else None, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert "X-Frontdesk" in answer.json()["message"]
    assert "set-cookie" not in answer.headers


@covers("dashboard.login")
def test_logging_out_takes_the_cookie_away(gateway):
    with gateway.client(None) as client:
        answer = client.post("/dashboard/logout", headers=CHANGES)
    assert answer.status_code == 204
    assert answer.headers["set-cookie"].startswith(f"{NAME}=; Path=/; Max-Age=0; HttpOnly")


@covers("dashboard.guessing")
def test_a_wrong_key_at_the_login_counts_as_one_anywhere_and_acquaintances_get_in(tmp_path):
    with RunningGateway(tmp_path, limits={"wrong_keys_per_minute": 3}) as running:
        logged_in(running)
        with running.client(None) as client:

            def tried(key):
                return client.post("/dashboard/login", json={"key": key}, headers=CHANGES)

            assert [tried(f"guess-{n}").status_code for n in range(3)] == [401] * 3
            refused = tried(UMBRELLA)
            assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
            assert client.get("/v1/sessions", headers={"X-API-Key": UMBRELLA}).status_code == 429
        logged_in(running)


@pytest.mark.parametrize("body", [{}, {"key": ACME, "code": "x"}, {"key": ""}, {"key": 5}])
def test_a_login_takes_a_key_or_a_code_and_nothing_else(gateway, body):
    with gateway.client(None) as client:
        answer = client.post("/dashboard/login", json=body, headers=CHANGES)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert ACME not in answer.text


@covers("dashboard.nowhere")
def test_a_key_that_logs_in_is_in_no_answer_and_no_log(gateway, caplog):
    with caplog.at_level("DEBUG", logger="frontdesk"), gateway.client(None) as client:
        answer = client.post("/dashboard/login", json={"key": ACME}, headers=CHANGES)
    cookie = answer.cookies[NAME]
    assert ACME not in answer.text + str(answer.headers)
    ours = [each for each in caplog.records if each.name.startswith("frontdesk")]
    said = str([each.getMessage() for each in ours]) + str(gateway.log.lines)
    assert "k-acme" in said
    assert ACME not in said
    assert cookie not in said


@covers("dashboard.code")
def test_a_code_opens_for_its_key_while_the_run_lives_and_another_does_not(tmp_path):
    with RunningGateway(tmp_path) as running:
        running.call(lambda: running.gateway.authenticator.codes.add("a-code", KEYS[0]))
        for _ in range(2):
            cookie = logged_in(running, code="a-code")
            assert asked(running, "/dashboard/me", cookie=cookie).json()["keyId"] == "k-acme"
        with running.client(None) as client:
            answer = client.post("/dashboard/login", json={"code": "a-codd"}, headers=CHANGES)
            assert answer.status_code == 401
            # It is no key.
            assert client.get("/v1/sessions", headers={"X-API-Key": "a-code"}).status_code == 401
        reloaded(running, *KEYS[1:])
        with running.client(None) as client:
            answer = client.post("/dashboard/login", json={"code": "a-code"}, headers=CHANGES)
            assert answer.status_code == 401


# -- which cookie ----------------------------------------------------------------------------------


@covers("dashboard.cookie-name")
@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://frontdesk.example", "__Host-frontdesk"),
        ("https://127.0.0.1:4000", "__Host-frontdesk"),
        ("http://127.0.0.1:4000", "frontdesk"),
        ("http://127.9.9.9", "frontdesk"),
        ("http://[::1]:4000/prefix", "frontdesk"),
        ("http://localhost:4000", "frontdesk"),
        ("http://LOCALHOST:4000", "frontdesk"),
        ("http://frontdesk.example", None),
        ("http://localhost.example", None),
        ("http://10.0.0.1:4000", None),
        ("http://0.0.0.0:4000", None),
        ("http://[::]:4000", None),
        ("http://[::1", None),
        ("", None),
        (None, None),
    ],
)
def test_a_cookie_travels_with_tls_or_on_this_machine_only(url, name):
    assert cookie_name(url) == name


@covers("dashboard.cookie-name")
def test_behind_a_proxy_that_says_https_the_cookie_is_the_secure_one(tmp_path):
    with RunningGateway(tmp_path, server={"trusted_proxies": ["127.0.0.1/32"]}) as running:
        headers = {**CHANGES, "X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https",
                   "X-Forwarded-Host": "frontdesk.example"}  # fmt: skip
        with running.client(None) as client:
            answer = client.post("/dashboard/login", json={"key": ACME}, headers=headers)
            assert answer.status_code == 200
            cookie, _, rest = answer.headers["set-cookie"].partition("; ")
            assert cookie.startswith("__Host-frontdesk=")
            assert rest == "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"
            shown = {**headers, "Cookie": cookie}
            assert client.get("/v1/sessions", headers=shown).status_code == 200
            # By its other name it is none.
            shown["Cookie"] = cookie.removeprefix("__Host-")
            assert client.get("/v1/sessions", headers=shown).status_code == 401


@covers("dashboard.cookie-name")
def test_without_tls_from_another_machine_there_is_no_login_and_it_says_what_to_do(gateway):
    with gateway.client(None) as client:
        headers = {**CHANGES, "Host": "frontdesk.example", "X-Forwarded-Proto": "https"}
        answer = client.post("/dashboard/login", json={"key": ACME}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "login_unsafe")
    assert "HTTPS" in answer.json()["message"]
    assert "set-cookie" not in answer.headers
