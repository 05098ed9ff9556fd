"""Connections to a PostgreSQL server: where it is, for how long it is waited for, what failed.

Whatever blocks has a bound of its own here, on both sides: the server ends a statement, a wait for
a lock and a transaction in which nothing more comes, and this side gives up a server that does not
answer at all, as one that is stopped. No text of an error has the password.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar, cast

from frontdesk.errors import FrontdeskError, InvalidArgument, MissingExtra
from frontdesk.persistence import postgres_statements as sql
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable

try:
    import psycopg
    from psycopg import conninfo
except ImportError as _missing:
    raise MissingExtra(
        "postgresql", part="conversations in PostgreSQL", missing="psycopg"
    ) from _missing

# Only now: it needs the package as well.
from frontdesk.persistence.postgres_rows import register_arrays

__all__ = ["DatabaseAddress", "DatabaseConnections", "WaitLimits", "check_database", "failure_of"]

T = TypeVar("T")

Row = tuple[Any, ...]

OLDEST_VERSION = 140_000
"""As `server_version_num` has it: PostgreSQL 14."""

MAX_READERS = 2
"""So many connections read at most; the writer has its own."""

_FORM = "postgresql://user@host:port/database"


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """For how long anything is waited for, in seconds.

    Attributes:
        connect_s (int): A connection, at most; libpq knows whole seconds, from 2.
        statement_s (float): The server ends a statement that takes longer.
        lock_s (float): The server ends a wait for a lock that takes longer.
        idle_s (float): The server ends a transaction in which nothing comes for so long.
        answer_s (float): A connection on which nothing comes for so long is given up.
    """

    connect_s: int = 3
    statement_s: float = 8.0
    lock_s: float = 4.0
    idle_s: float = 4.0
    answer_s: float = 10.0


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where a database is, and as whom it is asked. Its text is for people, and has no secret.

    Attributes:
        text (str): `postgresql://host:port/database`.
        parameters (dict[str, Any]): What libpq is given. In no repr.
    """

    text: str
    parameters: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str, *, password: str | None = None) -> Self:
        """Read a URL; `InvalidArgument`, without the URL's secrets, if it is none.

        A password belongs into a file, whose content is given here. One in the URL is taken too.

        >>> str(DatabaseAddress.parse("postgresql://desk:secret@db.example/frontdesk"))
        'postgresql://db.example/frontdesk'
        """
        if not re.match(r"postgres(ql)?://", url):
            raise InvalidArgument("conversations.store", expected=_FORM, got="another URL")
        try:
            parameters = conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            # Its own words repeat pieces of the URL, and a piece may be the password.
            parameters = {"port": "none"}
        port, database = str(parameters.get("port", "")), str(parameters.get("dbname", ""))
        # What is not quoted in a password ends up in these.
        if not re.fullmatch(r"[0-9,]*", port) or set(database) & set("@/:"):
            raise InvalidArgument("conversations.store", expected=_FORM, got="another URL")
        if password is not None:
            parameters["password"] = password
        hosts = str(parameters.get("host", "")).split(",")
        # The one of them that takes writes; after a switch-over it is another. A standby may be
        # behind: what it says is not that what was answered is stored.
        wanted = "read-write" if len(hosts) > 1 else "primary"
        parameters.setdefault("target_session_attrs", wanted)
        return cls(_text_of(parameters), dict(parameters))

    def __str__(self) -> str:
        return self.text

    def without_secrets(self, text: str) -> str:
        """Return a text of an error without the password, wherever it may have come from."""
        password = self.parameters.get("password")
        return text.replace(str(password), "…") if password else text


def _text_of(parameters: Any) -> str:
    hosts = str(parameters.get("host", "")).split(",")
    ports = str(parameters.get("port", "")).split(",")
    if len(ports) < len(hosts):
        ports = ports[:1] * len(hosts)
    places = ",".join(
        f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False)
    )
    return f"postgresql://{places}/{parameters.get('dbname', '')}"


class BoundedConnection(psycopg.Connection[Row]):
    """A connection on which no answer is waited for without a bound."""

    answer_s: float = 10.0

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Consume a generator as psycopg does, which resumes it at least each tenth of a second."""
        return super().wait(_bounded(gen, time.monotonic() + self.answer_s), *args, **options)


def _bounded(generator: Any, deadline_s: float) -> Generator[Any, Any, Any]:
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline_s:
                raise psycopg.OperationalError("it does not answer")
            wanted = generator.send(ready)
    except StopIteration as end:
        return end.value


def backend_name(node: str) -> str:
    """Return what the server calls the connections of a node: a name has 63 bytes there."""
    return f"frontdesk {node}"[:63]


_SETTINGS = """
SELECT set_config('search_path', %(schema)s, false),
    set_config('statement_timeout', %(statement_ms)s, false),
    set_config('lock_timeout', %(lock_ms)s, false),
    set_config('idle_in_transaction_session_timeout', %(idle_ms)s, false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false),
    current_setting('server_version_num')::int, current_setting('server_encoding')
"""


class DatabaseConnections:
    """Connect to a database, and keep a few connections for whoever reads.

    A reader who finds all taken waits for one. Its owner closes it, and the connections that it
    made for somebody else's keeping are theirs to close.
    """

    def __init__(
        self, address: DatabaseAddress, *, schema: str, node: str, limits: WaitLimits
    ) -> None:
        self.address: DatabaseAddress = address
        self._schema, self._limits = schema, limits
        self._parameters = {
            "connect_timeout": limits.connect_s,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": int(limits.answer_s * 1000),
            **address.parameters,
            "application_name": backend_name(node),
            "client_encoding": "utf-8",
        }
        self._free = threading.BoundedSemaphore(MAX_READERS)
        self._idle: list[BoundedConnection] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def connect(self) -> BoundedConnection:
        """Return a new connection, in autocommit; raises `psycopg.Error` and `StorageRefused`."""
        connection = BoundedConnection.connect(**self._parameters, autocommit=True)
        try:
            connection.answer_s = self._limits.answer_s
            register_arrays(connection)
            row = connection.execute(_SETTINGS, self._settings()).fetchone()
            self._check(*cast("Row", row)[-2:])
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, version: int, encoding: str) -> None:
        problem = None
        if version < OLDEST_VERSION:
            problem = f"PostgreSQL 14 or newer is needed, it is {version // 10_000}"
        elif encoding != "UTF8":
            problem = f"the database's encoding must be UTF8, it is {encoding}"
        if problem is not None:
            raise StorageRefused(str(self.address), problem=problem)

    def _settings(self) -> dict[str, str]:
        limits = self._limits
        waits = {"statement": limits.statement_s, "lock": limits.lock_s, "idle": limits.idle_s}
        return {"schema": f'"{self._schema}"'} | {
            f"{name}_ms": str(int(seconds * 1000)) for name, seconds in waits.items()
        }

    def end_backends(
        self, connection: BoundedConnection, names: Sequence[str], *, pid: int | None = None
    ) -> None:
        """End the connections of these names, or the one of them with this pid, at the server.

        Where the account may not, nothing happens, and the server's own time-outs end them.
        """
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.END_BACKENDS, {"names": list(names), "pid": pid})

    def run(self, ask: Callable[[BoundedConnection], T]) -> T:
        """Return what is read on one of the connections; what can be asked twice may be.

        A connection that was idle may have ended meanwhile, with the server for instance: then it
        is asked again, on a new one. Raises `StorageUnavailable`, `StorageBroken`.
        """
        if not self._free.acquire(timeout=self._limits.answer_s):
            raise StorageUnavailable("all connections are taken")
        try:
            return self._run(ask)
        except psycopg.Error as error:
            raise failure_of(error, self.address) from None
        finally:
            self._free.release()

    def _run(self, ask: Callable[[BoundedConnection], T]) -> T:
        while True:
            connection = self._taken()
            was_idle = connection is not None
            if connection is None:
                connection = self.connect()
            try:
                found = ask(connection)
            except BaseException as error:
                connection.close()
                if was_idle and isinstance(error, psycopg.Error) and is_lost(error):
                    continue
                raise
            self._give_back(connection)
            return found

    def _taken(self) -> BoundedConnection | None:
        with self._lock:
            if self._is_closed:
                raise StorageUnavailable("it is closed")
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: BoundedConnection) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; what is taken is closed when it comes back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(psycopg.Error):
                connection.close()


def check_database(address: DatabaseAddress) -> None:
    """Connect once; `StorageUnavailable` or `StorageRefused` where it cannot be used."""
    connections = DatabaseConnections(address, schema="public", node="check", limits=WaitLimits())
    try:
        connections.connect().close()
    except psycopg.Error as error:
        raise failure_of(error, address) from None


# -- what failed -----------------------------------------------------------------------------------

_LOST = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
"""The server ends the connection, as after each of these, or there was none."""

_CONTENDED = ("40001", "40P01", "55P03")
"""Two waited for each other, or one for too long: nothing was done, and it may be asked again."""

_UNAVAILABLE = (
    *_LOST,
    *_CONTENDED,
    "53",  # full, out of memory, too many connections
    "57",  # ended by an administrator, or by a time-out
    "25006",  # read-only: a standby, or an administrator wants it so
    "28",  # not let in, since the password was changed for instance
    "3D000",  # no such database, schema, table: somebody may be restoring it
    "3F000",
    "42P01",
    "42501",
)


def is_lost(error: psycopg.Error) -> bool:
    """Tell whether the connection is gone, so that nobody knows what came of what was asked."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith(_LOST)


def is_contended(error: psycopg.Error) -> bool:
    """Tell whether it was another transaction's fault, so that it may be asked again at once."""
    return (error.sqlstate or "").startswith(_CONTENDED)


def failure_of(error: psycopg.Error, address: DatabaseAddress) -> FrontdeskError:
    """Return our error for PostgreSQL's: by whether it can heal."""
    primary = error.diag.message_primary or str(error).split("\n")[0] or type(error).__name__
    words = address.without_secrets(f"PostgreSQL at {address}: {primary[:300]}")
    if is_lost(error) or (error.sqlstate or "").startswith(_UNAVAILABLE):
        return StorageUnavailable(words)
    return StorageBroken(f"{words} ({error.sqlstate or type(error).__name__})")
