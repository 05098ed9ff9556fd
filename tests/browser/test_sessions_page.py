"""The page of all sessions in a real browser: what lives, what waits, what has just ended."""

import json
import time

import pytest
from playwright.sync_api import expect

from browser.agents_of_pages import AGENTS
from gateway.running import ACME, UMBRELLA, RunningGateway, create
from support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

MOST_ROWS = 120
SEEN_S = 1.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    limits = {"sessions_per_tenant": 5000, "sessions_per_key": 5000}
    with RunningGateway(tmp_path_factory.mktemp("s"), agents=AGENTS, limits=limits) as running:
        yield running


@pytest.fixture(autouse=True)
def _an_empty_building(gateway):
    yield
    for secret in (ACME, UMBRELLA):
        with gateway.client(secret) as client:
            for each in client.get("/v1/sessions?limit=1000").json()["sessions"]:
                client.delete(f"/v1/sessions/{each['sessionId']}")


def row(page, session_id):
    """Return the row of a session."""
    return page.locator(".rows tbody tr").filter(has=page.get_by_text(session_id, exact=True))


def prompt(client, session_id, text):
    answer = client.post(f"/v1/sessions/{session_id}/prompt", json={"text": text})
    assert answer.status_code == 202, answer.text


def test_a_death_is_seen_within_a_second_and_without_a_reload(tab, acme):
    page = tab("tenant").open()
    seen_s = []
    for number in range(3):
        create(acme, f"short-{number}")
        expect(row(page, f"short-{number}")).to_contain_text("idle")
        began = time.monotonic()
        acme.delete(f"/v1/sessions/short-{number}")
        page.wait_for_function(
            "id => [...document.querySelectorAll('.rows tr.leaves')]"
            ".some(each => each.textContent.includes(id))",
            arg=f"short-{number}",
        )
        seen_s.append(time.monotonic() - began)
        expect(row(page, f"short-{number}")).to_contain_text("ended: deleted")
    assert min(seen_s) < SEEN_S


def test_a_crash_says_so_in_its_row_which_then_leaves(tab, acme, sid):
    create(acme, sid, blueprint="demo", model="demo")
    page = tab("tenant", clock=True).open()
    expect(row(page, sid)).to_be_visible()
    prompt(acme, sid, "crash")
    expect(row(page, sid)).to_contain_text("ended: crashed")
    page.clock.fast_forward(6_000)
    expect(row(page, sid)).to_have_count(0)


def test_what_waits_for_somebody_is_first_and_counted(tab, acme):
    create(acme, "careful-one", blueprint="careful")
    create(acme, "curious-one", blueprint="curious")
    for number in range(3):
        create(acme, f"later-{number}")
    page = tab("tenant").open()
    expect(page.locator(".rows tbody tr")).to_have_count(5)
    prompt(acme, "careful-one", "42")
    prompt(acme, "curious-one", "hm")
    expect(page.locator(".rows tr.needs")).to_have_count(2)
    first = page.locator(".rows tbody tr .id").all_inner_texts()[:2]
    assert sorted(first) == ["careful-one", "curious-one"]
    expect(page.locator(".summary")).to_contain_text("2 waiting for somebody")
    expect(page.locator("nav .count")).to_have_text("2")
    expect(page).to_have_title("(2) Sessions · Frontdesk")


def test_search_filters_and_order_are_in_the_address_and_a_choice_can_be_gone_back_on(tab, acme):
    create(acme, "bird-1")
    create(acme, "bird-2")
    create(acme, "asker-1", blueprint="curious")
    page = tab("tenant").open()
    expect(page.locator(".rows tbody tr")).to_have_count(3)
    page.get_by_label("blueprint").select_option("parrot")
    expect(page.locator(".rows tbody tr")).to_have_count(2)
    page.get_by_label("sort", exact=True).select_option("oldest")
    expect(page.locator(".rows tbody .id").first).to_have_text("bird-1")
    page.keyboard.press("Escape")
    page.get_by_label("Search ids").fill("d-2")
    expect(page.locator(".rows tbody .id")).to_have_text(["bird-2"])
    assert page.url.endswith("#/sessions?blueprint=parrot&sort=oldest&q=d-2")
    page.reload()
    expect(page.locator(".rows tbody .id")).to_have_text(["bird-2"])
    expect(page.get_by_label("Search ids")).to_have_value("d-2")
    page.go_back()
    page.go_back()
    expect(page.locator(".rows tbody tr")).to_have_count(3)
    expect(page.get_by_label("blueprint")).to_have_value("")
    page.go_forward()
    expect(page.locator(".rows tbody tr")).to_have_count(2)
    expect(page.get_by_label("blueprint")).to_have_value("parrot")


def test_of_a_thousand_rows_at_most_120_are_in_the_page_and_places_are_kept(tab, acme):
    for number in range(1000):
        create(acme, f"row-{number:04}")
    page = tab("tenant").open("#/sessions?sort=oldest")
    table = page.get_by_role("table", name="Sessions")
    expect(table).to_have_attribute("aria-rowcount", "1001")
    expect(page.locator(".summary")).to_contain_text("1,000 live")
    rows = page.locator(".rows")
    for place in (0.5, 1.0):
        rows.evaluate("(box, place) => box.scrollTo(0, box.scrollHeight * place)", place)
        expected = {0.5: "row-0500", 1.0: "row-0999"}[place]
        expect(row(page, expected)).to_be_visible()
        assert page.locator(".rows tbody tr").count() <= MOST_ROWS
    expect(row(page, "row-0999")).to_have_attribute("aria-rowindex", "1001")
    # Who looks at the middle still does when some above it go.
    rows.evaluate("box => box.scrollTo(0, box.scrollHeight / 2)")
    expect(row(page, "row-0500")).to_be_visible()
    before = page.locator(".rows").evaluate(TOP_ROW)
    for number in range(20):
        acme.delete(f"/v1/sessions/row-{number:04}")
    expect(table).to_have_attribute("aria-rowcount", "981")
    expect(page.locator(".summary")).to_contain_text("980 live")
    assert page.locator(".rows").evaluate(TOP_ROW) == before


TOP_ROW = """box => {
  const top = box.getBoundingClientRect().top + box.querySelector("thead").offsetHeight + 20;
  return document.elementFromPoint(box.getBoundingClientRect().left + 300, top)
    .closest("tr").querySelector(".id").textContent;
}"""


def test_a_new_session_is_opened_from_the_page_and_a_refusal_is_told_there(tab, acme, sid):
    create(acme, sid)
    shell = tab("tenant")
    shell.expect("409")
    page = shell.open()
    page.get_by_role("button", name="New session").click()
    dialog = page.get_by_role("dialog", name="New session")
    dialog.get_by_label("Blueprint").select_option("parrot")
    dialog.get_by_label("Model").fill("test")
    dialog.get_by_label("Id").fill(sid)
    assert shell.findings() == []
    dialog.get_by_role("button", name="Open").click()
    expect(dialog.get_by_role("alert")).to_contain_text(sid)
    dialog.get_by_label("Id").fill(f"{sid}-new")
    dialog.get_by_label("First prompt").fill("hello from the page")
    dialog.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name=f"{sid}-new")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("hello from the page ")


def test_ending_asks_by_name_and_is_shown_as_asked_until_it_is_so(tab, acme, sid):
    create(acme, sid, blueprint="deaf")
    prompt(acme, sid, "do not listen")
    page = tab("tenant").open()
    expect(row(page, sid)).to_contain_text("working")
    row(page, sid).hover()
    page.get_by_role("button", name=f"End session {sid}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(sid)
    dialog.get_by_role("button", name="Leave it").click()
    expect(row(page, sid)).to_contain_text("working")
    page.get_by_role("button", name=f"End session {sid}").click()
    page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(row(page, sid)).to_contain_text("stopping")
    expect(row(page, sid)).to_contain_text("ended: deleted")


def test_an_empty_building_tells_how_to_open_the_first_session(tab):
    shell = tab()
    shell.log_in(UMBRELLA)
    page = shell.open()
    expect(page.locator(".empty")).to_contain_text("Nobody is in the building")
    expect(page.locator(".empty")).to_contain_text("/v1/sessions")
    assert shell.findings() == []
    page.locator(".empty").get_by_role("button", name="here").click()
    expect(page.get_by_role("dialog", name="New session")).to_be_visible()


def test_pages_of_two_tenants_never_mix(tab, acme, gateway):
    create(acme, "same")
    create(acme, "only-of-acme")
    with gateway.client(UMBRELLA) as umbrella:
        create(umbrella, "same", blueprint="curious")
        ours, theirs = tab("tenant"), tab()
        theirs.log_in(UMBRELLA)
        ours.open()
        theirs.open()
        expect(ours.page.locator(".rows tbody .b")).to_have_text(["parrot", "parrot"])
        expect(theirs.page.locator(".rows tbody .b")).to_have_text(["curious"])
        acme.delete("/v1/sessions/same")
        expect(row(ours.page, "same")).to_contain_text("ended")
        expect(row(theirs.page, "same")).to_contain_text("idle")
        # What acme's session said is not at the same address of another tenant.
        prompt(acme, "only-of-acme", "a secret of acme's")
        theirs.expect("404")
        theirs.go("#/session/only-of-acme")
        expect(theirs.page.locator("main")).to_contain_text("only-of-acme")
        expect(theirs.page.locator(".empty")).to_be_visible()
        expect(theirs.page.locator("main")).not_to_contain_text("secret")


def test_a_page_opened_late_has_the_past_hour(tab, acme):
    create(acme, "past-1")
    create(acme, "past-2", blueprint="demo", model="demo")
    prompt(acme, "past-2", "crash")
    eventually(lambda: len(acme.get("/v1/sessions").json()["sessions"]) == 1)
    page = tab("tenant").open()
    hour = page.get_by_role("img", name="In the last hour")
    expect(hour).to_be_visible()
    label = hour.get_attribute("aria-label")
    assert "sessions began" in label
    assert "ended: crashed" in label
    assert page.locator(".hour rect.starts").count() >= 1
    assert page.locator(".hour rect.failed").count() >= 1
    # What happens now is counted as it happens.
    before = page.locator(".hour figcaption").inner_text()
    create(acme, "present")
    expect(page.locator(".hour figcaption")).not_to_have_text(before)
    acme.delete("/v1/sessions/present")
    expect(page.locator(".hour figcaption")).to_contain_text("deleted")


def sse(*events):
    return "".join(f"event: {name}\ndata: {json.dumps(said)}\n\n" for name, said in events)


def test_more_sessions_than_a_page_takes_are_counted_and_a_filter_is_asked_for(tab, acme, sid):
    create(acme, sid, blueprint="curious")
    shell = tab("tenant")
    counts = {
        "total": 20_500,
        "byState": {"idle": 20_499, "working": 1},
        "byTenant": {},
        "byBlueprint": {"parrot": 20_499, "curious": 1},
    }
    whole = sse(("too_many", counts), ("now", {"at": int(time.time() * 1000)}))

    def answer(route):
        if "blueprint" in route.request.url:
            route.continue_()
        else:
            route.fulfill(body=whole, content_type="text/event-stream")

    shell.page.route("**/v1/feed*", answer)
    page = shell.open()
    expect(page.locator(".many")).to_contain_text("20,500 sessions are too many")
    assert shell.findings() == []
    page.locator(".many").get_by_role("link", name="curious").click()
    expect(page.locator(".rows tbody .id")).to_have_text([sid])
    assert "blueprint=curious" in page.url
    page.get_by_label("blueprint").select_option("")
    expect(page.locator(".many")).to_be_visible()


def test_many_ends_are_said_as_one_to_who_listens(tab, acme):
    for number in range(12):
        create(acme, f"flood-{number}")
    page = tab("tenant").open()
    expect(page.locator(".rows tbody tr")).to_have_count(12)
    page.evaluate(
        """() => {
          window.heard = [];
          const region = document.querySelector("main > .hidden[aria-live=polite]");
          new MutationObserver(() => heard.push(region.textContent.trim()))
            .observe(region, {characterData: true, childList: true, subtree: true});
        }"""
    )
    for number in range(12):
        acme.delete(f"/v1/sessions/flood-{number}")
    expect(page.locator("main > .hidden[aria-live=polite]")).to_contain_text("flood-11")
    heard = {each for each in page.evaluate("heard") if each}
    assert 1 <= len(heard) <= 4


def test_an_operator_sees_whose_sessions_they_are_and_not_what_is_said(tab, acme, gateway, sid):
    create(acme, sid)
    prompt(acme, sid, "a secret of acme's")
    shell = tab("operator")
    page = shell.open()
    expect(row(page, sid).locator(".t")).to_have_text("acme")
    expect(page.get_by_role("button", name="New session")).to_have_count(0)
    row(page, sid).locator("a").click()
    expect(page.locator(".empty")).to_contain_text("operators_read_text")
    expect(page.locator(".title .state")).to_have_text("idle")
    expect(page.locator(".facts")).to_contain_text("acme")
    expect(page.locator("main")).not_to_contain_text("secret")
    assert shell.findings() == []


def test_an_operator_ends_a_session_of_any_tenant(tab, acme, sid):
    create(acme, sid)
    page = tab("operator").open()
    row(page, sid).hover()
    page.get_by_role("button", name=f"End session {sid}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"{sid} of acme")
    dialog.get_by_role("button", name="End it").click()
    expect(row(page, sid)).to_contain_text("ended")


def test_an_operator_aborts_a_turn_of_any_tenant(tab, acme, sid):
    create(acme, sid, blueprint="patient")
    prompt(acme, sid, "work")
    page = tab("operator").open(f"#/session/acme/{sid}")
    expect(page.locator(".title .state")).to_have_text("working")
    page.get_by_role("button", name="Abort turn").click()
    expect(page.locator(".title .state")).to_have_text("idle")
    expect(page.get_by_role("button", name="Abort turn")).to_have_count(0)
    page.get_by_role("button", name="End session").click()
    page.get_by_role("button", name="End it").click()
    expect(page.locator(".ending")).to_contain_text("Somebody ended it.")


@pytest.mark.parametrize("look", ["light", "dark", "narrow"])
def test_the_list_is_accessible_in_every_look(tab, acme, look):
    create(acme, "one")
    create(acme, "two", blueprint="careful")
    prompt(acme, "two", "42")
    create(acme, "three", blueprint="demo", model="demo")
    shell = tab("tenant", size="narrow") if look == "narrow" else tab("tenant", color_scheme=look)
    page = shell.open()
    expect(page.locator(".rows tr.needs")).to_have_count(1)
    prompt(acme, "three", "crash")
    expect(page.locator(".rows tr.leaves")).to_have_count(1)
    assert shell.sideways() <= 0
    page.emulate_media(reduced_motion="reduce")
    assert shell.findings() == []


def test_rows_are_walked_by_the_arrow_keys(tab, acme):
    for number in range(3):
        create(acme, f"key-{number}")
    page = tab("tenant").open("#/sessions?sort=oldest")
    expect(page.locator(".rows tbody tr")).to_have_count(3)
    page.keyboard.press("/")
    expect(page.get_by_label("Search ids")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(row(page, "key-1").locator("a")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="key-0")).to_be_visible()
