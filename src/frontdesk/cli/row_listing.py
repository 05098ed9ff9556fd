"""Sessions as rows: which are asked for, and all of them as they are now.

Above `remote.py`. Both kinds of caller get them from a feed, which has the same rows and filters
for tenants and for operators.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from frontdesk.cli.exit_codes import CommandFailed, ExitCode
from frontdesk.cli.output import PIPE_ONLY, Column, usd
from frontdesk.cli.remote import SessionName, as_whoever
from frontdesk.cli.times import age, milliseconds, moment
from frontdesk.clock import SystemClock
from frontdesk.errors import InvalidArgument

if TYPE_CHECKING:
    from frontdesk.client import Client, FeedEvent, SessionRow, TooManyRows

R = TypeVar("R")

STATES = (
    "idle", "working", "waiting_approval", "waiting_input", "restarting", "dormant", "stopping",
    "suspect",
)  # fmt: skip
SORT_KEYS: Mapping[str, Callable[[SessionRow], Any]] = {
    "created": lambda row: row.created_at,
    "activity": lambda row: row.last_activity_at,
    "tokens": lambda row: row.tokens,
    "cost": lambda row: row.cost_usd,
    "waiting": lambda row: (row.approvals + row.questions > 0, -row.last_activity_at),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChoice:
    """Which sessions are asked for: those that are as each of the fields says."""

    tenant: Annotated[
        str | None, typer.Option(help="Of this tenant alone; asks as an operator.")
    ] = None
    state: Annotated[
        str | None,
        typer.Option(
            help="What it is doing: idle, working, waiting_approval, waiting_input, restarting, "
            "dormant, stopping or suspect."
        ),
    ] = None
    blueprint: Annotated[str | None, typer.Option(help="Opened from this blueprint.")] = None
    model: Annotated[str | None, typer.Option(help="Answered by this model.")] = None
    key_id: Annotated[str | None, typer.Option(help="Opened with the key of this id.")] = None
    node: Annotated[str | None, typer.Option(help="On this node.")] = None
    older_than: Annotated[
        str | None, typer.Option(help="Opened so long ago, at least: 30m, 12h, 7d.")
    ] = None
    prefix: Annotated[str | None, typer.Option(help="Its id begins with this.")] = None
    ops: Annotated[bool, typer.Option("--ops", help="Ask as an operator, about all tenants.")] = (
        False
    )

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in STATES:
            raise InvalidArgument("--state", expected=f"one of {', '.join(STATES)}", got=self.state)

    @property
    def as_operator(self) -> bool:
        """Whether an operator asks, by what the command line says."""
        return self.ops or self.tenant is not None

    @property
    def filters(self) -> dict[str, Any]:
        """The fields that are given, as feeds take them."""
        older_than_s = None
        if self.older_than is not None:
            older_than_s = milliseconds(self.older_than, "--older-than") // 1000
        given = {
            "state": self.state,
            "blueprint": self.blueprint,
            "model": self.model,
            "key_id": self.key_id,
            "node": self.node,
            "older_than_s": older_than_s,
            "prefix": self.prefix,
            "tenant": self.tenant,
        }
        return {name: value for name, value in given.items() if value is not None}


def choosing_rows(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a `RowChoice` in place of its parameter `choice`."""
    hints = get_type_hints(command, include_extras=True)
    parameters = {
        name: each.replace(annotation=hints[name])
        for name, each in inspect.signature(command).parameters.items()
    }
    chosen = get_type_hints(RowChoice, include_extras=True)
    place = parameters.pop("choice")
    options = [
        place.replace(name=each.name, default=each.default, annotation=chosen[each.name])
        for each in fields(RowChoice)
    ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        choice = RowChoice(**{each.name: given.pop(each.name) for each in options})
        command(choice=choice, **given)

    signature = inspect.Signature([*options, *parameters.values()])
    with_options.__signature__ = signature  # type: ignore[attr-defined]  # as typer reads it
    annotations = {each.name: each.annotation for each in signature.parameters.values()}
    with_options.__annotations__ = annotations
    return with_options


@dataclass(frozen=True, slots=True)
class FollowedRows:
    """A feed that has begun, and whether an operator reads it."""

    events: Iterator[FeedEvent]
    of_operator: bool


def follow(client: Client, choice: RowChoice) -> FollowedRows:
    """Begin to follow the sessions that are asked for."""
    filters = choice.filters

    def begun(events: Iterator[FeedEvent], *, of_operator: bool) -> FollowedRows:
        first = next(events)  # what is refused is refused here

        def all_of_them() -> Iterator[FeedEvent]:
            yield first
            yield from events

        return FollowedRows(all_of_them(), of_operator)

    return as_whoever(
        lambda: begun(client.feed(**filters), of_operator=False),
        lambda: begun(client.operator.feed(**filters), of_operator=True),
        ops=choice.as_operator,
    )


@dataclass(frozen=True, slots=True)
class RowListing:
    """All rows that were asked for, as they are at `now_ms` by the gateway's clock."""

    rows: tuple[SessionRow, ...]
    now_ms: int
    of_operator: bool


def listing(client: Client, choice: RowChoice) -> RowListing:
    """Return all sessions that are asked for; `CommandFailed` where they are too many to list."""
    from frontdesk.client import Now, SnapshotPage, TooManyRows

    followed = follow(client, choice)
    rows: list[SessionRow] = []
    now_ms = SystemClock().wall_ms()
    for event in followed.events:
        if isinstance(event, Now):
            now_ms = event.at
        elif isinstance(event, TooManyRows):
            raise too_many(event)
        elif isinstance(event, SnapshotPage):
            rows = [*([] if event.first else rows), *event.rows]
            if event.last:
                break
    return RowListing(tuple(rows), now_ms, followed.of_operator)


def too_many(counted: TooManyRows) -> CommandFailed:
    """Return what is raised where more sessions match than are listed."""
    states = ", ".join(f"{number} {state}" for state, number in sorted(counted.by_state.items()))
    return CommandFailed(
        "too_many",
        f"{counted.total} sessions match, more than are listed ({states}): add a filter such as "
        "--state, --blueprint or --prefix",
        exit_code=ExitCode.LIMIT,
    )


def sorted_rows(
    rows: Iterable[R], order: str, *, keys: Mapping[str, Callable[[R], Any]]
) -> list[R]:
    """Return rows in an order: one of these keys, falling with `-` in front."""
    key = keys.get(order.removeprefix("-"))
    if key is None:
        names = ", ".join(name for each in keys for name in (each, f"-{each}"))
        raise InvalidArgument("--sort", expected=f"one of {names}", got=order)
    return sorted(rows, key=key, reverse=order.startswith("-"))


def row_name(row: SessionRow, *, of_operator: bool) -> SessionName:
    """Return what a command line calls the session of a row."""
    return SessionName(row.tenant_id if of_operator else None, row.session_id)


def waits(row: SessionRow) -> str:
    """Return what of a row waits for somebody, in words."""
    counted = ((row.approvals, "approval"), (row.questions, "question"))
    return ", ".join(f"{number} {what}{'s' * (number > 1)}" for number, what in counted if number)


def row_columns(now_ms: int, *, of_operator: bool) -> tuple[Column[SessionRow], ...]:
    """Return the columns of rows, which are the same for everybody into a pipe."""

    def since(at_ms: int) -> str:
        return age(now_ms - at_ms)

    return (
        Column(
            "session",
            lambda row: row.session_id,
            display=lambda row: str(row_name(row, of_operator=of_operator)),
            fold=True,
        ),
        Column("tenant", lambda row: row.tenant_id, from_width=PIPE_ONLY),
        Column("state", lambda row: row.state, display=lambda row: row.state.replace("_", " ")),
        Column(
            "age", lambda row: moment(row.created_at), display=lambda row: since(row.created_at),
            right=True,
        ),
        Column(
            "idle", lambda row: moment(row.last_activity_at),
            display=lambda row: since(row.last_activity_at), right=True,
        ),
        Column("blueprint", lambda row: row.blueprint, from_width=100),
        Column("model", lambda row: row.model, from_width=120),
        Column("turns", lambda row: row.turns, right=True),
        Column("tokens", lambda row: row.tokens, right=True),
        Column(
            "cost", lambda row: usd(row.cost_usd), display=lambda row: f"{row.cost_usd:.4f}",
            right=True, from_width=90,
        ),
        Column("approvals", lambda row: row.approvals, from_width=PIPE_ONLY),
        Column("questions", lambda row: row.questions, from_width=PIPE_ONLY),
        Column("waits for", None, display=waits),
        Column("node", lambda row: row.node, from_width=140),
        Column("key", lambda row: row.key_id, from_width=160),
    )  # fmt: skip
