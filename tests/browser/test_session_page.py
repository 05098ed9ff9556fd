"""One session's page in a real browser: said as it is said, answered in place, ended by name."""

import pytest
from playwright.sync_api import expect

from browser.agents_of_pages import AGENTS, HOSTILE
from browser.chromium import SECRETS
from gateway.running import RunningGateway, create
from support.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

MOST_ENTRIES = 260


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    tables = {"streams": {"kept_events": 60}}
    with RunningGateway(tmp_path_factory.mktemp("s"), agents=AGENTS, **tables) as running:
        yield running


def prompt(client, session_id, text):
    answer = client.post(f"/v1/sessions/{session_id}/prompt", json={"text": text})
    assert answer.status_code == 202, answer.text


def state_of(client, session_id):
    return client.get(f"/v1/sessions/{session_id}").json()["state"]


def said(page):
    """Return what the transcript shows."""
    return page.get_by_role("log")


def test_a_prompt_is_sent_by_enter_and_answered_as_it_is_said(tab, acme, sid):
    create(acme, sid, blueprint="slow")
    page = tab("tenant").open(f"#/session/{sid}")
    box = page.get_by_label("Prompt", exact=True)
    box.fill("200")
    box.press("Enter")
    expect(page.locator(".title .state")).to_have_text("working")
    # Some of it is there while the rest is still to come.
    expect(said(page)).to_contain_text("0 1 2 ")
    expect(said(page)).to_contain_text("198 199")
    expect(page.locator(".title .state")).to_have_text("idle")
    expect(box).to_have_value("")
    assert said(page).locator("article p").all_inner_texts() == [
        "200",
        " ".join(map(str, range(200))) + " ",
    ]


def test_a_new_line_is_no_end_of_a_prompt(tab, acme, sid):
    create(acme, sid)
    page = tab("tenant").open(f"#/session/{sid}")
    box = page.get_by_label("Prompt", exact=True)
    box.fill("one")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    box.press("Control+Enter")
    expect(said(page).locator(".user p")).to_have_text("one\ntwo")


def test_an_approval_is_given_in_place(tab, acme, sid):
    create(acme, sid, blueprint="careful")
    page = tab("tenant").open(f"#/session/{sid}")
    prompt(acme, sid, "42")
    expect(page.locator("main > .hidden[aria-live=polite]")).to_have_text(
        "Needs approval: refund. "
    )
    expect(page.locator(".title .state")).to_have_text("needs approval")
    asks = page.locator(".asks.open")
    expect(asks).to_contain_text("costs money")
    expect(asks.locator(".fields")).to_have_text("order42")
    asks.get_by_role("button", name="Approve").click()
    expect(said(page)).to_contain_text("refund approved")
    expect(page.locator(".asks h2")).to_have_text("approval: approved")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()


def test_an_approval_is_refused_with_a_reason_and_without_one(tab, acme, sid):
    create(acme, sid, blueprint="careful")
    page = tab("tenant").open(f"#/session/{sid}")
    for reason, told in (("not today", "refund rejected: not today"), ("", "rejected: None")):
        prompt(acme, sid, "42")
        page.locator(".asks.open").get_by_role("button", name="Reject").click()
        box = page.get_by_label("Why not?")
        expect(box).to_be_focused()
        box.press("Escape")
        page.locator(".asks.open").get_by_role("button", name="Reject").click()
        box.fill(reason)
        box.press("Enter")
        expect(said(page)).to_contain_text(told)
        expect(page.locator(".asks.open")).to_have_count(0)


def test_a_question_is_answered_in_place(tab, acme, sid):
    create(acme, sid, blueprint="curious")
    page = tab("tenant").open(f"#/session/{sid}")
    prompt(acme, sid, "hm")
    expect(page.locator(".title .state")).to_have_text("asks a question")
    page.get_by_label("Your answer").fill("the blue one")
    page.get_by_role("button", name="Answer").click()
    expect(said(page)).to_contain_text("so it is the blue one")
    expect(page.locator(".asks .note")).to_have_text("the blue one")


def test_a_question_that_somebody_else_answered_is_open_no_more(tab, acme, sid):
    create(acme, sid, blueprint="curious")
    prompt(acme, sid, "hm")
    shell = tab("tenant", clock=True)
    page = shell.open(f"#/session/{sid}")
    expect(page.get_by_label("Your answer")).to_be_visible()
    ref = acme.get(f"/v1/sessions/{sid}/status").json()["pendingQuestions"][0]["ref"]
    acme.post(f"/v1/sessions/{sid}/respond", json={"ref": ref, "response": "red"})
    expect(said(page)).to_contain_text("so it is red")
    expect(page.locator(".asks.open")).to_have_count(0)


def test_a_turn_is_aborted_and_the_session_lives_on(tab, acme, sid):
    create(acme, sid, blueprint="patient")
    page = tab("tenant").open(f"#/session/{sid}")
    prompt(acme, sid, "work")
    page.get_by_role("button", name="Abort turn").click()
    expect(said(page)).to_contain_text("The turn was cut short")
    expect(page.locator(".title .state")).to_have_text("idle")
    expect(page.get_by_role("button", name="Abort turn")).to_have_count(0)
    assert state_of(acme, sid) == "idle"


def test_a_text_is_added_to_the_turn_under_way(tab, acme, sid):
    create(acme, sid, blueprint="patient")
    prompt(acme, sid, "work")
    page = tab("tenant").open(f"#/session/{sid}")
    page.get_by_label("Prompt", exact=True).fill("go")
    page.get_by_role("button", name="Add to this turn").click()
    expect(said(page)).to_contain_text("done")
    expect(said(page).get_by_role("heading", name="added meanwhile")).to_be_visible()


def test_prompts_that_wait_are_shown_until_their_turn_begins(tab, acme, sid):
    create(acme, sid, blueprint="patient")
    prompt(acme, sid, "first")
    page = tab("tenant").open(f"#/session/{sid}")
    expect(page.locator(".title .state")).to_have_text("working")
    for text in ("second", "third"):
        page.get_by_label("Prompt", exact=True).fill(text)
        page.get_by_label("Prompt", exact=True).press("Enter")
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("")
    expect(page.locator(".queue li")).to_have_text(["waits second", "waits third"])
    acme.post(f"/v1/sessions/{sid}/abort", json={})
    expect(page.locator(".queue li")).to_have_text(["waits third"])
    expect(said(page).locator(".user").last).to_contain_text("second")


def test_stopping_asks_by_name_and_says_why_it_ended(tab, acme, sid):
    create(acme, sid)
    shell = tab("tenant")
    page = shell.open(f"#/session/{sid}")
    page.get_by_role("button", name="End session").click()
    expect(page.get_by_role("dialog")).to_contain_text(sid)
    expect(page.get_by_role("dialog")).to_contain_text("what was said in it is erased")
    page.keyboard.press("Enter")  # what has the focus is the harmless one
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".title .state")).to_have_text("idle")
    page.get_by_role("button", name="End session").click()
    page.get_by_role("button", name="End it").click()
    expect(page.get_by_role("heading", name="This session has ended")).to_be_visible()
    expect(page.locator(".ending")).to_contain_text("Somebody ended it.")
    expect(page.locator(".ending")).to_contain_text("in the log")
    expect(page.get_by_label("Prompt", exact=True)).to_have_count(0)
    assert shell.findings() == []


def test_a_session_that_ends_while_its_page_asks_for_its_figures_is_shown_as_ended(tab, acme, sid):
    create(acme, sid)
    page = tab("tenant").open(f"#/session/{sid}")
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()

    def end_first(route):
        acme.delete(f"/v1/sessions/{sid}")
        route.continue_()

    page.route("**/status", end_first)
    with page.expect_response("**/status") as answer:
        prompt(acme, sid, "hello there")
    assert answer.value.status == 404
    expect(page.get_by_role("heading", name="This session has ended")).to_be_visible()
    expect(page.locator(".ending")).to_contain_text("Somebody ended it.")
    expect(said(page)).to_contain_text("hello there")


def test_a_crash_says_why_and_what_was_said_stays(tab, acme, sid):
    create(acme, sid, blueprint="demo", model="demo")
    page = tab("tenant").open(f"#/session/{sid}")
    prompt(acme, sid, "crash")
    expect(page.locator(".ending.failed")).to_contain_text("Its agent raised an error.")
    expect(said(page)).to_contain_text("raise an error")
    expect(page.locator(".title .state")).to_have_text("ended")


def test_a_session_that_nobody_knows_is_said_to_be_unknown(tab):
    shell = tab("tenant")
    shell.expect("404")
    page = shell.open("#/session/nobody-knows-it")
    expect(page.locator("main .empty")).to_contain_text("nobody-knows-it")


def test_whatever_is_said_is_text_and_what_cannot_be_seen_is_made_visible(tab, acme, sid):
    model = "<img src=x onerror=alert(1)>\u202e"
    create(acme, sid, blueprint="hostile", model=model)
    prompt(acme, sid, HOSTILE[0])
    for size in ("wide", "narrow"):
        shell = tab("tenant", size=size)
        page = shell.open(f"#/session/{sid}")
        expect(page.locator(".asks.open")).to_contain_text(HOSTILE[0])
        text = said(page).text_content()
        assert HOSTILE[1] in text
        assert "⟨U+202E⟩gnp.exe⟨U+202C⟩" in text
        assert "␀ and ␛[31mred␛[0m␇" in text
        assert HOSTILE[5] in text
        assert "\u202e" not in page.locator("main").text_content()
        expect(page.locator(".facts")).to_contain_text("onerror=alert(1)>⟨U+202E⟩")
        made = "main :is(img, script, svg, iframe, [onerror], a[href^='javascript'])"
        assert page.locator(made).count() == 0
        # The line is a million characters long; the page holds a part, until all is asked for.
        assert len(text) < 50_000
        assert shell.sideways() <= 0
        page.get_by_role("button", name="Show all 1M characters").click()
        assert shell.sideways() <= 0
        assert shell.findings() == []
        shell.go("#/sessions")
        expect(page.locator(".rows td.m").first).to_contain_text("⟨U+202E⟩")
        assert page.locator(made.replace("svg, ", "")).count() == 0


def test_hostile_addresses_are_text_as_well(tab):
    shell = tab("tenant")
    shell.expect("404|422|400|403")
    for name in ("%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "%E2%80%AEevil", "a%2F..%2Fb"):
        page = shell.open(f"#/session/{name}")
        expect(page.locator("main h1")).to_be_visible()
        assert page.locator("main img").count() == 0
        assert "\u202e" not in page.locator("main").text_content()


def test_a_long_session_is_a_bounded_page_and_older_parts_are_a_step_away(tab, acme, sid):
    create(acme, sid, blueprint="busy")
    prompt(acme, sid, "600")
    eventually(lambda: state_of(acme, sid) == "idle")
    page = tab("tenant").open(f"#/session/{sid}")
    entries = said(page).locator("> *")
    expect(said(page)).to_contain_text("tool_599")
    assert entries.count() <= MOST_ENTRIES
    shown = set()
    for _ in range(8):
        shown |= set(said(page).locator(".tool .state").all_inner_texts())
        if "tool_0" in shown:
            break
        said(page).evaluate("box => box.scrollTo(0, 0)")
        first = said(page).locator(".tool .state").first.inner_text()
        page.get_by_role("button", name="Show older").click()
        expect(said(page).locator(".tool .state").first).not_to_have_text(first)
        assert entries.count() <= MOST_ENTRIES
    assert {f"tool_{number}" for number in range(600)} <= shown
    page.get_by_role("button", name="Jump to newest").click()
    expect(said(page)).to_contain_text("all done")
    expect(page.get_by_role("button", name="Jump to newest")).to_have_count(0)


def test_who_has_scrolled_up_stays_there_and_can_jump_to_the_newest(tab, acme, sid):
    create(acme, sid, blueprint="busy")
    prompt(acme, sid, "100")
    eventually(lambda: state_of(acme, sid) == "idle")
    page = tab("tenant").open(f"#/session/{sid}")
    expect(said(page)).to_contain_text("all done")
    assert said(page).evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 5
    said(page).evaluate("box => box.scrollTo(0, 200)")
    expect(page.get_by_role("button", name="Jump to newest")).to_be_visible()
    prompt(acme, sid, "20")
    expect(said(page).locator(".user")).to_have_count(2)
    assert said(page).evaluate("box => box.scrollTop") == 200
    page.get_by_role("button", name="Jump to newest").click()
    eventually(
        lambda: (
            said(page).evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 5
        )
    )


def test_what_the_stream_holds_no_more_is_shown_from_the_history(tab, acme, sid):
    create(acme, sid)
    words = [f"{number} {'many words ' * 10}" for number in range(12)]
    for text in words:
        prompt(acme, sid, text)
        eventually(lambda: state_of(acme, sid) == "idle")
    page = tab("tenant").open(f"#/session/{sid}")
    expect(said(page)).to_contain_text("11 many")
    expect(said(page)).not_to_contain_text("5 many words")
    page.get_by_role("button", name="Show older").click()
    expect(said(page).locator(".user p").first).to_have_text(words[0].strip())
    # Each once, in order, where the two meet.
    shown = said(page).locator(".user p").all_inner_texts()
    assert [each.split()[0] for each in shown] == [str(number) for number in range(12)]
    answers = said(page).locator("article:not(.user) p").all_inner_texts()
    assert [each.split()[0] for each in answers] == [str(number) for number in range(12)]
    expect(page.get_by_role("button", name="Show older")).to_have_count(0)


def test_the_pieces_of_a_text_are_not_said_to_who_listens(tab, acme, sid):
    create(acme, sid, blueprint="slow")
    page = tab("tenant").open(f"#/session/{sid}")
    page.evaluate(
        """() => {
          window.heard = 0;
          for (const each of document.querySelectorAll("[aria-live=polite], [role=status]"))
            new MutationObserver(() => heard++)
              .observe(each, {characterData: true, childList: true, subtree: true});
        }"""
    )
    prompt(acme, sid, "100")
    expect(said(page)).to_contain_text("98 99")
    assert page.evaluate("heard") <= 2
    assert said(page).get_attribute("aria-live") == "off"


def test_a_tab_on_a_session_has_one_stream(tab, acme, sid, gateway):
    create(acme, sid)
    # Those of the tests before this one have been left.
    eventually(lambda: len(gateway.gateway.streams) == 0)
    page = tab("tenant").open()
    eventually(lambda: len(gateway.gateway.streams) == 1)
    page.get_by_role("link", name=sid).click()
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
    prompt(acme, sid, "hello there")
    expect(said(page)).to_contain_text("hello there")
    eventually(lambda: len(gateway.gateway.streams) == 1)
    page.get_by_role("link", name="Sessions", exact=True).first.click()
    expect(page.locator(".rows")).to_contain_text(sid)
    eventually(lambda: len(gateway.gateway.streams) == 1)


def test_by_keyboard_alone_from_login_to_an_approval_to_the_end(tab, acme, sid):
    create(acme, sid, blueprint="careful")
    prompt(acme, sid, "42")
    shell = tab()
    page = shell.open("")
    keys = page.keyboard
    page.wait_for_selector("#key")

    def tab_to(name, role):
        target = page.get_by_role(role, name=name).first
        for _ in range(40):
            if target.evaluate("each => each === document.activeElement"):
                return
            keys.press("Tab")
        raise AssertionError(f"Tab never comes to {name}")

    while page.evaluate("document.activeElement.id") != "key":
        keys.press("Tab")
    keys.type(SECRETS["tenant"])
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    keys.press("/")
    keys.type(sid)
    # Under its head: the list has made up its mind.
    expect(page.get_by_role("row")).to_have_count(2)
    keys.press("ArrowDown")
    keys.press("Enter")
    expect(page.get_by_role("heading", name=sid)).to_be_visible()
    expect(page.locator(".asks.open")).to_be_visible()
    tab_to("Approve", "button")
    keys.press("Enter")
    expect(said(page)).to_contain_text("refund approved")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    keys.type("again")
    keys.press("Enter")
    expect(page.locator(".asks.open")).to_be_visible()
    keys.press("Shift+Tab")
    expect(page.locator(".asks.open").get_by_role("button", name="Reject")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_label("Why not?")).to_be_focused()
    keys.type("no more")
    keys.press("Enter")
    expect(said(page)).to_contain_text("rejected: no more")
    keys.press("Shift+Tab")
    tab_to("Skip to the content", "link")
    tab_to("End session", "button")
    keys.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    keys.press("Tab")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="This session has ended")).to_be_visible()
    expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("look", ["light", "dark", "narrow"])
def test_a_session_is_accessible_in_every_look(tab, acme, sid, look):
    create(acme, sid, blueprint="demo", model="demo")
    prompt(acme, sid, "think, tool, approve, ask")
    shell = tab("tenant", size="narrow") if look == "narrow" else tab("tenant", color_scheme=look)
    page = shell.open(f"#/session/{sid}")
    page.emulate_media(reduced_motion="reduce")
    expect(page.locator(".asks.open")).to_be_visible()
    for each in said(page).locator("summary").all():
        each.click()
    assert shell.sideways() <= 0
    assert shell.findings() == []
    page.locator(".asks.open").get_by_role("button", name="Reject").click()
    assert shell.findings() == []
    page.get_by_label("Why not?").press("Enter")
    expect(page.get_by_label("Your answer")).to_be_visible()
    assert shell.findings() == []


def test_an_operator_reads_what_is_said_where_that_is_on_and_the_page_says_so(tab, tmp_path):
    tables = {"server": {"operators_read_text": True}}
    with RunningGateway(tmp_path, agents=AGENTS, **tables) as gateway, gateway.client() as acme:
        create(acme, "read", blueprint="careful")
        shell = tab("operator", url=gateway.url)
        page = shell.open("#/session/acme/read")
        expect(page.locator(".stale")).to_contain_text("operators_read_text is on")
        prompt(acme, "read", "of acme")
        expect(said(page).locator(".user p")).to_have_text("of acme")
        # To look is not to answer.
        expect(page.locator(".asks.open")).to_contain_text("refund")
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)
        expect(page.get_by_label("Prompt", exact=True)).to_have_count(0)
        assert shell.findings() == []
        page.get_by_role("button", name="Abort turn").click()
        expect(page.locator(".title .state")).to_have_text("idle")
        page.get_by_role("button", name="End session").click()
        page.get_by_role("button", name="End it").click()
        expect(page.locator(".ending")).to_contain_text("Somebody ended it.")
