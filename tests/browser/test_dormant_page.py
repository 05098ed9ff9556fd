"""A session whose agent has gone, in a real browser: it is read, resumed, closed."""

import pytest
from playwright.sync_api import expect

from gateway.running import RunningGateway, create, turn_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    state = tmp_path_factory.mktemp("stored")
    stored = {"store": "sqlite"}
    with RunningGateway(state, conversations=stored) as before, before.client() as acme:
        create(acme, "rested")
        turn_of(acme, "rested", "what was said before")
    with RunningGateway(state, conversations=stored) as running:
        yield running


def test_a_dormant_session_is_read_resumed_and_closed(tab):
    page = tab("tenant").open("#/session/rested")
    state = page.locator(".title .state")
    expect(state).to_have_text("dormant")
    expect(page.get_by_role("log")).to_contain_text("what was said before")
    page.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("idle")
    expect(page.get_by_role("log")).to_contain_text("Another agent took over")
    page.get_by_role("button", name="Close").click()
    expect(state).to_have_text("dormant")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_what_is_not_stored_cannot_be_closed(tab, acme):
    create(acme, "unstored", ephemeral=True)
    create(acme, "stored")
    page = tab("tenant").open("#/session/stored")
    expect(page.get_by_role("button", name="Close")).to_be_visible()
    page.goto(page.url.replace("stored", "unstored"))
    expect(page.get_by_role("heading", name="unstored")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("age")
    expect(page.get_by_role("button", name="End session")).to_be_visible()
    expect(page.get_by_role("button", name="Close")).to_have_count(0)
    for each in ("stored", "unstored"):
        assert acme.delete(f"/v1/sessions/{each}").status_code == 200


def test_a_dormant_session_is_in_the_list_of_who_asks_for_it_and_not_among_the_live(tab, acme):
    assert acme.post("/v1/sessions/rested/close").status_code in (200, 202)
    page = tab("tenant").open("#/sessions")
    expect(page.locator(".summary")).to_contain_text("0 live")
    expect(page.locator(".rows .id a")).to_have_count(0)
    page = tab("tenant").open("#/sessions?state=dormant")
    expect(page.locator(".rows .id a")).to_have_text("rested")
