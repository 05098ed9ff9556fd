"""Streams of pages that are cut: by a proxy, by a gateway that is killed, by nobody who says so."""

import pytest
from playwright.sync_api import expect

from browser.agents_of_pages import AGENTS
from gateway.command import serving
from gateway.running import RunningGateway, create
from support.fault_proxy import FaultProxy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CUT = r"ERR_(EMPTY_RESPONSE|CONNECTION|INCOMPLETE|SOCKET|NETWORK)|Failed to load resource|failed: "
"""What a browser says of a connection that breaks, whatever the page does about it."""
CONFIG = """
[blueprints.slow]
kind = "python"
target = "browser.agents_of_pages:slow"
models = ["*"]
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with RunningGateway(tmp_path_factory.mktemp("s"), agents=AGENTS) as running:
        yield running


@pytest.fixture
def proxy(gateway):
    with FaultProxy(f"tcp:127.0.0.1:{gateway.port}") as running:
        yield running


def through(proxy):
    return f"http://127.0.0.1:{proxy.port}"


def prompt(client, session_id, text):
    answer = client.post(f"/v1/sessions/{session_id}/prompt", json={"text": text})
    assert answer.status_code == 202, answer.text


def test_a_transcript_whose_stream_is_cut_again_and_again_has_everything_once(
    tab, acme, sid, proxy
):
    create(acme, sid, blueprint="slow")
    shell = tab("tenant", url=through(proxy))
    shell.expect(CUT)
    page = shell.open(f"#/session/{sid}")
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
    # In the middle of an event as well: none ends where a connection does.
    proxy.cut_after(2_345)
    prompt(acme, sid, "150")
    expect(page.get_by_role("log")).to_contain_text("148 149", timeout=60_000)
    proxy.heal()
    assert proxy.broken > 2
    shown = page.get_by_role("log").locator("article p").all_inner_texts()
    assert shown == ["150", " ".join(map(str, range(150))) + " "]


def test_a_list_whose_stream_is_cut_says_since_when_and_is_right_afterwards(tab, acme, proxy):
    create(acme, "cut-stays")
    create(acme, "cut-goes")
    shell = tab("tenant", url=through(proxy))
    shell.expect(CUT)
    page = shell.open("#/sessions?q=cut-")
    expect(page.locator(".rows tbody tr")).to_have_count(2)
    proxy.refuse()
    expect(page.locator(".stale")).to_contain_text("No word from the gateway since")
    expect(page.locator(".rows tbody tr")).to_have_count(2)
    acme.delete("/v1/sessions/cut-goes")
    create(acme, "cut-comes")
    proxy.heal()
    expect(page.locator(".rows tbody .id")).to_have_text(["cut-comes", "cut-stays"])
    expect(page.locator(".stale")).to_have_count(0)


def test_a_stream_that_is_cut_without_a_word_is_found_out(tab, acme, sid):
    create(acme, sid)
    prompt(acme, sid, "said once")
    page = tab("tenant", clock=True).open(f"#/session/{sid}")
    expect(page.get_by_role("log")).to_contain_text("said once ")
    opened = []
    page.on("request", lambda request: "/events" in request.url and opened.append(request.url))

    said = acme.get(f"/v1/sessions/{sid}/status").json()
    ahead = {**said, "lastEventIndex": said["lastEventIndex"] + 9}
    # There is more than the stream has said, and still so the next time: it says nothing any more.
    page.route("**/status", lambda route: route.fulfill(json=ahead))
    for _ in range(3):
        with page.expect_response("**/status"):
            page.clock.fast_forward(10_000)
    page.unroute("**/status")
    prompt(acme, sid, "said later")
    expect(page.get_by_role("log")).to_contain_text("said later ")
    assert opened
    assert page.get_by_role("log").locator("article").count() == 4


def test_a_gateway_that_is_killed_and_comes_back_is_followed_again(tab, acme, tmp_path):
    state = tmp_path / "killed"
    with serving(state, config=CONFIG) as first:
        port = first.url.rpartition(":")[2]
        with first.client() as client:
            body = {"model": "test", "sessionId": "before", "blueprint": "slow"}
            assert client.post("/v1/sessions", json=body).status_code == 201
            shell, reader = tab(url=first.url), tab(url=first.url)
            for each in (shell, reader):
                each.log_in(client.headers["X-API-Key"])
                each.expect(CUT)
            page, read = shell.open(), reader.open("#/session/before")
            expect(page.locator(".rows tbody .id")).to_have_text(["before"])
            prompt(client, "before", "3")
            expect(read.get_by_role("log").locator("article p")).to_have_text(["3", "0 1 2 "])
        first.process.kill()
        first.wait()
        expect(page.locator(".stale")).to_be_visible()
        expect(page.locator(".rows tbody .id")).to_have_text(["before"])
        with serving(state, "--port", port, config=CONFIG) as second, second.client() as client:
            expect(page.locator(".stale")).to_have_count(0)
            # It is dormant now: not among the live ones.
            expect(page.locator(".rows tbody .id")).to_have_count(0)
            body["sessionId"] = "after"
            assert client.post("/v1/sessions", json=body).status_code == 201
            expect(page.locator(".rows tbody .id")).to_have_text(["after"])
            # Its page follows on, and one that is opened now has all of it.
            prompt(client, "before", "4")
            whole = ["3", "0 1 2 ", "4", "0 1 2 3 "]
            expect(read.get_by_role("log").locator("article p")).to_have_text(whole)
            expect(page.locator(".rows tbody .id")).to_have_text(["after", "before"])
            shell.go("#/session/before")
            expect(page.get_by_role("log").locator("article p")).to_have_text(whole)
