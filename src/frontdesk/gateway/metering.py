"""The meter: prompts, tokens and cost for each key and tenant, kept across restarts.

Above the state directory; the session service below tells it what was used (it is the service's
`Meter`), the routes above ask for sums. Counting is in memory and never waits. One thread of its
own writes what has come together to SQLite: at most half a second after the first of it, and at the
end, so that the file is complete after a SIGTERM and at most a second behind after a SIGKILL. A
full disk costs nothing but the wait: what could not be written stays in memory and is written
later.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from frontdesk.agents.records import MAX_COST_USD, MAX_USED_TOKENS, NO_USAGE, TokenUsage
from frontdesk.background import start_without_signals
from frontdesk.gateway.state_dir import StateDir, open_database

BATCH_S = 0.5
RETRY_S = 2.0

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
)

# The bounds are two numbers of ours: nothing that comes from outside is in the text.
ADD = f"""
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant_id, api_key) DO UPDATE SET
    prompts = prompts + excluded.prompts,
    prompt_tokens = min(prompt_tokens + excluded.prompt_tokens, {MAX_USED_TOKENS}),
    completion_tokens = min(completion_tokens + excluded.completion_tokens, {MAX_USED_TOKENS}),
    cached_tokens = min(cached_tokens + excluded.cached_tokens, {MAX_USED_TOKENS}),
    cost_usd = min(cost_usd + excluded.cost_usd, {MAX_COST_USD!r})
"""  # noqa: S608

logger: logging.Logger = logging.getLogger("frontdesk.metering")


class MeteredKey(NamedTuple):
    """Whose use it was."""

    tenant_id: str
    api_key: str


@dataclass(frozen=True, slots=True)
class MeteredUsage:
    """What was used. Sums of it are made with `+`."""

    prompts: int = 0
    tokens: TokenUsage = NO_USAGE

    def __add__(self, other: MeteredUsage) -> MeteredUsage:
        return MeteredUsage(self.prompts + other.prompts, self.tokens + other.tokens)


NOTHING = MeteredUsage()


class UsageMeter:
    """Count what is used; a context manager that writes everything down before it ends.

    `record` and the sums may be called from any thread and cost a dict update under a lock that is
    never held while something is written. The memory of it is one record for each key that ever
    used anything.
    """

    def __init__(
        self, state: StateDir, *, batch_s: float = BATCH_S, retry_s: float = RETRY_S
    ) -> None:
        self._batch_s, self._retry_s = batch_s, retry_s
        self._database = open_database(state.usage, schema=SCHEMA)
        self._lock = threading.Lock()
        rows = self._database.execute("SELECT * FROM usage")
        self._totals = {
            MeteredKey(tenant_id, api_key): MeteredUsage(prompts, TokenUsage(*tokens))
            for tenant_id, api_key, prompts, *tokens in rows
        }
        self._unwritten: dict[MeteredKey, MeteredUsage] = {}
        self._wake_writer = threading.Event()
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
        self._wake_writer.set()
        if self._writer.is_alive():
            self._writer.join()
        if not self._flush():
            lost = {f"{owner.tenant_id}/{owner.api_key}": u for owner, u in self._unwritten.items()}
            logger.error("usage that could not be written is lost", extra={"usage": lost})
        self._database.close()

    def record(
        self,
        *,
        tenant_id: str,
        api_key: str | None,
        prompts: int = 0,
        tokens: TokenUsage = NO_USAGE,
    ) -> None:
        """Count. Never waits for the disk, and never fails because of it."""
        used = MeteredUsage(prompts, tokens)
        owner = MeteredKey(tenant_id, api_key or "")
        with self._lock:
            _add(self._totals, owner, used)
            _add(self._unwritten, owner, used)
        self._wake_writer.set()

    def of_key(self, tenant_id: str, api_key: str) -> MeteredUsage:
        """Return what one key has used."""
        with self._lock:
            return self._totals.get(MeteredKey(tenant_id, api_key), NOTHING)

    def of_tenant(self, tenant_id: str) -> MeteredUsage:
        """Return what all keys of a tenant have used. The cost grows with the number of keys."""
        with self._lock:
            used = [usage for owner, usage in self._totals.items() if owner.tenant_id == tenant_id]
        return sum(used, NOTHING)

    @property
    def tracked_keys(self) -> int:
        return len(self._totals)

    # -- the writer ------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = self._batch_s
        while not self._ending.is_set():
            self._wake_writer.wait()
            self._ending.wait(wait_s)
            self._wake_writer.clear()
            wait_s = self._batch_s if self._flush() else self._retry_s

    def _flush(self) -> bool:
        with self._lock:
            batch, self._unwritten = self._unwritten, {}
        if not batch:
            return True
        try:
            self._write(batch)
        except sqlite3.Error as error:
            with self._lock:
                for owner, usage in batch.items():
                    _add(self._unwritten, owner, usage)
            self._wake_writer.set()
            # The disk is full, or the like: a traceback would add nothing.
            logger.error(  # noqa: TRY400
                "usage could not be written; it is kept in memory: %s", error
            )
            return False
        return True

    def _write(self, batch: dict[MeteredKey, MeteredUsage]) -> None:
        rows = [
            (*owner, usage.prompts, *msgspec.structs.astuple(usage.tokens))
            for owner, usage in batch.items()
        ]
        # Added once or not at all: a batch that is put back must have left nothing behind.
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(ADD, rows)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


def _add(sums: dict[MeteredKey, MeteredUsage], owner: MeteredKey, used: MeteredUsage) -> None:
    sums[owner] = sums.get(owner, NOTHING) + used
