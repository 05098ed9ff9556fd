"""`frontdesk top`, by Textual's own pilot: what it shows, and that it only looks unless told."""

import asyncio
import time

import pytest
from textual.widgets import DataTable, Input, Static

from frontdesk.cli import top_screen
from frontdesk.cli.exit_codes import CommandFailed
from frontdesk.cli.top_screen import Keys, Question, TopScreen
from frontdesk.client import Now, RowChanges, SessionRow, SnapshotPage, TooManyRows
from frontdesk.client.errors import CLASS_OF_CODE, UnreachableError
from frontdesk.schemas.row_schemas import GoneRow

pytestmark = pytest.mark.anyio
WAIT_S = 30


def row(session_id, **more):
    now_ms = round(time.time() * 1000)
    fields = {
        "tenant_id": "acme", "fence": "1", "state": "idle", "created_at": now_ms - 3_600_000,
        "last_activity_at": now_ms - 60_000, "blueprint": "parrot", "model": "test", "turns": 1,
        "tokens": 10, "cost_usd": 0.5, "approvals": 0, "questions": 0, "key_id": "k", "node": "n",
    }  # fmt: skip
    return SessionRow(session_id=session_id, **fields | more)


def snapshot(*rows):
    return SnapshotPage(rows=rows, first=True, last=True, total=len(rows))


class Feed:
    """A feed that says what a test has it say."""

    url = "http://desk.example"

    def __init__(self, *events, of_operator=False):
        self.of_operator, self.stopped = of_operator, []
        self._said = asyncio.Queue()
        for event in events:
            self.say(event)

    def say(self, event):
        self._said.put_nowait(event)

    async def events(self):
        while True:
            event = await self._said.get()
            if isinstance(event, Exception):
                raise event
            yield event

    async def stop(self, name):
        self.stopped.append(str(name))


def names(screen):
    table = screen.query_one("#rows", DataTable)
    return [str(table.get_row_at(at)[0]) for at in range(table.row_count)]


def status(screen):
    return str(screen.query_one("#status", Static).render())


async def shown(pilot, condition):
    """Draw until a condition holds."""
    deadline = time.monotonic() + WAIT_S
    while True:
        await pilot.pause()
        pilot.app.draw()
        if condition():
            return
        assert time.monotonic() < deadline, (names(pilot.app), status(pilot.app))


async def test_what_waits_for_somebody_is_first_and_changes_are_shown():
    feed = Feed(snapshot(row("quiet"), row("asking", approvals=1, state="waiting_approval")))
    async with TopScreen(feed, actions=False).run_test(size=(120, 20)) as pilot:
        await shown(pilot, lambda: names(pilot.app) == ["asking", "quiet"])
        assert "2 sessions, 1 wait for somebody" in status(pilot.app)
        table = pilot.app.query_one("#rows", DataTable)
        assert [str(cell) for cell in table.get_row("asking")][:4] == [
            "asking", "waiting approval", "1 approval", "1h",
        ]  # fmt: skip
        feed.say(RowChanges(changed=(row("quiet", questions=2),), gone=(), left=()))
        await shown(pilot, lambda: "2 questions" in str(table.get_row("quiet")[2]))
        gone = GoneRow(tenant_id="acme", session_id="asking", fence="1", reason="normal", at=1)
        feed.say(RowChanges(changed=(), gone=(gone,), left=()))
        await shown(pilot, lambda: names(pilot.app) == ["quiet"])


@pytest.mark.slow
async def test_an_operator_sees_tenants_and_hostile_ids_stay_text():
    hostile = "\x1b[2J[red]x[/red]"
    feed = Feed(snapshot(row(hostile)), of_operator=True)
    async with TopScreen(feed, actions=False).run_test(size=(120, 20)) as pilot:
        await shown(pilot, lambda: names(pilot.app) == ["acme/\\x1b[2J[red]x[/red]"])


async def test_it_only_looks_unless_it_was_started_to_act():
    feed = Feed(snapshot(row("one")))
    async with TopScreen(feed, actions=False).run_test(size=(100, 20)) as pilot:
        await shown(pilot, lambda: names(pilot.app) == ["one"])
        await pilot.press("x")
        assert not isinstance(pilot.app.screen, Question)
    assert feed.stopped == []


@pytest.mark.parametrize(("key", "stopped"), [("y", ["acme/one"]), ("n", []), ("escape", [])])
async def test_with_actions_it_asks_before_it_stops_a_session(key, stopped):
    feed = Feed(snapshot(row("one")), of_operator=True)
    async with TopScreen(feed, actions=True).run_test(size=(100, 20)) as pilot:
        await shown(pilot, lambda: names(pilot.app) == ["acme/one"])
        await pilot.press("x")
        assert isinstance(pilot.app.screen, Question)
        assert "what was said in it stays its tenant's" in str(
            pilot.app.screen.query_one("Static").render()
        )
        assert feed.stopped == []
        await pilot.press(key)
        await shown(pilot, lambda: feed.stopped == stopped)
        assert not isinstance(pilot.app.screen, Question)


async def test_it_says_since_when_what_it_shows_is_stale_and_that_it_is_not_any_more(monkeypatch):
    monkeypatch.setattr(top_screen, "RETRY_S", 0.01)
    feed = Feed(Now(at=round(time.time() * 1000)), snapshot(row("one")))
    async with TopScreen(feed, actions=False).run_test(size=(120, 20)) as pilot:
        await shown(pilot, lambda: names(pilot.app) == ["one"])
        assert "STALE" not in status(pilot.app)
        feed.say(UnreachableError("nobody answers"))
        await shown(pilot, lambda: "STALE since" in status(pilot.app))
        assert "nobody answers" in status(pilot.app)
        assert names(pilot.app) == ["one"]
        feed.say(snapshot(row("two")))
        await shown(pilot, lambda: names(pilot.app) == ["two"] and "STALE" not in status(pilot.app))


@pytest.mark.slow
async def test_silence_is_stale_too(monkeypatch):
    feed = Feed(snapshot(row("one")))
    async with TopScreen(feed, actions=False).run_test(size=(120, 20)) as pilot:
        await shown(pilot, lambda: names(pilot.app) == ["one"])
        assert "STALE" not in status(pilot.app)
        monkeypatch.setattr(top_screen, "STALE_S", 0.0)
        await shown(pilot, lambda: "STALE since" in status(pilot.app))


@pytest.mark.parametrize(
    "error", [CLASS_OF_CODE["unauthorized"]("unauthorized", "no", status=401)], ids=["key"]
)
async def test_what_asking_again_does_not_mend_ends_it(error):
    screen = TopScreen(Feed(error), actions=False)
    async with screen.run_test() as pilot:
        await shown(pilot, lambda: screen.failure is error)


@pytest.mark.slow
async def test_too_many_sessions_end_it_and_ask_for_a_filter():
    counted = TooManyRows(total=30_000, by_state={"idle": 30_000}, by_tenant={}, by_blueprint={})
    screen = TopScreen(Feed(counted), actions=False)
    async with screen.run_test() as pilot:
        await shown(pilot, lambda: isinstance(screen.failure, CommandFailed))
    assert "add a filter" in str(screen.failure)


@pytest.mark.slow
async def test_a_filter_is_typed_and_taken_away_and_columns_sort():
    feed = Feed(snapshot(row("alpha", tokens=1), row("beta", tokens=9), row("gamma", tokens=5)))
    async with TopScreen(feed, actions=False).run_test(size=(120, 20)) as pilot:
        await shown(pilot, lambda: len(names(pilot.app)) == 3)
        await pilot.press("slash", "e", "t")
        assert pilot.app.query_one("#filter", Input).has_focus
        await shown(pilot, lambda: names(pilot.app) == ["beta"])
        await pilot.press("enter", "escape")
        await shown(pilot, lambda: len(names(pilot.app)) == 3)
        for _ in range(len(top_screen.ORDERS)):
            await pilot.press("s")
            if "by tokens" in status(pilot.app):
                break
        assert names(pilot.app) == ["beta", "gamma", "alpha"]


@pytest.mark.slow
async def test_of_more_rows_than_it_lists_the_first_are_there_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(top_screen, "MAX_LISTED", 5)
    feed = Feed(snapshot(*(row(f"s{number}") for number in range(9))))
    async with TopScreen(feed, actions=False).run_test(size=(160, 20)) as pilot:
        await shown(pilot, lambda: len(names(pilot.app)) == 5)
        assert "9 sessions" in status(pilot.app)
        assert "the first 5 are listed" in status(pilot.app)


@pytest.mark.slow
async def test_the_cursor_stays_on_its_session_and_keys_are_told():
    feed = Feed(snapshot(row("b"), row("c")))
    async with TopScreen(feed, actions=False).run_test(size=(100, 20)) as pilot:
        await shown(pilot, lambda: len(names(pilot.app)) == 2)
        await pilot.press("end")
        at_cursor = pilot.app.name_at_cursor()
        feed.say(RowChanges(changed=(row("a", approvals=1),), gone=(), left=()))
        await shown(pilot, lambda: names(pilot.app)[0] == "a")
        assert pilot.app.name_at_cursor() == at_cursor
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, Keys)
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, Keys)
        await pilot.resize_terminal(40, 10)
        await pilot.pause()
        assert pilot.app.query_one("#rows", DataTable).size.width <= 40
