"""The dashboard's frame in a real browser: logging in and out, pages by key, keyboard, looks."""

import re

import pytest
from playwright.sync_api import expect

from browser.chromium import ELSEWHERE, PAGES
from gateway.command import serving
from gateway.running import ACME, KEYS, OPERATOR, RunningGateway, create, turn_of
from support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

LOOKS = [
    {"size": size, "color_scheme": scheme}
    for size in ("wide", "narrow")
    for scheme in ("light", "dark")
]


def asked_for(shell):
    """Collect the addresses of all that a tab asks for."""
    addresses = []
    shell.context.on("request", lambda request: addresses.append(request.url))
    return addresses


def test_a_key_logs_in_once_and_is_left_nowhere(tab):
    shell = tab()
    addresses = asked_for(shell)
    page = shell.open("")
    page.get_by_label("API key").fill(ACME)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert page.evaluate(stored) == '[{},{},""]'
    assert not [each for each in addresses if ACME in each]
    assert ACME not in page.content()
    page.reload()
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()


def test_a_wrong_key_is_told_and_the_login_stays(tab):
    shell = tab()
    shell.expect("status of 401")
    page = shell.open("#/ends")
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("key")
    assert page.get_by_label("API key").input_value() == ""
    assert shell.findings() == []
    page.get_by_label("API key").fill(ACME)
    page.keyboard.press("Enter")
    # Where one wanted to go.
    expect(page.get_by_role("heading", name="Ends")).to_be_visible()


@pytest.mark.parametrize("who", PAGES)
def test_the_link_of_a_development_run_logs_in_and_its_code_leaves_the_address(tab, gateway, who):
    key = next(each for each in KEYS if each.operator is (who == "operator"))
    gateway.call(lambda: gateway.gateway.authenticator.codes.add(f"code-{who}", key))
    shell = tab()
    addresses = asked_for(shell)
    page = shell.page
    page.goto("about:blank")
    page.goto(f"{shell.url}/#code=code-{who}")
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    assert "code" not in page.url
    expect(page.locator("header")).to_contain_text("acme" if who == "tenant" else "operator")
    # The page itself was asked for by an address whose fragment no server sees.
    assert not [each for each in addresses[1:] if "code" in each]
    page.go_back()
    page.go_forward()
    assert "code" not in page.url


def test_what_a_development_run_prints_opens_logged_in(tab, tmp_path):
    with serving(tmp_path, "--dev", config=None, keys="") as served:
        links = eventually(lambda: re.findall(r"http://\S+/#code=\S+", served.output))
        for link, whose in zip(links, ("dev", "operator"), strict=True):
            shell = tab(url=served.url)
            shell.page.goto(link)
            expect(shell.page.get_by_role("heading", name="Sessions")).to_be_visible()
            expect(shell.page.locator("header .who b")).to_have_text(whose)
        # The page asks by itself who is logged in: in its log there is no code and no key.
        codes = [link.partition("=")[2] for link in links]
        assert not [each for each in (*codes, "fd_dev_") if each in served.log]
        served.terminate()


def test_logging_out_shows_the_login_and_takes_the_cookie(tab):
    shell = tab("tenant")
    page = shell.open()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("API key")).to_be_focused()
    assert shell.context.cookies() == []
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


@pytest.mark.parametrize("who", PAGES)
def test_the_pages_that_a_key_has_are_in_the_navigation_and_open(tab, acme, sid, who):
    create(acme, sid)
    shell = tab(who)
    page = shell.open()
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert [each.split()[0] for each in links.all_inner_texts()] == list(PAGES[who])
    for name in PAGES[who]:
        links.filter(has_text=name).click()
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        expect(page).to_have_title(re.compile(rf"(\(\d+\) )?{name} · Frontdesk"))


def test_a_tenants_key_has_no_nodes_by_any_address(tab):
    shell = tab("tenant")
    page = shell.open("#/nodes")
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()


@pytest.mark.parametrize(
    "place",
    ["#/none", "#/constructor", "#/%E0%A4", "#//", "#/ends?%", "#?q=1"],
)
def test_no_address_breaks_the_page(tab, place):
    shell = tab("tenant")
    page = shell.open(place)
    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_role("heading", name="Usage")).to_be_visible()


def test_a_prompt_that_waits_is_counted_where_one_sees_it_on_every_page(tab, acme, sid):
    create(acme, sid, blueprint="careful")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "17"})
    shell = tab("tenant")
    page = shell.open("#/usage")
    link = page.get_by_role("navigation").get_by_role("link", name="Sessions")
    expect(link).to_contain_text("1")
    expect(page).to_have_title("(1) Usage · Frontdesk")
    acme.delete(f"/v1/sessions/{sid}")
    expect(page).to_have_title("Usage · Frontdesk")


def test_a_revoked_key_leads_back_to_the_login_which_says_why(tab, tmp_path):
    with RunningGateway(tmp_path) as running:
        shell = tab("tenant", url=running.url)
        shell.expect("status of 401")  # its stream, which is tried again
        page = shell.open("#/usage")
        running.call(lambda: running.gateway.reload(running.config, keys=KEYS[1:]))
        expect(page.get_by_label("API key")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("logged out")
        assert shell.findings() == []
        # Nothing of what was shown is left.
        assert "k-acme" not in page.content()


def test_everything_is_reached_by_keyboard_alone(tab):
    shell = tab()
    page = shell.open("")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(OPERATOR)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.reload()
    page.wait_for_selector("main h1")
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
    wanted = ["Skip to the content", "Frontdesk", *PAGES["operator"], "Log out", "API"]
    assert [each.split("\n")[0].strip() for each in seen] == wanted
    shown = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(shown) == "solid"


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: " ".join(look.values()))
@pytest.mark.parametrize("who", PAGES)
def test_every_page_is_accessible_in_every_look_and_is_never_scrolled_sideways(
    tab, acme, sid, who, look
):
    create(acme, f"{sid}-{'long-' * 20}")
    create(acme, sid)
    turn_of(acme, sid, "hello there")
    acme.delete(f"/v1/sessions/{sid}")
    shell = tab(who, **look)
    page = shell.open()
    for name in PAGES[who]:
        shell.go(f"#/{name.lower()}")
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        expect(page.locator("main .empty", has_text="Loading")).to_have_count(0)
        assert shell.findings() == [], name
        assert shell.sideways() == 0, name


@pytest.mark.parametrize("look", LOOKS[:2], ids=lambda look: " ".join(look.values()))
def test_the_login_is_accessible_in_every_look(tab, look):
    shell = tab(**look)
    shell.open("")
    assert shell.findings() == []
    assert shell.sideways() == 0


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_nothing_moves_for_who_wants_no_motion(tab, acme, sid, motion, moves):
    create(acme, sid, blueprint="patient")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "go on"})
    shell = tab("tenant", reduced_motion=motion)
    page = shell.open()
    expect(page.locator("tr", has_text=sid).get_by_text("working")).to_be_visible()
    assert page.evaluate("document.getAnimations().length > 0") is moves
    acme.delete(f"/v1/sessions/{sid}")


def test_a_login_that_would_be_unsafe_is_refused_and_the_page_says_what_to_do(tab, gateway):
    shell = tab(url=f"http://{ELSEWHERE}:{gateway.port}")
    shell.expect("status of 403")
    shell.expect("Cross-Origin-Opener-Policy header has been ignored")  # for the same reason
    page = shell.open("")
    page.get_by_label("API key").fill(ACME)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("HTTPS")


def test_a_stream_of_a_tab_that_is_left_is_closed(tab, gateway):
    # Those of the tests before this one have been left.
    eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
    shell = tab("tenant")
    shell.open()
    eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 1)
    shell.page.goto("about:blank")
    eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 0)
