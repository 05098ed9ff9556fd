"""Every route, every credential, every prefix: who is let in, who is refused, and as what."""

import time
from dataclasses import dataclass, replace

import pytest

from frontdesk.gateway.app import create_app
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.keys import Key, digest_of
from frontdesk.gateway.paths import Access, match_path
from frontdesk.gateway.scopes import ALL_SCOPES, KeyScope
from gateway.asgi import ask, filled
from gateway.identity import AUDIENCE, ISSUER, Signer, provider
from gateway.requirements import covers
from gateway.running import ACME, KEYS, OPERATOR, UMBRELLA, RunningGateway, create
from gateway.test_rights import OF_A_TENANT, PREFIXES, ROUTES, TEXT_OF_TENANTS, TO_EVERYBODY
from gateway.test_scopes import SCOPED, SECRETS
from support.waiting import eventually

EXPIRED, SHORT = "expired-secret-0123456789abc", "short-secret-0123456789abcdef"
SIGNER = Signer()
HERE, ELSEWHERE, NEVER = "here", "elsewhere", "never"
ENDS = ("/v1/sessions/{sessionId}", "DELETE")
"""The one route that changes what the others are asked about: it is the last."""


@dataclass(frozen=True)
class Shown:
    """What a request shows, and what that is good for: no scopes are no caller at all."""

    secret: str | None
    scopes: frozenset | None = None
    operator: bool = False
    only: bool = False
    """A session token: where no session is named it opens nothing."""
    here: bool = True
    """Whether the session is one that it opens."""
    header: str = "bearer"

    @property
    def headers(self):
        if self.secret is None:
            return ()
        if self.header == "login":
            # As the dashboard's own page shows it.
            own = ((b"sec-fetch-site", b"same-origin"), (b"x-frontdesk", b"1"))
            return ((b"cookie", f"frontdesk={self.secret}".encode()), *own)
        if self.header == "bearer":
            return ((b"authorization", b"Bearer " + self.secret.encode()),)
        return ((self.header.encode(), self.secret.encode()),)


def shown_by(running):
    """Make what is shown, by name; the sessions are there."""

    def token(client, session_id, *scopes, **more):
        body = {"scopes": list(scopes or ALL_SCOPES), **more}
        return client.post(f"/v1/sessions/{session_id}/tokens", json=body).json()["token"]

    def login(key):
        caller = Caller.with_key(key, digest=key.digest)
        return running.gateway.authenticator.logins.make(caller, now_ms=time.time_ns() // 10**6)[0]

    now = int(time.time())
    with running.client() as acme, running.client(SHORT) as short:
        for session_id in (HERE, ELSEWHERE, "ended"):
            create(acme, session_id)
        of_ended = token(acme, "ended")
        acme.delete("/v1/sessions/ended")
        of_gone_key = token(short, HERE)
        tokens = {
            "a token of this session": Shown(token(acme, HERE), ALL_SCOPES, only=True),
            "a token to read it": Shown(
                token(acme, HERE, "read"), frozenset({KeyScope.READ}), only=True
            ),
            "a token of another session": Shown(
                token(acme, ELSEWHERE), ALL_SCOPES, only=True, here=False
            ),
            "a token of an ended session": Shown(of_ended, ALL_SCOPES, only=True, here=False),
            "a token of a revoked key": Shown(of_gone_key),
        }
    running.call(lambda: running.gateway.reload(running.config, keys=(*KEYS, *SCOPED, OLD)))
    return {
        "nothing": Shown(None),
        "a wrong key": Shown("wrong"),
        "a key": Shown(ACME, ALL_SCOPES),
        "a key as a cookie": Shown(f"api_key={ACME}", header="cookie"),
        **{f"a key to {scope}": Shown(SECRETS[scope], frozenset({scope})) for scope in KeyScope},
        "an expired key": Shown(EXPIRED),
        "another tenant's key": Shown(UMBRELLA, ALL_SCOPES, here=False),
        "an operator's key": Shown(OPERATOR, operator=True),
        "a login": Shown(login(KEYS[0]), ALL_SCOPES, header="login"),
        "an operator's login": Shown(login(KEYS[2]), operator=True, header="login"),
        "a login as a key": Shown(login(KEYS[0])),
        **tokens,
        "a bearer token": Shown(SIGNER.token(), ALL_SCOPES),
        "a bearer token to prompt": Shown(
            SIGNER.token(scope="prompt"), frozenset({KeyScope.PROMPT})
        ),
        "a bearer token of another tenant": Shown(
            SIGNER.token(tenant="umbrella"), ALL_SCOPES, here=False
        ),
        "an expired bearer token": Shown(SIGNER.token(exp=now - 1)),
        "a bearer token for another audience": Shown(SIGNER.token(aud="another")),
        "a bearer token of a tenant that is none": Shown(SIGNER.token(tenant="no/tenant")),
        "a bearer token of another signer": Shown(Signer().token()),
        "a bearer token as a key": Shown(SIGNER.token(), header="x-api-key"),
    }


NAMES = (
    "nothing", "a wrong key", "a key", "a key as a cookie",
    *(f"a key to {scope}" for scope in KeyScope),
    "an expired key", "another tenant's key", "an operator's key",
    "a login", "an operator's login", "a login as a key",
    "a token of this session", "a token to read it", "a token of another session",
    "a token of an ended session", "a token of a revoked key",
    "a bearer token", "a bearer token to prompt", "a bearer token of another tenant",
    "an expired bearer token", "a bearer token for another audience",
    "a bearer token of a tenant that is none", "a bearer token of another signer",
    "a bearer token as a key",
)  # fmt: skip
UNDER = ("plain", "root_path", "Mount")
OLD = Key("k-expired", "acme", "old", digest_of(EXPIRED), 0, 1)
GONE = Key("k-short", "acme", "short", digest_of(SHORT))


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A gateway, its application under each prefix, and what is shown to it, by name."""
    auth = {"issuer": ISSUER, "audience": AUDIENCE}
    keys = (*KEYS, *SCOPED, OLD, GONE)
    limits = {"wrong_keys_per_minute": 1_000_000}
    with provider(SIGNER) as server:
        auth = {"jwt": {**auth, "keys_url": server.url}}
        place = tmp_path_factory.mktemp("state")
        with RunningGateway(place, keys=keys, auth=auth, limits=limits) as running:
            eventually(lambda: running.gateway._provider.keys_for("k1", "ES256"))
            apps = {prefix: PREFIXES[prefix][0](create_app(running.gateway)) for prefix in UNDER}
            yield running, apps, shown_by(running)


def expected(shown, rule, method, *, of_session):
    """What becomes of a request: `open`, 401, 403, `unknown` or `in`."""
    if rule.access is Access.OPEN:
        return "open"
    if rule.access is Access.OPERATOR:
        return "open" if shown.operator else 401
    if shown.scopes is None:
        return 401
    if rule.scope_of(method) not in shown.scopes or (shown.only and not of_session):
        return 403
    return "in" if shown.here or not of_session else "unknown"


@covers("keys.every-route")
@pytest.mark.parametrize("prefix", UNDER)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_opens_just_the_routes_that_it_is_good_for(walked, name, prefix):
    running, apps, all_shown = walked
    shown = all_shown[name]
    assert set(all_shown) == set(NAMES)
    _, before, root_path = PREFIXES[prefix]

    def asked(path, method, session_id):
        path = before + filled(path, session_id)
        return running.call(
            lambda: ask(
                apps[prefix], path, method=method, headers=shown.headers, root_path=root_path
            )
        )

    for path, method in sorted(ROUTES, key=lambda route: route == ENDS):
        of_session = "{sessionId}" in path
        there = asked(path, method, HERE)
        outcome = expected(shown, match_path(path).rule, method, of_session=of_session)
        where = (name, prefix, method, path, there)
        if outcome == "open":
            # There are no nodes here, and nothing to erase of a tenant that has nothing.
            absent = ("{node}" in path or "{tenant}" in path) and path != OF_A_TENANT
            statuses = {404} if absent else {200}
            statuses = {403} if path in TEXT_OF_TENANTS else TO_EVERYBODY.get(path, statuses)
            assert there.status in statuses, where
        elif outcome in (401, 403):
            code = "unauthorized" if outcome == 401 else "forbidden"
            assert (there.status, there.error) == (outcome, code), where
        elif outcome == "unknown":
            nothing = asked(path, method, NEVER)
            assert there.status in (400, 404), where
            same = replace(there, body=there.body.replace(HERE.encode(), NEVER.encode()))
            assert without_sizes(same) == without_sizes(nothing), where
        else:
            assert there.status not in (401, 403), where
            if of_session and there.status != 400:
                nothing = asked(path, method, NEVER).body.replace(NEVER.encode(), HERE.encode())
                assert there.body != nothing, where
        if (path, method) == ENDS and outcome == "in":
            with running.client() as acme:
                create(acme, HERE)
            all_shown.update(renewed(running, all_shown))


def renewed(running, all_shown):
    """Make the tokens of the session anew: the one that they were for has ended."""
    with running.client() as acme:
        for name in ("a token of this session", "a token to read it"):
            shown = all_shown[name]
            body = {"scopes": list(shown.scopes)}
            made = acme.post(f"/v1/sessions/{HERE}/tokens", json=body).json()
            yield name, replace(shown, secret=made["token"])


def without_sizes(answer):
    """An answer without what tells how long an id is, and how many requests there were."""
    varying = (b"content-length", b"x-ratelimit-remaining", b"x-ratelimit-reset", b"ratelimit")
    headers = {name: value for name, value in answer.headers.items() if name not in varying}
    return answer.status, answer.body, headers
