"""A damaged file of conversations, copied into a new one as far as it can be read.

The damaged one is not changed. Tables are read by their rows' numbers, so that a page that cannot
be read costs the rows on it, and no others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontdesk.persistence.errors import StorageRefused
from frontdesk.persistence.schema import OF_A_CONVERSATION, TABLES, StoredTable
from frontdesk.persistence.sqlite_file import open_writer

_STEP = 256
_NUMBERS = "SELECT number FROM conversation"
_GREATEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SalvagedTable:
    """What came of a table: rows that were copied, and what was lost of it.

    That is places that could not be read (how many rows there were at one, nobody knows), and rows
    of conversations whose own row is lost.
    """

    name: str
    rows: int
    lost: int


def salvage(damaged: Path, copy: Path) -> list[SalvagedTable]:
    """Copy what can be read into a new file; return what came of each table.

    What belongs to a conversation whose own row is lost is left out. `StorageRefused` where the
    copy is there already, or nothing of the damaged file can be read.
    """
    if copy.exists():
        raise StorageRefused(str(copy), problem="it is there already: name a file that is not")
    source = sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)
    target = open_writer(copy)
    try:
        target.execute("BEGIN IMMEDIATE")
        outcomes = [_copied(source, target, table) for table in TABLES]
        for place, each in enumerate(outcomes):
            if each.name in OF_A_CONVERSATION:
                orphans = f"DELETE FROM {each.name} WHERE number NOT IN ({_NUMBERS})"
                gone = target.execute(orphans).rowcount
                outcomes[place] = SalvagedTable(each.name, each.rows - gone, each.lost + gone)
        target.execute("COMMIT")
    finally:
        source.close()
        target.close()
    if not any(each.rows for each in outcomes) and any(each.lost for each in outcomes):
        raise StorageRefused(str(damaged), problem="nothing in it can be read")
    return outcomes


def _copied(
    source: sqlite3.Connection, target: sqlite3.Connection, table: StoredTable
) -> SalvagedTable:
    columns = ", ".join(each.name for each in table.columns)
    marks = ", ".join("?" * (len(table.columns) + 1))
    insert = f"INSERT OR IGNORE INTO {table.name} (rowid, {columns}) VALUES ({marks})"
    rows = lost = 0
    for found in _rows(source, table.name, columns):
        if found is None:
            lost += 1
            continue
        try:
            rows += target.execute(insert, found).rowcount
        except sqlite3.Error:  # what was read is none of this table's
            lost += 1
    return SalvagedTable(table.name, rows, lost)


def _rows(source: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...] | None]:
    """Give the rows of a table in the order of their numbers; None for a place that is damaged."""
    several = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?"
    after, step = -(2**63), _STEP
    while True:
        try:
            found = source.execute(several, (after, step)).fetchall()
        except sqlite3.DatabaseError:
            if step > 1:
                step = 1
                continue
            yield None
            beyond = _beyond(source, several, after)
            if beyond is None:
                return
            after = beyond
            continue
        if not found:
            return
        yield from found
        after, step = found[-1][0], min(step * 2, _STEP)


def _beyond(source: sqlite3.Connection, text: str, after: int) -> int | None:
    """Return the least number after which a row can be read again, None where there is none.

    Numbers may lie far apart: the distance is doubled until it is enough, then halved.
    """
    least = max(after, 0)
    distance = 1
    while not _reads(source, text, enough := min(least + distance, _GREATEST)):
        if enough == _GREATEST:
            return None
        least, distance = enough, distance * 2
    while enough - least > 1:
        middle = (least + enough) // 2
        least, enough = (least, middle) if _reads(source, text, middle) else (middle, enough)
    return enough


def _reads(source: sqlite3.Connection, text: str, after: int) -> bool:
    try:
        source.execute(text, (after, 1)).fetchall()
    except sqlite3.DatabaseError:
        return False
    return True
