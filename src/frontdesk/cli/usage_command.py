"""`frontdesk usage`: what was used, and what budgets leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frontdesk.cli.options import AsJson
from frontdesk.cli.output import Column, print_json, print_rows, usd
from frontdesk.cli.remote import KeyPath, Ops, Url, as_whoever, asking
from frontdesk.cli.times import moment

if TYPE_CHECKING:
    from frontdesk.client import Client, OperatorUsage, UsageReport
    from frontdesk.schemas.usage_schemas import BudgetReading, MeterReading


class By(StrEnum):
    """What sums are apart by."""

    DAY = "day"
    MODEL = "model"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What somebody has used, and of what."""

    scope: str
    whose: str
    day: str | None
    model: str | None
    reading: MeterReading


def usage(
    by: Annotated[
        list[By] | None, typer.Option(help="Sums apart by this; several times for several.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="The first day, YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day, YYYY-MM-DD.")] = None,
    budgets: Annotated[
        bool, typer.Option("--budgets", help="The budgets in place of what was used.")
    ] = False,
    ops: Ops = False,
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """Show what the key and its tenant have used; an operator's, all tenants and their keys.

    Columns: scope, whose, day, model, prompts, prompt tokens, completion tokens, cached tokens, all
    tokens, cost in USD, turns whose agents did not say. With --budgets: budget, scope, limit, used,
    left, when it begins again.
    """
    asked: dict[str, Any] = {
        "by": [each.value for each in by] if by else None, "first": first, "last": last
    }  # fmt: skip
    asked = {name: value for name, value in asked.items() if value is not None}
    with asking(url, key_file) as client:
        of_all: Callable[[], UsageReport | OperatorUsage] = partial(
            whole_usage_of_all, client, asked
        )
        found = as_whoever(partial(whole_report, client, asked), of_all, ops=ops)
    if as_json:
        print_json(found)
    elif budgets:
        print_rows(getattr(found, "budgets", ()), BUDGET_COLUMNS, none="there are no budgets")
    else:
        print_rows(usage_lines(found), COLUMNS, none="nothing was used")


def whole_report(client: Client, asked: dict[str, Any]) -> UsageReport:
    """Return the whole report, all pages of its rows together."""
    import msgspec  # late: not every command needs it

    report = page = client.usage(**asked)
    while page.next is not None:
        page = client.usage(**asked, after=page.next)
        report = msgspec.structs.replace(report, rows=report.rows + page.rows, next=None)
    return report


def whole_usage_of_all(client: Client, asked: dict[str, Any]) -> OperatorUsage:
    """Return what all tenants' keys have used, all pages together; there it is apart by these."""
    import msgspec  # late: not every command needs it

    if asked:
        raise typer.BadParameter(
            "an operator sees what each key of each tenant has ever used: leave out --by, --from "
            "and --to"
        )
    found = page = client.operator.usage(limit=1000)
    while page.next is not None:
        page = client.operator.usage(limit=1000, after=page.next)
        found = msgspec.structs.replace(found, rows=found.rows + page.rows, next=None)
    return found


def usage_lines(report: UsageReport | OperatorUsage) -> Iterator[UsageLine]:
    """Give the sums that were asked for, or else those of the key and its tenant."""
    from frontdesk.schemas.usage_schemas import OperatorUsage

    if isinstance(report, OperatorUsage):
        for each in report.rows:
            yield UsageLine("key", f"{each.tenant_id}/{each.key_id}", None, None, each)
        return
    if not report.rows:
        yield UsageLine("key", report.key.key_id, None, None, report.key)
        yield UsageLine("tenant", report.tenant.tenant_id, None, None, report.tenant)
    for row in report.rows:
        whose = report.tenant.tenant_id if row.key_id is None else row.key_id
        yield UsageLine("tenant" if row.key_id is None else "key", whose, row.day, row.model, row)


COLUMNS: tuple[Column[UsageLine], ...] = (
    Column("scope", lambda line: line.scope),
    Column("whose", lambda line: line.whose, fold=True),
    Column("day", lambda line: line.day),
    Column("model", lambda line: line.model),
    Column("prompts", lambda line: line.reading.prompts, right=True),
    Column("prompt tokens", lambda line: line.reading.prompt_tokens, right=True, from_width=120),
    Column("completion", lambda line: line.reading.completion_tokens, right=True, from_width=120),
    Column("cached", lambda line: line.reading.cached_tokens, right=True, from_width=120),
    Column("tokens", lambda line: line.reading.total_tokens, right=True),
    Column(
        "cost",
        lambda line: usd(line.reading.cost_usd),
        display=lambda line: f"{line.reading.cost_usd:.4f}",
        right=True,
    ),
    Column("unknown turns", lambda line: line.reading.unknown_turns, right=True, from_width=140),
)
BUDGET_COLUMNS: tuple[Column[BudgetReading], ...] = (
    Column("budget", lambda each: each.budget),
    Column("scope", lambda each: each.scope),
    Column("limit", lambda each: each.limit, right=True),
    Column("used", lambda each: each.used, right=True),
    Column("left", lambda each: each.left, right=True),
    Column("begins again", lambda each: moment(each.resets_at)),
)
