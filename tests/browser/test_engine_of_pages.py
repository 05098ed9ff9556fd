"""A real engine cut from two real nodes while pages look on: work goes on, and they say so."""

import re

import pytest
from playwright.sync_api import expect

from browser.chromium import Tab, chromium
from gateway.command import frontdesk
from gateway.running import ACME, create, turn_of
from gateway.worker_processes import workers
from support.engines import VALKEY, EngineServer
from support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

LONG_MS = 90_000
"""How long what follows from leases may take here; they last 3 s."""


def operators_key(directory):
    state = ("--state-dir", str(directory / "state"))
    ran = frontdesk(directory, "keys", "create", "--operator", "--name", "ops", *state)
    return next(word for word in ran.stdout.split() if word.startswith("fd_"))


def test_with_its_engine_cut_sessions_go_on_and_nodes_are_told_to_be_not_well(tmp_path):
    (tmp_path / "nodes").write_text("a secret of all nodes, which is long enough")
    with chromium() as browser, EngineServer(VALKEY) as engine:
        settings = {
            "FRONTDESK_CLUSTER": engine.url,
            "FRONTDESK_CONVERSATIONS__STORE": "memory",
            "FRONTDESK_CLUSTER__SECRET_FILE": str(tmp_path / "nodes"),
            "FRONTDESK_CLUSTER__LEASE_S": "3",
        }
        with workers(tmp_path, 2, **settings) as service, service.server.client() as client:
            url = service.server.url
            # A new engine knows for a lease that it does not know all.
            eventually(lambda: client.get("/v1/sessions/none").status_code == 404, within_s=60)
            create(client, "goes-on")
            create(client, "ends")
            sessions = Tab(browser, url, secret=ACME)
            nodes = Tab(browser, url, secret=operators_key(tmp_path))
            sessions.open("#/sessions")
            nodes.open("#/nodes")
            of_nodes = nodes.page.locator("h1 + p")
            ended = sessions.page.get_by_role("row", name="ends")
            expect(of_nodes).to_contain_text("2 in all")
            expect(of_nodes).to_contain_text("0 not well", timeout=LONG_MS)
            expect(ended).to_be_visible()

            engine.kill()
            expect(of_nodes).to_contain_text(re.compile("[12] not well"), timeout=LONG_MS)
            turn_of(client, "goes-on", "still there")
            assert client.delete("/v1/sessions/ends").status_code == 200
            expect(ended).to_have_count(0, timeout=LONG_MS)
            expect(sessions.page.get_by_role("row", name="goes-on")).to_be_visible()

            engine.start()
            expect(of_nodes).to_contain_text("0 not well", timeout=LONG_MS)
            assert client.get("/v1/sessions/goes-on").json()["turns"] == 1
            for each in (sessions, nodes):
                assert each.unexpected() == []
                each.close()
