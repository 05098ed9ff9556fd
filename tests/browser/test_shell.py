"""The dashboard's frame in a real browser: logging in, pages by key, addresses, what it costs."""

import pytest
from playwright.sync_api import expect

from gateway.running import ACME, create

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGES = {
    "tenant": ("Sessions", "Ends", "Usage"),
    "operator": ("Sessions", "Ends", "Nodes", "Usage"),
}


def test_a_key_logs_in_once_and_is_left_nowhere(tab):
    shell = tab()
    page = shell.open("")
    page.get_by_label("API key").fill(ACME)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    assert ACME not in page.url
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert kept == '[{},{},""]'
    page.reload()
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()


@pytest.mark.parametrize("who", PAGES)
def test_the_pages_that_a_key_has_are_in_the_navigation_and_open(tab, acme, sid, who):
    create(acme, sid)
    shell = tab(who)
    page = shell.open()
    if who == "operator":
        shell.expect("404")  # until `/ops/usage` is there
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert [each.split()[0] for each in links.all_inner_texts()] == list(PAGES[who])
    for name in PAGES[who]:
        links.filter(has_text=name).click()
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        assert page.title() == f"{name} · Frontdesk"
        assert shell.findings() == []
