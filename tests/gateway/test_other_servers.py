"""The application under a server that is not ours: all that needs no help of the wire works."""

import asyncio
import threading
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from frontdesk.gateway.app import create_app
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.server import bound_socket
from frontdesk.gateway.settings import Config
from gateway.agents import BLUEPRINTS
from gateway.requirements import covers
from gateway.running import ACME, KEYS, OPERATOR, create, events, turn_of
from support.waiting import eventually


@contextmanager
def plain_uvicorn(state_dir, *, http, **options):
    config = Config(server={"state_dir": state_dir})
    gateway = Gateway(config, blueprints=BLUEPRINTS, keys=KEYS)
    with bound_socket("127.0.0.1", 0) as address:
        settings = uvicorn.Config(create_app(gateway), http=http, log_config=None, **options)
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([address])))
        thread.start()
        try:
            eventually(lambda: server.started or not thread.is_alive())
            yield gateway, f"http://127.0.0.1:{address.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
    assert not gateway.open


@covers("streams.leaving", "errors.shape")
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_sessions_streams_and_errors_work_and_a_leaving_client_is_noticed(tmp_path, http):
    with plain_uvicorn(tmp_path, http=http) as (gateway, url):
        headers = {"X-API-Key": ACME}
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
            create(client, "s")
            assert turn_of(client, "s", "hello")[-1][1] == "agent_end"
            with events(client, "s"):
                eventually(lambda: len(gateway.streams) == 1)
            eventually(lambda: len(gateway.streams) == 0, within_s=5)
            assert client.get("/v1/sessions/none").json()["error"] == "not_found"
            assert client.delete("/v1/sessions/s").status_code == 200


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_servers_root_path_opens_no_route(tmp_path, http):
    with (
        plain_uvicorn(tmp_path, http=http, root_path="/fd") as (_, url),
        httpx.Client(base_url=url, trust_env=False, timeout=20) as client,
    ):
        for path in ("/ops/status", "/ops/sessions", "/metrics", "/v1/sessions"):
            assert client.get(path).status_code == 401
        client.headers["X-API-Key"] = ACME
        create(client, "s")
        assert turn_of(client, "s", "hello")[-1][1] == "agent_end"
        assert client.get("/ops/sessions").status_code == 401
        client.headers["X-API-Key"] = OPERATOR
        assert len(client.get("/ops/sessions").json()["sessions"]) == 1


def test_the_lifespan_opens_and_closes_the_gateway(tmp_path):
    with plain_uvicorn(tmp_path, http="h11") as (gateway, url):
        assert gateway.open
        assert httpx.get(f"{url}/readyz", trust_env=False, timeout=20).status_code == 200


def test_before_it_is_opened_a_gateway_answers_that_it_is_not_ready(tmp_path):
    gateway = Gateway(Config(server={"state_dir": tmp_path}), blueprints=BLUEPRINTS, keys=KEYS)

    async def scenario():
        transport = httpx.ASGITransport(app=create_app(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            ready, health = await client.get("/readyz"), await client.get("/healthz")
            session = await client.get("/v1/sessions", headers={"X-API-Key": ACME})
        return ready.status_code, health.status_code, session.status_code

    assert asyncio.run(scenario()) == (503, 200, 503)
