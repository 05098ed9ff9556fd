"""The screen of `frontdesk top`: a table that follows a feed, and says when it does not.

It holds the rows that a feed tells of, and shows the first of them in an order: what waits for
somebody first. It only looks, unless it was started to act, and then it asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, ClassVar, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Label, Static

from frontdesk.cli.exit_codes import CommandFailed, failure_of
from frontdesk.cli.known_rows import KnownRows
from frontdesk.cli.output import one_line
from frontdesk.cli.remote import SessionName
from frontdesk.cli.row_listing import SORT_KEYS, row_name, waits
from frontdesk.cli.times import age, clock_time
from frontdesk.errors import FrontdeskError

if TYPE_CHECKING:
    from frontdesk.client import FeedEvent, SessionRow

MAX_LISTED = 500
"""Rows that are in the table; of more, the first in its order, and a count."""
STALE_S = 12.5
"""Without a sign of life for so long, what is shown is stale: two and a half of the feed's."""
DRAW_S = 0.5
RETRY_S = 2.0
COLUMNS = (
    "session", "state", "waits for", "age", "idle", "blueprint", "model", "turns", "tokens",
    "cost", "node",
)  # fmt: skip
ORDERS = tuple(f"-{each}" for each in SORT_KEYS)
FINAL = ("unauthorized", "forbidden", "bad_request", "not_found")
"""Refusals that asking again does not mend."""
HELP = """\
up, down, page up, page down, home, end   move
/                                         filter: a part of an id, a state, a blueprint, a model
escape                                    take the filter away
s                                         sort by another column: waiting, created, activity,
                                          tokens, cost
x                                         end the session at the cursor; asks.
                                          With --actions
?                                         these keys
q, ctrl+c                                 leave
"""


class Followed(Protocol):
    """What a screen shows: a gateway's sessions, or a test's."""

    of_operator: bool

    @property
    def url(self) -> str: ...

    def events(self) -> AsyncIterator[FeedEvent]: ...

    async def stop(self, name: SessionName) -> None: ...


class Question(ModalScreen[bool]):
    """Ask something that is answered with y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape", "answer(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Text(self._question))
            yield Label(Text("y: yes    n: no"))

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class Keys(ModalScreen[None]):
    """Say what each key does."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "back")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Label(Text(HELP))


class TopScreen(App[None]):
    """The whole of it."""

    CSS: ClassVar[str] = """
    #status { height: 1; padding: 0 1; background: $panel; }
    #status.stale { background: $error; color: $text; }
    #rows { height: 1fr; }
    #filter { display: none; height: 3; }
    #filter.wanted { display: block; }
    ModalScreen { align: center middle; }
    .box { width: auto; max-width: 90%; height: auto; padding: 1 2; border: round $primary; }
    .box Label { width: auto; max-width: 100%; }
    """
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "leave"),
        Binding("slash", "filter", "filter"),
        Binding("s", "sort", "sort"),
        Binding("x", "stop", "stop"),
        Binding("question_mark", "keys", "keys"),
        Binding("escape", "clear_filter", show=False),
    ]

    def __init__(self, feed: Followed, *, actions: bool) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self._feed, self._actions = feed, actions
        self._known = KnownRows()
        self._order, self._filter = "-waiting", ""
        self._ahead_ms = 0.0
        self._last_sign = time.monotonic()
        self._last_sign_ms = time.time() * 1000
        self._problem: str | None = None
        self._begun = False
        self._listed: dict[str, tuple[SessionRow, tuple[str, ...]]] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="status")
        table: DataTable[Text] = DataTable(id="rows", cursor_type="row", zebra_stripes=True)
        for column in COLUMNS:
            table.add_column(column, key=column)
        yield table
        yield Input(placeholder="a part of an id, a state, a blueprint, a model", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._follow(), exit_on_error=False)
        self.set_interval(DRAW_S, self.draw)
        self.query_one("#rows").focus()
        self.draw()

    # -- what comes ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                async for event in self._feed.events():
                    self._on_event(event)
            except CommandFailed as error:
                self.failure = error
                self.exit()
                return
            except FrontdeskError as error:
                told = failure_of(error)
                self._problem = str(error)
                if told is not None and told.error in FINAL:
                    self.failure = error
                    self.exit()
                    return
            await asyncio.sleep(RETRY_S)

    def _on_event(self, event: FeedEvent) -> None:
        from frontdesk.client import Now

        self._last_sign, self._last_sign_ms = time.monotonic(), time.time() * 1000
        self._problem, self._begun = None, True
        if isinstance(event, Now):
            self._ahead_ms = event.at - self._last_sign_ms
        for _ in self._known.changes(event, now_ms=round(self._last_sign_ms)):
            pass  # what lives is what is shown

    # -- what is shown ---------------------------------------------------------------------------

    def draw(self) -> None:
        """Show the rows as they are now; only what has changed is written."""
        if not self.query("#rows"):
            return  # it is being left: what shows them is gone, and the timer is the last to know
        # What is dormant has no agent: it is shown to who looks for something.
        rows = [row for row in self._known.rows if row.state != "dormant" or self._filter]
        matching = [row for row in rows if self._matches(row)]
        key, falling = SORT_KEYS[self._order.removeprefix("-")], self._order.startswith("-")
        matching.sort(key=lambda row: (key(row), row.session_id), reverse=falling)
        self._write({str(self._row_name(row)): row for row in matching[:MAX_LISTED]})
        status = self.query_one("#status", Static)
        status.update(Text(one_line(self.status_line(rows, matching))))
        status.set_class(self.is_stale, "stale")

    @property
    def is_stale(self) -> bool:
        """Whether what is shown may be old."""
        return self._problem is not None or time.monotonic() - self._last_sign > STALE_S

    def status_line(self, rows: list[SessionRow], matching: list[SessionRow]) -> str:
        """Return what stands above the table."""
        waiting = sum(1 for row in rows if row.approvals or row.questions)
        parts = [f"{self._feed.url}  {len(rows)} sessions, {waiting} wait for somebody"]
        if self._filter:
            parts.append(f"{len(matching)} match {self._filter!r}")
        if len(matching) > MAX_LISTED:
            parts.append(f"the first {MAX_LISTED} are listed")
        parts.append(f"by {self._order.removeprefix('-')}")
        if not self._begun and self._problem is None:
            parts.append("asking")
        elif self.is_stale:
            why = "" if self._problem is None else f": {self._problem}"
            parts.append(f"STALE since {clock_time(round(self._last_sign_ms))}{why}")
        return "  ".join(parts)

    def _write(self, wanted: dict[str, SessionRow]) -> None:
        table: DataTable[Text] = self.query_one("#rows", DataTable)
        cells = {name: (row, self._cells(name, row)) for name, row in wanted.items()}
        if list(cells) != list(self._listed):
            at_cursor = self.name_at_cursor()
            table.clear()
            for name, (_, values) in cells.items():
                table.add_row(*map(Text, values), key=name)
            if at_cursor in cells:
                table.move_cursor(row=list(cells).index(at_cursor), animate=False)
        else:
            for name, (_, values) in cells.items():
                former = self._listed[name][1]
                for column, value, before in zip(COLUMNS, values, former, strict=True):
                    if value != before:
                        table.update_cell(name, column, Text(value), update_width=True)
        self._listed = cells

    def _cells(self, name: str, row: SessionRow) -> tuple[str, ...]:
        now_ms = time.time() * 1000 + self._ahead_ms
        values = (
            name, row.state.replace("_", " "), waits(row), age(now_ms - row.created_at),
            age(now_ms - row.last_activity_at), row.blueprint, row.model, f"{row.turns}",
            f"{row.tokens}", f"{row.cost_usd:.4f}", row.node,
        )  # fmt: skip
        return tuple(map(one_line, values))

    def _row_name(self, row: SessionRow) -> SessionName:
        return row_name(row, of_operator=self._feed.of_operator)

    def _matches(self, row: SessionRow) -> bool:
        words = (row.session_id, row.tenant_id, row.state, row.blueprint, row.model, row.node)
        return any(self._filter.lower() in each.lower() for each in words)

    def name_at_cursor(self) -> str | None:
        """Return the name of the session at the cursor, None where there is none."""
        names, at = list(self._listed), self.query_one("#rows", DataTable).cursor_row
        return names[at] if 0 <= at < len(names) else None

    # -- keys ------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self.draw()

    def action_filter(self) -> None:
        """Let a filter be typed."""
        field = self.query_one("#filter", Input)
        field.set_class(True, "wanted")
        field.focus()

    def action_clear_filter(self) -> None:
        """Show all again."""
        self.query_one("#filter", Input).value = ""
        self._leave_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self._filter = event.value
        self.draw()

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the table."""
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter").set_class(False, "wanted")
        self.query_one("#rows").focus()
        self.draw()

    def action_keys(self) -> None:
        """Say what each key does."""
        self.push_screen(Keys())

    def action_stop(self) -> None:
        """Ask whether the session at the cursor is to be stopped; only where that may be."""
        if not self._actions:
            self.notify("start it with --actions to stop sessions", severity="warning")
            return
        name = self.name_at_cursor()
        if name is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._stop(SessionName.parse(name)), exit_on_error=False)

        rest = "stays its tenant's" if self._feed.of_operator else "is erased"
        question = f"Stop {one_line(name)}? It ends, and what was said in it {rest}."
        self.push_screen(Question(question), answered)

    async def _stop(self, name: SessionName) -> None:
        try:
            await self._feed.stop(name)
        except FrontdeskError as error:
            self.notify(one_line(str(error)), severity="error", markup=False)
        else:
            self.notify(one_line(f"{name} is stopped"), markup=False)
