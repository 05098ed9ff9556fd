"""The file of conversations: how it is opened, and what SQLite says of it.

What the file cannot be (another's, newer, damaged, on a network) is found out before anything is
written. That one process at a time has it is the care of whoever opens it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frontdesk.persistence import schema
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable

APPLICATION_ID = 0x46_44_43_56
"""In the file's header: it is Frontdesk's, of conversations."""

TYPES = {"integer": "INTEGER", "text": "TEXT", "bytes": "BLOB"}
BUSY_TIMEOUT_MS = 2000
CACHE_KIB = 16 * 1024

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "9p", "ncpfs"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse"}
)
"""Where locks and shared memory do not hold what SQLite needs of them."""

UNAVAILABLE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}
    | {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT}
)
UNAVAILABLE_IN_FULL = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN})
"""The index of the log is a file of its own: there is no room for it."""


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Turn what SQLite says into `StorageUnavailable`, which may pass, or `StorageBroken`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None or code in UNAVAILABLE_IN_FULL or code & 0xFF not in UNAVAILABLE:
            if code in UNAVAILABLE_IN_FULL:
                raise StorageUnavailable(str(error)) from error
            raise StorageBroken(f"{error} ({getattr(error, 'sqlite_errorname', '?')})") from error
        raise StorageUnavailable(str(error)) from error


def refuse_network(directory: Path) -> None:
    """Raise `StorageRefused` where the directory is another machine's."""
    kind = _file_system(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        problem = f"it is on a network file system ({kind}), where SQLite loses what it has written"
        raise StorageRefused(str(directory), problem=problem)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for its one writer, with the tables of this version; `StorageRefused`."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _connect(path)
    except (OSError, sqlite3.Error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise StorageRefused(str(path), problem=problem) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StorageRefused(str(path), problem=str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_damaged(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `StorageRefused` where the file's pages are not what was written. Reads all of it."""
    try:
        (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        state = str(error)
    if state != "ok":
        copy = "`frontdesk conversations recover` copies what can be read"
        problem = f"it is damaged ({state.splitlines()[-1]}); {copy}"
        raise StorageRefused(str(path), problem=problem)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading beside its writer."""
    with sqlite_errors():
        return _connect(path, "PRAGMA query_only=ON")


def _connect(path: Path, *statements: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    first = (
        f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
        "PRAGMA temp_store=MEMORY",
        f"PRAGMA cache_size=-{CACHE_KIB}",
    )
    try:
        for each in (*first, *statements):
            connection.execute(each)
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_other(connection: sqlite3.Connection, path: Path) -> bool:
    """Raise `StorageRefused` for a newer file, or another's; say whether there are tables."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version > schema.VERSION and owner == APPLICATION_ID:
        known = f"schema {version}, this one knows {schema.VERSION}"
        raise StorageRefused(str(path), problem=f"a newer Frontdesk has written it ({known})")
    if tables and owner != APPLICATION_ID:
        raise StorageRefused(str(path), problem="it is a database, and not one of conversations")
    return bool(tables)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    tables = refuse_other(connection, path)
    if not tables:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":  # it says so in place of an error
        raise StorageRefused(str(path), problem=f"SQLite cannot have its log there (mode {mode!r})")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA synchronous=FULL")
    if not tables:
        _make_tables(connection)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table in schema.TABLES:
        for statement in _statements(table):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={schema.VERSION}")
    connection.execute("COMMIT")


def _statements(table: schema.StoredTable) -> Iterator[str]:
    lines = [
        f"{each.name} {TYPES[each.kind]}{'' if each.null else ' NOT NULL'}"
        for each in table.columns
    ]
    if table.key:
        lines.append(f"PRIMARY KEY ({', '.join(table.key)})")
    yield f"CREATE TABLE {table.name} ({', '.join(lines)}) STRICT"
    for index in table.indexes:
        unique = "UNIQUE " if index.unique else ""
        where = f" WHERE {index.where}" if index.where else ""
        columns = ", ".join(index.columns)
        yield f"CREATE {unique}INDEX {index.name} ON {table.name} ({columns}){where}"


def _file_system(directory: Path) -> str | None:
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # not Linux
    place, best, kind = directory.resolve(), -1, None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        mounted = before.split(" ")[4].encode().decode("unicode_escape")
        if place.is_relative_to(mounted) and len(mounted) >= best:
            best, kind = len(mounted), after.split(" ")[0]
    return kind
