"""The meter: prompts, tokens and cost by day, model, key and tenant, kept across restarts.

Above its file (`usage_table.py`); the session service below tells it what was used (it is the
service's `Meter`), the routes above ask for sums. Counting is in memory and never waits. One thread
of its own writes what has come together to SQLite: at most half a second after the first of it, and
at the end, so that the file is complete after a SIGTERM and at most a second behind after a
SIGKILL. A full disk costs nothing but the wait: what could not be written stays in memory and is
written later. The same thread answers what is asked of days past, after it has written.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from frontdesk.agents.records import NO_USAGE, TokenUsage
from frontdesk.background import start_without_signals
from frontdesk.clock import Clock, SystemClock
from frontdesk.gateway.spending import Period, Spending, first_day
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.tenant_slots import TenantSlots
from frontdesk.gateway.usage_table import (
    DAY_MS,
    NOTHING,
    MeteredDay,
    MeteredKey,
    MeteredUsage,
    UsageQuery,
    UsageSum,
    UsageTable,
    with_unwritten,
)

BATCH_S = 0.5
RETRY_S = 2.0
STORED_DAYS = 400

MODELS_A_DAY = 1000
"""Different models of a tenant's keys that are counted apart in a day; further ones are `OTHER`.

Clients name models: what they can make up must not fill the disk.
"""
OTHER = "(other)"

T = TypeVar("T")
Unwritten = Sequence[tuple[MeteredDay, MeteredUsage]]
"""What was counted and is not in the file yet."""
Question = Callable[[Unwritten], T]

logger: logging.Logger = logging.getLogger("frontdesk.metering")


class UsageMeter:
    """Count what is used; a context manager that writes everything down before it ends.

    `record` and the sums of now may be called from any thread and cost a dict update under a lock
    that is never held while something is written. The memory of it is one record for each key that
    ever used anything. Days are counted for `stored_days`.
    """

    stored_days: int

    def __init__(
        self,
        state: StateDir,
        *,
        clock: Clock | None = None,
        stored_days: int = STORED_DAYS,
        batch_s: float = BATCH_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._clock, self.stored_days = clock or SystemClock(), stored_days
        self._batch_s, self._retry_s = batch_s, retry_s
        self._table = UsageTable(state)
        self._lock = threading.Lock()
        self._totals = self._table.totals()
        self._meter_id = self._table.meter_id()
        self._keys_of = Counter(owner.tenant_id for owner in self._totals)
        self._spending = Spending()
        self._models: dict[str, set[tuple[str, str]]] = {}
        self._models_day = self.today
        for place, used in self._table.since(first_day(self.today, "month")):
            self._spending.add(place.day, *place.owner, used.tokens)
            if place.day == self.today:
                self._models.setdefault(place.tenant_id, set()).add((place.api_key, place.model))
        self._unwritten: defaultdict[MeteredDay, MeteredUsage] = defaultdict(MeteredUsage)
        self._forgotten_before = 0
        self._asked: deque[tuple[Question[Any], Future[Any]]] = deque()
        self._changed_days: set[int] = set()
        self._questions = TenantSlots(1)
        self._wake_writer, self._hurry = threading.Event(), threading.Event()
        self._ending = threading.Event()
        self._writer = threading.Thread(target=self._run, name="frontdesk-meter", daemon=True)

    def __enter__(self) -> UsageMeter:
        start_without_signals(self._writer)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left and end the thread. Where the disk is full, what is left is logged."""
        self._ending.set()
        self._hurry.set()
        self._wake_writer.set()
        if self._writer.is_alive():
            self._writer.join()
        if not self._flush():
            lost = {"/".join(map(str, place)): used for place, used in self._unwritten.items()}
            logger.error("usage that could not be written is lost", extra={"usage": lost})
        self._answer()
        self._table.close()

    @property
    def today(self) -> int:
        """Return the day of now, in UTC."""
        return self._clock.wall_ms() // DAY_MS

    def record(
        self,
        *,
        tenant_id: str,
        api_key: str | None,
        model: str = "",
        prompts: int = 0,
        tokens: TokenUsage = NO_USAGE,
        unknown_turns: int = 0,
    ) -> None:
        """Count. Never waits for the disk, and never fails because of it."""
        used = MeteredUsage(prompts, tokens, unknown_turns)
        owner, day = MeteredKey(tenant_id, api_key or ""), self.today
        with self._lock:
            if owner not in self._totals:
                self._keys_of[tenant_id] += 1
            self._totals[owner] = self._totals.get(owner, NOTHING) + used
            self._spending.add(day, *owner, tokens)
            self._unwritten[MeteredDay(*owner, day, self._counted_model(owner, model, day))] += used
            self._changed_days.add(day)
        self._wake_writer.set()

    def of_key(self, tenant_id: str, api_key: str) -> MeteredUsage:
        """Return what one key has ever used."""
        with self._lock:
            return self._totals.get(MeteredKey(tenant_id, api_key), NOTHING)

    def of_tenant(self, tenant_id: str) -> MeteredUsage:
        """Return what all keys of a tenant have used. The cost grows with the number of keys."""
        with self._lock:
            used = [usage for owner, usage in self._totals.items() if owner.tenant_id == tenant_id]
        return sum(used, NOTHING)

    def spent(self, tenant_id: str, api_key: str | None, *, period: Period) -> TokenUsage:
        """Return what a tenant, or one of its keys, has used in this day or month of UTC."""
        day = self.today
        with self._lock:
            return self._spending.of(day, tenant_id, api_key, period=period)

    async def sums(self, query: UsageQuery) -> list[UsageSum]:
        """Answer a query of days past. The questions of one tenant wait for each other."""

        def answer(unwritten: Unwritten) -> list[UsageSum]:
            return with_unwritten(self._table.sums(query), query, unwritten)

        return await self._questions.run(query.tenant_id, lambda: self._ask(answer))

    # -- for other nodes -------------------------------------------------------------------------

    @property
    def meter_id(self) -> str:
        """Return what tells this meter from that of any other node."""
        return self._meter_id

    def taken_changed_days(self) -> set[int]:
        """Return the days on which something was counted since this was asked the last time."""
        with self._lock:
            changed, self._changed_days = self._changed_days, set()
        return changed

    async def days(self) -> list[int]:
        """Return the days on which anything was used."""
        return await self._ask(
            lambda unwritten: sorted({*self._table.days(), *(place.day for place, _ in unwritten)})
        )

    async def of_day(self, day: int) -> dict[MeteredDay, MeteredUsage]:
        """Return all that was used on a day."""

        def answer(unwritten: Unwritten) -> dict[MeteredDay, MeteredUsage]:
            found = dict(self._table.of_day(day))
            for place, used in unwritten:
                if place.day == day:
                    found[place] = found.get(place, NOTHING) + used
            return found

        return await self._ask(answer)

    def totals(self) -> dict[MeteredKey, MeteredUsage]:
        """Return what each key has ever used."""
        with self._lock:
            return dict(self._totals)

    def spent_by_all(self, period: Period) -> dict[tuple[str, str | None], TokenUsage]:
        """Return what each tenant (key None) and each key has used in this day or month."""
        day = self.today
        with self._lock:
            return self._spending.all(day, period=period)

    @property
    def tracked_keys(self) -> int:
        return len(self._totals)

    def tracked_keys_of(self, tenant_id: str) -> int:
        """Return how many keys of a tenant have used anything."""
        return self._keys_of.get(tenant_id, 0)

    # -- the writer ------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = self._batch_s
        while not self._ending.is_set():
            self._wake_writer.wait()
            self._hurry.wait(wait_s)
            self._wake_writer.clear()
            if not self._ending.is_set():
                self._hurry.clear()
            wait_s = self._batch_s if self._flush() else self._retry_s
            self._answer()

    async def _ask(self, question: Question[T]) -> T:
        """Have the writer answer, after it has written."""
        answer: Future[T] = Future()
        self._asked.append((question, answer))
        self._hurry.set()
        self._wake_writer.set()
        return await asyncio.wrap_future(answer)

    def _answer(self) -> None:
        while self._asked:
            question, answer = self._asked.popleft()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                with self._lock:
                    unwritten = list(self._unwritten.items())
                answer.set_result(question(unwritten))
            except sqlite3.Error as error:
                answer.set_exception(error)

    def _flush(self) -> bool:
        with self._lock:
            batch, self._unwritten = self._unwritten, defaultdict(MeteredUsage)
        if not batch:
            return True
        try:
            self._write(batch)
        except sqlite3.Error as error:
            with self._lock:
                for place, used in batch.items():
                    self._unwritten[place] += used
            self._wake_writer.set()
            # The disk is full, or the like: a traceback would add nothing.
            logger.error(  # noqa: TRY400
                "usage could not be written; it is kept in memory: %s", error
            )
            return False
        return True

    def _write(self, batch: dict[MeteredDay, MeteredUsage]) -> None:
        self._table.add(batch)
        oldest = self.today - self.stored_days + 1
        if oldest > self._forgotten_before:
            # What was added is added: where this fails, it is done with a later batch.
            with suppress(sqlite3.Error):
                self._table.forget_before(oldest)
                self._forgotten_before = oldest

    def _counted_model(self, owner: MeteredKey, model: str, day: int) -> str:
        """Return under which name a model is counted."""
        if day != self._models_day:
            self._models, self._models_day = {}, day
        known = self._models.setdefault(owner.tenant_id, set())
        if (owner.api_key, model) not in known:
            if len(known) >= MODELS_A_DAY:
                return OTHER
            known.add((owner.api_key, model))
        return model
