"""The meter's file: what was used, in all and by day, model and key.

Below the meter, whose writer is the only one that calls it: nothing here is for two threads at a
time. Days are those of UTC, numbered from 1970-01-01. The sums of each key are for ever; its days
are dropped after a while.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from frontdesk.agents.records import MAX_COST_USD, MAX_USED_TOKENS, NO_USAGE, TokenUsage
from frontdesk.gateway.state_dir import StateDir, open_database

DAY_MS = 86_400_000

SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS usage (
    tenant_id TEXT NOT NULL,
    api_key TEXT NOT NULL,
    prompts INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    PRIMARY KEY (tenant_id, api_key)
) STRICT, WITHOUT ROWID
""",
    "ALTER TABLE usage ADD COLUMN unknown_turns INTEGER NOT NULL DEFAULT 0",
    """
CREATE TABLE usage_by_day (
    tenant_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    api_key TEXT NOT NULL,
    model TEXT NOT NULL,
    prompts INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    unknown_turns INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, day, api_key, model)
) STRICT, WITHOUT ROWID
""",
    "CREATE INDEX usage_by_day_alone ON usage_by_day (day)",
    "CREATE TABLE meter (id TEXT NOT NULL) STRICT",
    "INSERT INTO meter (id) VALUES (lower(hex(randomblob(8))))",
    "CREATE TABLE taken_over (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
)

PLACE = "tenant_id, api_key"
DAY_PLACE = "tenant_id, day, api_key, model"

NUMBERS = "prompts, prompt_tokens, completion_tokens, cached_tokens, cost_usd, unknown_turns"
SUMS = ", ".join(
    f"min(sum({name}), {limit!r})" if limit else f"sum({name})"
    for name, limit in zip(
        NUMBERS.split(", "),
        (0, MAX_USED_TOKENS, MAX_USED_TOKENS, MAX_USED_TOKENS, MAX_COST_USD, 0),
        strict=True,
    )
)

# Only numbers and names of ours are put into the texts below: nothing that comes from outside.
ADDED = f"""
    prompts = prompts + excluded.prompts,
    prompt_tokens = min(prompt_tokens + excluded.prompt_tokens, {MAX_USED_TOKENS}),
    completion_tokens = min(completion_tokens + excluded.completion_tokens, {MAX_USED_TOKENS}),
    cached_tokens = min(cached_tokens + excluded.cached_tokens, {MAX_USED_TOKENS}),
    cost_usd = min(cost_usd + excluded.cost_usd, {MAX_COST_USD!r}),
    unknown_turns = unknown_turns + excluded.unknown_turns
"""
ADD = f"""
INSERT INTO usage (tenant_id, api_key, {NUMBERS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT ({PLACE}) DO UPDATE SET {ADDED}
"""  # noqa: S608
ADD_TO_DAY = f"""
INSERT INTO usage_by_day (tenant_id, api_key, day, model, {NUMBERS})
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT ({DAY_PLACE}) DO UPDATE SET {ADDED}
"""  # noqa: S608

Group = Literal["day", "model", "key"]
COLUMNS: Mapping[str, str] = {"day": "day", "model": "model", "key": "api_key"}


class MeteredKey(NamedTuple):
    """Whose use it was."""

    tenant_id: str
    api_key: str


class MeteredDay(NamedTuple):
    """Whose use it was, when, and of which model."""

    tenant_id: str
    api_key: str
    day: int
    model: str

    @property
    def owner(self) -> MeteredKey:
        return MeteredKey(self.tenant_id, self.api_key)


@dataclass(frozen=True, slots=True)
class MeteredUsage:
    """What was used. Sums of it are made with `+`; `unknown_turns` did not say what they used."""

    prompts: int = 0
    tokens: TokenUsage = NO_USAGE
    unknown_turns: int = 0

    def __add__(self, other: MeteredUsage) -> MeteredUsage:
        return MeteredUsage(
            self.prompts + other.prompts,
            self.tokens + other.tokens,
            self.unknown_turns + other.unknown_turns,
        )


NOTHING = MeteredUsage()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A question for sums: of a tenant, or one of its keys, from one day to another.

    `by` says what is summed apart. Sums come in the order of that; those after `after` are
    returned, at most `limit` of them.
    """

    tenant_id: str
    api_key: str | None = None
    by: tuple[Group, ...] = ()
    first_day: int = 0
    last_day: int = 2**31
    after: tuple[Any, ...] | None = None
    limit: int = 1

    def group_of(self, place: MeteredDay) -> tuple[Any, ...] | None:
        """Return in which sum a place counts, None where in none."""
        own = self.api_key is None or place.api_key == self.api_key
        if place.tenant_id != self.tenant_id or not own:
            return None
        if not self.first_day <= place.day <= self.last_day:
            return None
        values = {"day": place.day, "model": place.model, "key": place.api_key}
        group = tuple(values[each] for each in self.by)
        return group if self.after is None or group > self.after else None


UsageSum = tuple[tuple[Any, ...], MeteredUsage]
"""By which day, model and key (what the query asks for), and what was used there."""


class UsageTable:
    """Read and write the file of a state directory. Close it after use."""

    __slots__ = ("_database",)

    def __init__(self, state: StateDir) -> None:
        self._database = open_database(state.usage, schema=SCHEMA)

    def close(self) -> None:
        self._database.close()

    def totals(self) -> dict[MeteredKey, MeteredUsage]:
        """Return the sums of each key that ever used anything."""
        rows = self._database.execute(f"SELECT tenant_id, api_key, {NUMBERS} FROM usage")  # noqa: S608
        return {MeteredKey(tenant, key): _usage(numbers) for tenant, key, *numbers in rows}

    def meter_id(self) -> str:
        """Return what tells this file from that of any other node, wherever it is kept."""
        ((meter_id,),) = self._database.execute("SELECT id FROM meter")
        return str(meter_id)

    def days(self) -> list[int]:
        """Return the days on which anything was used."""
        return [day for (day,) in self._database.execute("SELECT DISTINCT day FROM usage_by_day")]

    def of_day(self, day: int) -> list[tuple[MeteredDay, MeteredUsage]]:
        """Return what was used on a day."""
        rows = self._database.execute(
            f"SELECT tenant_id, api_key, day, model, {NUMBERS} "  # noqa: S608
            "FROM usage_by_day WHERE day = ?",
            (day,),
        )
        return [(MeteredDay(*row[:4]), _usage(row[4:])) for row in rows]

    def since(self, day: int) -> list[tuple[MeteredDay, MeteredUsage]]:
        """Return what was used from a day on."""
        rows = self._database.execute(
            f"SELECT tenant_id, api_key, day, model, {NUMBERS} "  # noqa: S608
            "FROM usage_by_day WHERE day >= ?",
            (day,),
        )
        return [(MeteredDay(*row[:4]), _usage(row[4:])) for row in rows]

    def add(self, batch: Mapping[MeteredDay, MeteredUsage]) -> None:
        """Add once or not at all: a batch that is put back must have left nothing behind."""
        of_keys: defaultdict[MeteredKey, MeteredUsage] = defaultdict(MeteredUsage)
        for place, used in batch.items():
            of_keys[place.owner] += used
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(ADD, map(_row, of_keys.items()))
            self._database.executemany(ADD_TO_DAY, map(_row, batch.items()))
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def forget_before(self, day: int) -> None:
        """Drop the days before a day. The sums of each key stay."""
        self._database.execute("DELETE FROM usage_by_day WHERE day < ?", (day,))

    def sums(self, query: UsageQuery) -> list[UsageSum]:
        """Answer a query from what is written."""
        columns = [COLUMNS[each] for each in query.by]
        where = ["tenant_id = ?", "day BETWEEN ? AND ?"]
        given: list[Any] = [query.tenant_id, query.first_day, query.last_day]
        if query.api_key is not None:
            where.append("api_key = ?")
            given.append(query.api_key)
        if query.after is not None and columns:
            places = ", ".join("?" * len(columns))
            where.append(f"({', '.join(columns)}) > ({places})")
            given += query.after
        grouped = ", ".join(columns)
        order = f"GROUP BY {grouped} ORDER BY {grouped}" if columns else ""
        rows = self._database.execute(
            f"SELECT {', '.join([*columns, SUMS])} FROM usage_by_day "  # noqa: S608
            f"WHERE {' AND '.join(where)} {order} LIMIT ?",
            (*given, query.limit),
        )
        found = [(row[: len(columns)], row[len(columns) :]) for row in rows]
        return [(group, _usage(numbers)) for group, numbers in found if numbers[0] is not None]


def with_unwritten(
    written: list[UsageSum], query: UsageQuery, unwritten: Iterable[tuple[MeteredDay, MeteredUsage]]
) -> list[UsageSum]:
    """Return the answer to a query with what could not be written yet."""
    sums = dict(written)
    last = written[-1][0] if len(written) == query.limit else None
    for place, used in unwritten:
        group = query.group_of(place)
        # Beyond the last of a full page there may be more of that group: it is another page's.
        if group is not None and (group in sums or last is None or group < last):
            sums[group] = sums.get(group, NOTHING) + used
    return sorted(sums.items())[: query.limit]


def _row(item: tuple[tuple[Any, ...], MeteredUsage]) -> tuple[Any, ...]:
    place, used = item
    return (*place, used.prompts, *msgspec.structs.astuple(used.tokens), used.unknown_turns)


def _usage(numbers: Iterable[Any]) -> MeteredUsage:
    prompts, prompt, completion, cached, cost, unknown = numbers
    return MeteredUsage(prompts, TokenUsage(prompt, completion, cached, cost), unknown)
