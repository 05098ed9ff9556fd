"""The meter over all nodes: each publishes what it counted itself, and adds the others' to that.

Above the meter of this node, beside the budgets and routes that ask. What is published is absolute,
under the meter's own id: repeated, it changes nothing, and it stays when its node has gone. Every
two seconds a node publishes what has changed, and reads what the others have: what they used is
known here at most `STALENESS_S` later, and by so much a budget may be exceeded.

    topic            under <meter id>#<part>: lines of JSON, in parts of 400 kB
    ---------------  ------------------------------------------------------------------------------
    usage            a line a key: what it ever used, in this month, on this day
    usage days       the days that there are rows of
    usage <day>      a line for each key and model: what was used on that day
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import msgspec

from frontdesk.agents.records import NO_USAGE, TokenUsage
from frontdesk.clock import Clock
from frontdesk.cluster.engine import Engine
from frontdesk.errors import FrontdeskError
from frontdesk.gateway.metering import UsageMeter
from frontdesk.gateway.spending import Period, first_day
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.usage_table import (
    NOTHING,
    MeteredDay,
    MeteredKey,
    MeteredUsage,
    UsageQuery,
    UsageSum,
    with_unwritten,
)

EVERY_S = 2.0
STALENESS_S = 2 * EVERY_S
REST_FOR_COST = 50
"""How long a round is followed by none, for each second that it took."""

PART_BYTES = 400_000
DAYS_AT_ONCE = 50
NOW, DAYS = "usage", "usage days"

_log = logging.getLogger("frontdesk.metering")

Numbers = tuple[int, int, int, int, float, int]
"""Prompts, prompt tokens, completion tokens, cached tokens, USD, turns that did not say."""


class KeyLine(msgspec.Struct, array_like=True, frozen=True):
    """What a key has used on a node: ever, and in the month and on the day of these numbers."""

    tenant_id: str
    api_key: str
    ever: Numbers
    month: int
    in_month: Numbers
    day: int
    on_day: Numbers


class DayLine(msgspec.Struct, array_like=True, frozen=True):
    """What a key has used of a model on a node, on the day of the topic."""

    tenant_id: str
    api_key: str
    model: str
    used: Numbers


class ClusterUsage:
    """Read the meters of all nodes as one. An async context manager, around all that counts.

    While the engine cannot be asked, what the others had used stands as it was read last.
    """

    def __init__(self, meter: UsageMeter, *, engine: Engine) -> None:
        self._meter, self._engine = meter, engine
        self._ever: dict[MeteredKey, MeteredUsage] = {}
        self._spent: dict[tuple[Period, int, str, str | None], TokenUsage] = {}
        self._days: set[int] = set()
        self._unpublished: set[int] = set()
        self._published: dict[str, int] = {}
        self._failing = False
        self._rounds: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._round()
        # Days past are told beside the requests: budgets ask for none of them.
        self._unpublished.update(await self._meter.days())
        self._rounds = asyncio.create_task(self._run(), name="frontdesk-usage")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._rounds is not None:
            self._rounds.cancel()
            await asyncio.wait({self._rounds})
        await self._round()

    # -- what budgets and routes ask -------------------------------------------------------------

    @property
    def today(self) -> int:
        """Return the day of now, in UTC."""
        return self._meter.today

    def of_key(self, tenant_id: str, api_key: str) -> MeteredUsage:
        """Return what one key has ever used."""
        others = self._ever.get(MeteredKey(tenant_id, api_key), NOTHING)
        return self._meter.of_key(tenant_id, api_key) + others

    def of_tenant(self, tenant_id: str) -> MeteredUsage:
        """Return what all keys of a tenant have used. The cost grows with the number of keys."""
        others = [used for owner, used in self._ever.items() if owner.tenant_id == tenant_id]
        return sum(others, self._meter.of_tenant(tenant_id))

    def spent(self, tenant_id: str, api_key: str | None, *, period: Period) -> TokenUsage:
        """Return what a tenant, or one of its keys, has used in this day or month of UTC."""
        begun = first_day(self.today, period)
        others = self._spent.get((period, begun, tenant_id, api_key), NO_USAGE)
        return self._meter.spent(tenant_id, api_key, period=period) + others

    def totals(self) -> dict[MeteredKey, MeteredUsage]:
        """Return what each key has ever used."""
        found = self._meter.totals()
        for owner, used in self._ever.items():
            found[owner] = found.get(owner, NOTHING) + used
        return found

    def tracked_keys_of(self, tenant_id: str) -> int:
        """Return how many keys of a tenant have used anything. The cost grows with all keys."""
        return sum(owner.tenant_id == tenant_id for owner in {*self._meter.totals(), *self._ever})

    async def sums(self, query: UsageQuery) -> list[UsageSum]:
        """Answer a query of days past. Raises `EngineUnavailable`: half an answer is none."""
        own = await self._meter.sums(query)
        days = sorted(day for day in self._days if query.first_day <= day <= query.last_day)
        others: list[tuple[MeteredDay, MeteredUsage]] = []
        for begun in range(0, len(days), DAYS_AT_ONCE):
            batch = days[begun : begun + DAYS_AT_ONCE]
            topics = [self._engine.totals(_topic_of(day)) for day in batch]
            for day, published in zip(batch, await asyncio.gather(*topics), strict=True):
                for content in self._of_others(published):
                    others += _rows_of(day, content)
        return with_unwritten(own, query, others)

    # -- every two seconds -----------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        cost_s = 0.0
        while True:
            await asyncio.sleep(max(EVERY_S, REST_FOR_COST * cost_s))
            begun_s = loop.time()
            await self._round()
            cost_s = loop.time() - begun_s

    async def _round(self) -> None:
        """Publish what has changed, then read. What fails is done in the next round."""
        changed = self._meter.taken_changed_days()
        self._unpublished |= changed
        try:
            if changed or not self._published:
                await self._publish(NOW, self._key_lines())
                await self._publish(DAYS, [self._unpublished | set(await self._meter.days())])
            for day in sorted(self._unpublished, reverse=True):
                await self._publish(_topic_of(day), await self._day_lines(day))
                self._unpublished.discard(day)
            await self._read()
        except (FrontdeskError, msgspec.DecodeError, sqlite3.Error) as error:
            self._published.clear()
            if not self._failing:
                _log.warning("usage is not shared with other nodes for now: %s", error)
            self._failing = True
        else:
            self._failing = False

    async def _publish(self, topic: str, lines: Iterable[Any]) -> None:
        parts = list(_in_parts(lines))
        before = self._published.get(topic, 0)
        for number in range(max(len(parts), before)):
            content = parts[number] if number < len(parts) else b""
            await self._engine.publish(topic, f"{self._meter.meter_id}#{number}", content)
        self._published[topic] = len(parts)

    def _key_lines(self) -> Iterator[KeyLine]:
        day = self.today
        in_month, on_day = self._meter.spent_by_all("month"), self._meter.spent_by_all("day")
        for owner, used in self._meter.totals().items():
            yield KeyLine(
                *owner,
                _numbers_of(used),
                first_day(day, "month"),
                _numbers_of(MeteredUsage(tokens=in_month.get(owner, NO_USAGE))),
                day,
                _numbers_of(MeteredUsage(tokens=on_day.get(owner, NO_USAGE))),
            )

    async def _day_lines(self, day: int) -> list[DayLine]:
        found = await self._meter.of_day(day)
        return [
            DayLine(place.tenant_id, place.api_key, place.model, _numbers_of(used))
            for place, used in found.items()
        ]

    async def _read(self) -> None:
        """Take in what the others have published; where one's own is gone, tell all again."""
        now, days = await asyncio.gather(self._engine.totals(NOW), self._engine.totals(DAYS))
        if self._published.get(NOW) and not any(map(self._is_own, now)):
            self._published.clear()
            self._unpublished.update(await self._meter.days())
        ever: defaultdict[MeteredKey, MeteredUsage] = defaultdict(MeteredUsage)
        spent: defaultdict[tuple[Period, int, str, str | None], TokenUsage]
        spent = defaultdict(TokenUsage)
        for content in self._of_others(now):
            for line in msgspec.json.decode(_listed(content), type=list[KeyLine]):
                ever[MeteredKey(line.tenant_id, line.api_key)] += _used(line.ever)
                for whose in (None, line.api_key):
                    month = _used(line.in_month).tokens
                    spent["month", line.month, line.tenant_id, whose] += month
                    spent["day", line.day, line.tenant_id, whose] += _used(line.on_day).tokens
        self._ever, self._spent = dict(ever), dict(spent)
        self._days = {
            day
            for content in self._of_others(days)
            for listed in msgspec.json.decode(_listed(content), type=list[list[int]])
            for day in listed
        }

    def _is_own(self, name: str) -> bool:
        return name.partition("#")[0] == self._meter.meter_id

    def _of_others(self, published: dict[str, bytes]) -> Iterator[bytes]:
        return (content for name, content in published.items() if not self._is_own(name))


async def publish_unattended(
    state: StateDir, *, workers: int, engine: Engine, clock: Clock
) -> None:
    """Publish what meters of this state directory counted that no process has any more.

    They are those of workers beyond the number of now, and that of a gateway which was alone. The
    first worker does it, or whoever has the directory to itself.
    """
    own, number = state.worker_path, 0 if state.worker_path is None else workers
    if own is not None and own.name != "1":
        return
    left = [state.path / "workers" / str(each) for each in state.worker_numbers() if each > number]
    for path in (*left, *(() if own is None else (None,))):
        unattended = replace(state, worker_path=path)
        if unattended.usage.exists():
            with UsageMeter(unattended, clock=clock) as meter:
                async with ClusterUsage(meter, engine=engine):
                    pass  # all is published when it is left


def _topic_of(day: int) -> str:
    return f"usage {day}"


def _in_parts(lines: Iterable[Any]) -> Iterator[bytes]:
    """Yield lines of JSON, joined to parts that an engine takes."""
    part = bytearray()
    for line in lines:
        encoded = msgspec.json.encode(sorted(line) if isinstance(line, set) else line)
        if part and len(part) + len(encoded) >= PART_BYTES:
            yield bytes(part)
            part.clear()
        part += encoded + b"\n"
    if part:
        yield bytes(part)


def _listed(content: bytes) -> bytes:
    """Return lines of JSON as one list."""
    return b"[" + content.rstrip(b"\n").replace(b"\n", b",") + b"]"


def _rows_of(day: int, content: bytes) -> Iterator[tuple[MeteredDay, MeteredUsage]]:
    for line in msgspec.json.decode(_listed(content), type=list[DayLine]):
        yield MeteredDay(line.tenant_id, line.api_key, day, line.model), _used(line.used)


def _numbers_of(used: MeteredUsage) -> Numbers:
    return (used.prompts, *msgspec.structs.astuple(used.tokens), used.unknown_turns)


def _used(numbers: Numbers) -> MeteredUsage:
    prompts, prompt, completion, cached, cost_usd, unknown = numbers
    return MeteredUsage(prompts, TokenUsage(prompt, completion, cached, cost_usd), unknown)
