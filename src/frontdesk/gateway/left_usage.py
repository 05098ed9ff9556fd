"""Usage that was counted by workers that there are no more, or by a gateway before it had any.

Above the meter's files; asked before a meter opens. Each file is taken over by one process once,
also where that is killed in the middle of it: it gets a name that no other file ever has, its sums
and that name are written in one transaction, and it is deleted after.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

from frontdesk.gateway.errors import StateUnusable
from frontdesk.gateway.state_dir import StateDir, open_database, usable
from frontdesk.gateway.state_lock import locked
from frontdesk.gateway.usage_table import ADDED, DAY_PLACE, NUMBERS, PLACE, SCHEMA

LEFT = "left-{}.sqlite3"

# Only names of ours are put into the texts below: nothing that comes from outside.
TAKE = f"""
INSERT INTO usage ({PLACE}, {NUMBERS}) SELECT {PLACE}, {NUMBERS} FROM other.usage WHERE true
ON CONFLICT ({PLACE}) DO UPDATE SET {ADDED}
"""  # noqa: S608
TAKE_DAYS = f"""
INSERT INTO usage_by_day ({DAY_PLACE}, {NUMBERS})
SELECT {DAY_PLACE}, {NUMBERS} FROM other.usage_by_day WHERE true
ON CONFLICT ({DAY_PLACE}) DO UPDATE SET {ADDED}
"""  # noqa: S608


def take_over_usage(state: StateDir, *, workers: int) -> None:
    """Add to a process's own usage what others have left that are none of `workers` processes.

    Whoever has the state directory calls it.
    """
    for left in _left_by(state, workers):
        try:
            with nullcontext() if left.own == left.path else locked(left):
                _put_aside(left.usage)
                for file in sorted(left.own.glob(LEFT.format("*"))):
                    _take(state, file)
        except StateUnusable:
            continue  # it runs: a later start takes it over


def _left_by(state: StateDir, workers: int) -> Iterator[StateDir]:
    shared = StateDir(state.path, state.secret_file)
    if workers > 1:
        yield shared
    for number in shared.worker_numbers():
        if number > workers or workers == 1:
            yield shared.worker(number)


def _put_aside(usage: Path) -> None:
    """Give a file that nobody has open its own name."""
    if not usage.exists():
        return
    with usable(usage):
        with closing(open_database(usage, schema=SCHEMA)) as database:
            # Only who is alone with it may do so. What it had beside itself is in it from then on.
            (mode,) = database.execute("PRAGMA journal_mode=DELETE").fetchone()
        if mode != "delete":
            raise StateUnusable(str(usage), problem="another process has it open")
        usage.rename(usage.with_name(LEFT.format(secrets.token_hex(16))))


def _take(state: StateDir, file: Path) -> None:
    with usable(file), closing(open_database(state.usage, schema=SCHEMA)) as database:
        database.execute("ATTACH ? AS other", (str(file),))
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("INSERT INTO taken_over VALUES (?)", (file.name,))
            database.execute(TAKE)
            database.execute(TAKE_DAYS)
            database.execute("COMMIT")
        except sqlite3.IntegrityError:
            database.execute("ROLLBACK")  # taken over already, by one that was killed before this:
        database.execute("DETACH other")
        file.unlink()
