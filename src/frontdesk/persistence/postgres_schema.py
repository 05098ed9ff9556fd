"""The tables as PostgreSQL has them, in a schema of their own; made, or refused, by whoever opens.

Beside those of every store it has what several nodes need: a row for each, which its batches raise,
and an index of the journal, which SQLite's one writer knows without. None is of owners: a node that
takes over reads all once, and changes rows without touching an index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import psycopg
from psycopg import sql

from frontdesk.persistence.errors import StorageRefused
from frontdesk.persistence.schema import TABLES, VERSION, StoredTable

__all__ = ["prepare_schema"]

_TYPES: Mapping[str, str] = {"integer": "bigint", "text": 'text COLLATE "C"', "bytes": "bytea"}

_OWN: Sequence[str] = (
    "CREATE TABLE schema_version (version bigint NOT NULL)",
    """CREATE TABLE node (
        incarnation text COLLATE "C" NOT NULL PRIMARY KEY,
        sequence bigint NOT NULL,
        at_ms bigint NOT NULL
    ) WITH (fillfactor = 10)""",
    """CREATE TABLE wrapped_key (
        key_id text COLLATE "C" NOT NULL PRIMARY KEY,
        wrapped bytea NOT NULL
    )""",
    "CREATE UNIQUE INDEX journal_by_number ON journal (number, first_index)",
    # What is compressed already is not compressed again, and what is to be soon is not either.
    "ALTER TABLE segment ALTER frames SET STORAGE EXTERNAL",
    "ALTER TABLE journal ALTER frames SET STORAGE EXTERNAL",
    # Rows come and go all the time: their room is used again soon.
    "ALTER TABLE journal SET (autovacuum_vacuum_scale_factor = 0.02)",
    "ALTER TABLE conversation SET (fillfactor = 80)",
)


def prepare_schema(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    """Make the tables if there are none; raise `StorageRefused` if a newer version made them.

    Several nodes may start at once: one makes them, and the others wait for it.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"frontdesk {schema}"])
        row = connection.execute("SELECT to_regclass('schema_version') IS NULL").fetchone()
        if row == (True,):
            _make(connection, schema)
        found = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    if found != (VERSION,):
        version = None if found is None else found[0]
        problem = f"its tables are of version {version}, this Frontdesk knows {VERSION}"
        raise StorageRefused(f"the schema {schema!r} of the database", problem=problem)


def _make(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    present = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
    if present.fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for statement in (*chain.from_iterable(map(_statements, TABLES)), *_OWN):
        connection.execute(statement.encode())
    connection.execute("INSERT INTO schema_version (version) VALUES (%s)", [VERSION])


def _statements(table: StoredTable) -> Iterator[str]:
    columns = [
        f"{each.name} {_TYPES[each.kind]}{'' if each.null else ' NOT NULL'}"
        for each in table.columns
    ]
    key = [f"PRIMARY KEY ({', '.join(table.key)})"] if table.key else []
    yield f"CREATE TABLE {table.name} ({', '.join(columns + key)})"
    for index in table.indexes:
        unique = "UNIQUE " if index.unique else ""
        where = f" WHERE {index.where}" if index.where else ""
        columns = list(index.columns)
        yield f"CREATE {unique}INDEX {index.name} ON {table.name} ({', '.join(columns)}){where}"
