"""Sessions as `GET /v1/sessions` lists them: dormant ones too that no feed has.

Beside `row_listing.py`, whose rows say more of what goes on, and are of what is in memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from frontdesk.cli.output import PIPE_ONLY, Column, inform, print_json, print_rows
from frontdesk.cli.row_listing import RowChoice, sorted_rows
from frontdesk.cli.times import age, moment
from frontdesk.clock import SystemClock
from frontdesk.errors import InvalidArgument

if TYPE_CHECKING:
    from frontdesk.client import Client, SessionSummary

SORT_KEYS: Mapping[str, Callable[[SessionSummary], Any]] = {
    "created": lambda each: each.created_at,
    "activity": lambda each: each.last_activity_at,
    "tokens": lambda each: each.total_tokens,
}
FILTERS = {"state", "blueprint"}
NOT_LISTED = ("stopping", "suspect")
"""What a row is for a moment, or where its node does not say: the list cannot be asked for it."""


def print_all(
    client: Client, choice: RowChoice, *, sort: str, limit: int | None, as_json: bool
) -> None:
    """Print a tenant's sessions, live and dormant, page after page of the gateway's."""
    if choice.as_operator or choice.filters.keys() - FILTERS:
        expected = "a tenant's, with no other filter than --state and --blueprint"
        raise InvalidArgument("--all", expected=expected, got="another")
    if choice.state in NOT_LISTED:
        expected = f"with --all none of {', '.join(NOT_LISTED)}"
        raise InvalidArgument("--state", expected=expected, got=choice.state)
    found, partial = _chosen(client, choice)
    rows = sorted_rows(found, sort, keys=SORT_KEYS)[:limit]
    if partial:
        inform("not every node could be asked: some of its sessions may be missing")
    if as_json:
        print_json({"sessions": rows, "partial": partial})
    else:
        print_rows(rows, _columns(SystemClock().wall_ms()), none="no session is as that says")


def _chosen(client: Client, choice: RowChoice) -> tuple[list[SessionSummary], bool]:
    """Return what is asked for, and whether some node of several could not be asked."""
    dormant = choice.state == "dormant"  # for the gateway no state: such a one is idle, or waits
    states = (choice.state,) if choice.state is not None and not dormant else None
    found: list[SessionSummary] = []
    partial, after = False, ""
    while True:
        page = client.list(after=after or None, state=states, blueprint=choice.blueprint)
        found += [each for each in page.sessions if not (dormant and each.live)]
        partial |= page.partial
        if page.next is None:
            return found, partial
        after = page.next


def _columns(now_ms: int) -> tuple[Column[SessionSummary], ...]:
    return (
        Column("session", lambda each: each.session_id, fold=True),
        Column("tenant", lambda each: each.tenant_id, from_width=PIPE_ONLY),
        Column("state", lambda each: each.state, display=lambda each: each.state.replace("_", " ")),
        Column("live", lambda each: str(each.live).lower()),
        Column(
            "age", lambda each: moment(each.created_at),
            display=lambda each: age(now_ms - each.created_at), right=True,
        ),
        Column(
            "idle", lambda each: moment(each.last_activity_at),
            display=lambda each: age(now_ms - each.last_activity_at), right=True,
        ),
        Column("blueprint", lambda each: each.blueprint, from_width=100),
        Column("model", lambda each: each.model, from_width=120),
        Column("label", lambda each: each.label, from_width=140),
        Column("turns", lambda each: each.turns, right=True),
        Column("tokens", lambda each: each.total_tokens, right=True),
    )  # fmt: skip
