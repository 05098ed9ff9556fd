"""Bearer tokens of an identity provider with several workers: good at each, taken back at each."""

import json
import signal

import httpx
import pytest

from gateway.command import CONFIG
from gateway.identity import AUDIENCE, ISSUER, Signer
from gateway.running import create, events, turn_of
from gateway.worker_processes import WITHIN_S, workers
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TABLE = f"""
[auth.jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
keys_file = "keys.json"
"""


def publish(directory, *signers):
    written = {"keys": [each.jwk() for each in signers]}
    (directory / "keys.json").write_text(json.dumps(written), encoding="utf-8")


def as_bearer(client, token):
    """Have a client show a token of the provider from now on, over the connection that it has."""
    del client.headers["x-api-key"]
    client.headers["authorization"] = f"Bearer {token}"
    client.timeout = httpx.Timeout(WITHIN_S)
    return client


def test_a_token_is_good_at_every_worker_until_its_key_is_taken_back_at_all_of_them(tmp_path):
    stays, goes = Signer("stays"), Signer("goes")
    publish(tmp_path, stays, goes)
    with (
        workers(tmp_path, 2, config=CONFIG + TABLE) as service,
        service.client_of(1) as first,
        service.client_of(2) as second,
        service.client_of(2) as third,
    ):
        as_bearer(first, stays.token())
        as_bearer(second, goes.token())
        as_bearer(third, goes.token())
        create(first, "s")
        # Through the other worker: as another subject of the tenant, and as nobody of another one.
        assert turn_of(second, "s", "hello")[-1][1] == "agent_end"
        strange = {"authorization": f"Bearer {goes.token(tenant='umbrella')}"}
        assert second.get("/v1/sessions/s", headers=strange).status_code == 404
        reads = {"authorization": f"Bearer {goes.token(scope='read')}"}
        assert second.delete("/v1/sessions/s", headers=reads).status_code == 403
        made = second.post("/v1/sessions/s/tokens", json={"scopes": ["read"]}).json()["token"]
        shown = {"authorization": f"Bearer {made}"}
        assert first.get("/v1/sessions/s", headers=shown).status_code == 200

        with events(third, "s", since="0") as stream:
            next(stream)
            publish(tmp_path, stays)
            service.server.signal(signal.SIGHUP)
            assert not [each for each in stream if each[1] == "session_end"]  # it ends, and lives
        taken_back = {"authorization": second.headers["authorization"]}
        for headers in (taken_back, shown):
            for client in (first, second):
                eventually(
                    lambda client=client, headers=headers: (
                        client.get("/v1/sessions/s", headers=headers).status_code == 401
                    ),
                    within_s=WITHIN_S,
                )
        second.headers["authorization"] = first.headers["authorization"]
        for client in (first, second):
            assert turn_of(client, "s", "still here")[-1][1] == "agent_end"
        assert service.server.terminate() == 0
