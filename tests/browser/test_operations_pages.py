"""Ends, Nodes and Usage in a real browser: what they show, choose, ask before, and give away."""

import csv
import io

import pytest
from playwright.sync_api import expect

from browser.chromium import WAIT_MS
from gateway.cluster_running import cluster
from gateway.running import OPERATOR, UMBRELLA, create, turn_of
from support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

REASONS = ("deleted", "crashed: RuntimeError", "lost", "expired", "signalled: 9 (SIGKILL)")


def an_end(number):
    """An end as the gateway tells it, one of a thousand."""
    return {
        "tenantId": "acme", "sessionId": f"s-{number}", "fence": str(number), "ageMs": 61_000,
        "at": 1_795_000_000_000, "reason": REASONS[number % 5], "turns": number, "tokens": 5,
        "costUsd": 0.1, "blueprint": "parrot", "model": "test", "keyId": "k", "node": "",
        "logId": f"{number:016x}",
    }  # fmt: skip


def answer_with(page, path, answer):
    """Have the page get this answer under a path."""
    page.route(f"**/{path}*", lambda route: route.fulfill(json=answer))


# -- ends ------------------------------------------------------------------------------------------


def test_a_session_that_ends_is_there_without_a_reload_and_says_why(tab, acme, sid):
    create(acme, sid)
    turn_of(acme, sid, "hello there")
    page = tab("tenant").open("#/ends")
    expect(page.get_by_role("row", name=sid)).to_have_count(0)
    acme.delete(f"/v1/sessions/{sid}")
    row = page.get_by_role("row").filter(has=page.get_by_text(sid, exact=True))
    expect(row).to_contain_text("deleted")
    expect(row).to_contain_text("Somebody ended it.")
    expect(row.locator(".turns")).to_have_text("1")
    expect(row.locator("code")).to_have_text(acme.get("/v1/ends").json()["ends"][0]["logId"])


def test_of_a_thousand_ends_few_rows_are_in_the_page_and_all_can_be_scrolled_to(tab):
    shell = tab("tenant")
    page = shell.page
    answer_with(page, "v1/ends", {"ends": [an_end(n) for n in range(1000)], "partial": False})
    shell.open("#/ends")
    expect(page.locator("h1 + p")).to_contain_text("the last 1,000 · 600 by a failure")
    expect(page.get_by_role("table")).to_have_attribute("aria-rowcount", "1001")
    rows = page.locator("tbody tr:not(.space)")
    expect(rows.first).to_contain_text("s-0")
    assert rows.count() <= 120
    page.locator(".rows").evaluate("place => place.scrollTo(0, place.scrollHeight)")
    expect(rows.last).to_contain_text("s-999")
    expect(rows.last).to_have_attribute("aria-rowindex", "1001")
    assert rows.count() <= 120


def test_ends_are_searched_and_chosen_by_reason_and_the_address_keeps_it(tab):
    shell = tab("tenant")
    page = shell.page
    answer_with(page, "v1/ends", {"ends": [an_end(n) for n in range(100)], "partial": True})
    shell.open("#/ends")
    expect(page.locator("h1 + p")).to_contain_text("missing")
    page.get_by_label("reason").select_option("crashed")
    rows = page.locator("tbody tr:not(.space)")
    expect(rows).to_have_count(20)
    page.get_by_role("searchbox").fill("s-1")
    expect(rows).to_have_count(3)  # 1, 11, 16
    assert page.url.endswith("#/ends?reason=crashed&q=s-1")
    page.reload()
    expect(rows).to_have_count(3)
    page.get_by_role("searchbox").fill(f"{31:016x}")
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox").fill("nobody")
    expect(page.get_by_text("None of 100 ends matches.")).to_be_visible()
    assert shell.findings() == []


def test_who_has_no_ends_is_told_so(tab):
    shell = tab("operator")
    answer_with(shell.page, "ops/ends", {"ends": [], "partial": False})
    page = shell.open("#/ends")
    expect(page.get_by_text("No session has ended")).to_be_visible()


# -- nodes -----------------------------------------------------------------------------------------


def a_node(name, **facts):
    """A node as the gateway tells it."""
    usual = {
        "name": name, "incarnation": f"i-{name}", "state": "alive", "leaseLeftMs": 9000,
        "sessions": 4, "draining": False, "version": "1.0.0", "configDigest": "a" * 16,
        "answering": False,
    }  # fmt: skip
    return usual | facts


def test_a_gateway_that_is_alone_says_so_with_its_numbers(tab):
    page = tab("operator").open("#/nodes")
    expect(page.get_by_text("This gateway is alone.")).to_be_visible()
    expect(page.locator("dl")).to_contain_text("takes sessions")


def test_nodes_that_are_not_well_or_not_alike_are_marked_in_words(tab):
    shell = tab("operator")
    nodes = [
        a_node("one", answering=True), a_node("two", sessions=8), a_node("three", draining=True),
        a_node("four", state="suspect", leaseLeftMs=-1), a_node("five", configDigest="b" * 16),
        a_node("six", version="0.9.0"),
    ]  # fmt: skip
    answer_with(shell.page, "ops/nodes", {"nodes": nodes})
    page = shell.open("#/nodes")
    expect(page.locator("h1 + p")).to_contain_text("6 in all · 1 not well · 28 sessions")
    row = {name: page.get_by_role("row", name=name) for name in ("one", "three", "four", "six")}
    expect(row["one"]).to_contain_text("answers here")
    expect(row["three"]).to_contain_text("draining")
    expect(row["three"].get_by_role("button")).to_have_count(0)
    expect(row["four"]).to_contain_text("suspect")
    expect(row["four"]).to_contain_text("over")
    expect(row["six"]).to_contain_text("0.9.0 differs")
    expect(page.get_by_role("status").filter(has_text="not the same")).to_contain_text(
        "five differ"
    )
    assert shell.findings() == []


def test_draining_asks_first_and_is_shown_as_asked_until_it_is_so(tab):
    with cluster("one", "two") as nodes:
        shell = tab("operator", url=nodes[0].url)
        page = shell.open("#/nodes")
        button = page.get_by_role("button", name="Drain two")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Drain two?")
        expect(dialog.get_by_role("button", name="Leave it")).to_be_focused()
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(button).to_be_focused()
        assert not nodes[1].gateway.draining
        page.keyboard.press("Enter")
        dialog.get_by_role("button", name="Drain it").click()
        row = page.get_by_role("row", name="two")
        expect(row).to_contain_text("drain")
        expect(button).to_have_count(0)
        # The node says so with its next renewal.
        expect(row).to_contain_text("draining", timeout=WAIT_MS)
        eventually(lambda: not nodes[1].gateway.takes_sessions)
        assert nodes[0].gateway.takes_sessions


# -- usage -----------------------------------------------------------------------------------------


@pytest.fixture
def both(gateway, acme, sid):
    """What two tenants have used."""
    create(acme, sid)
    turn_of(acme, sid, "one two three")
    with gateway.client(UMBRELLA) as umbrella:
        create(umbrella, sid)
        turn_of(umbrella, sid, "one")


def test_usage_is_by_key_for_a_tenant_and_by_tenant_too_for_an_operator(tab, acme, both):
    page = tab("tenant").open("#/usage")
    table = page.get_by_role("table")
    expect(table).to_contain_text("k-acme")
    expect(table).not_to_contain_text("umbrella")
    used = acme.get("/v1/usage").json()["tenant"]
    expect(page.locator("h1 + p")).to_contain_text(f"{used['prompts']} prompts")
    page = tab("operator").open("#/usage")
    for name in ("acme", "k-acme", "umbrella", "k-umbrella"):
        expect(page.get_by_role("cell", name=name, exact=True)).to_be_visible()


def test_usage_is_saved_as_a_file_without_any_address_of_it(tab, gateway, both):
    shell = tab("operator")
    page = shell.open("#/usage")
    page.get_by_role("cell", name="umbrella", exact=True).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    assert download.value.suggested_filename == "frontdesk-usage.csv"
    # Made in the page: nothing was asked for by its address.
    assert download.value.url.startswith("blob:")
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    with gateway.client(OPERATOR) as operator:
        expected = operator.get("/ops/usage").json()["rows"]
    assert {(row["tenantId"], row["keyId"], row["totalTokens"]) for row in rows} == {
        (row["tenantId"], row["keyId"], str(row["totalTokens"])) for row in expected
    }


def test_no_name_is_a_formula_where_the_file_is_opened(tab):
    shell = tab("operator")
    numbers = dict.fromkeys(
        ("prompts", "promptTokens", "completionTokens", "cachedTokens", "totalTokens"), 1
    )
    row = {"tenantId": "=1+1", "keyId": '@x",\n', **numbers, "costUsd": 0, "unknownTurns": 0}
    answer_with(shell.page, "ops/usage", {"rows": [row], "next": None})
    page = shell.open("#/usage")
    page.get_by_role("cell", name="=1+1").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    (saved,) = csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8")))
    assert (saved["tenantId"], saved["keyId"]) == ("'=1+1", "'@x\",\n")


def test_budgets_say_what_is_left(tab):
    shell = tab("tenant")
    numbers = dict.fromkeys(
        ("prompts", "promptTokens", "completionTokens", "cachedTokens", "totalTokens"), 1
    )
    rows = [{"keyId": "k", "day": None, "model": None, **numbers, "costUsd": 1, "unknownTurns": 2}]
    budget = {"budget": "cost_usd_per_day", "scope": "per_tenant", "limit": 5, "used": 1, "left": 4,
              "resetsAt": 1_795_392_000_000}  # fmt: skip
    answer_with(shell.page, "v1/usage", {"rows": rows, "budgets": [budget], "next": "more"})
    page = shell.open("#/usage")
    expect(page.locator("dl")).to_contain_text("$4.00 left of $5.00")
    expect(page.get_by_text("What 2 turns used is not among it")).to_be_visible()
    expect(page.get_by_text("There are more keys than these.")).to_be_visible()
    assert shell.findings() == []
