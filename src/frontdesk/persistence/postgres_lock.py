"""The lock that a gateway without a cluster holds in its database, for its life.

Such a gateway takes every other for dead, and takes over all that is stored. So there is one at a
time: the lock is of a session of PostgreSQL's, which ends with the connection, however that ends. A
thread looks after the connection. Where it was lost, it is made again, and the lock is had again,
unless another gateway was faster: then this one has to end. Until it does it writes nothing, as the
other has raised the row of the node that both are (`postgres_writer.py`).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psycopg

from frontdesk.background import start_without_signals
from frontdesk.persistence.errors import StorageBroken, StorageRefused
from frontdesk.persistence.postgres_connections import (
    BoundedConnection,
    DatabaseAddress,
    DatabaseConnections,
    WaitLimits,
    backend_name,
    failure_of,
)

__all__ = ["DatabaseLock"]

_log = logging.getLogger("frontdesk.persistence")

LOOK_S = 1.0
"""So often the connection is looked at."""

POLL_S = 0.1
"""Between two looks at a lock that another has."""

MAX_HOST_CHARACTERS = 32
"""The name of a connection has 63."""

_KEEPALIVES = """
SELECT set_config('tcp_keepalives_idle', '5', false),
    set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config('tcp_user_timeout', '10000', false)
"""
"""The server notices a machine that is gone within about 15 s; without them it takes two hours."""

_TRY = "SELECT pg_try_advisory_lock(hashtext('frontdesk alone'), hashtext(%s))"

_HOLDER = """
SELECT activity.application_name
FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND granted AND activity.datname = current_database()
    AND classid = hashtext('frontdesk alone')::oid AND objid = hashtext(%s)::oid
"""


class DatabaseLock:
    """Keep every other gateway without a cluster out of a database. A context manager.

    Entering it waits for one that has the lock up to `patience_s`, with a line in the log, and
    raises `StorageRefused` where that has it still, `StorageUnavailable` where the database cannot
    be reached. `on_lost` is called on a thread of this lock's own, once another has it by now.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        *,
        patience_s: float,
        on_lost: Callable[[StorageBroken], None],
        schema: str = "frontdesk",
        limits: WaitLimits = WaitLimits(),  # noqa: B008 - frozen
    ) -> None:
        host = socket.gethostname()[:MAX_HOST_CHARACTERS]
        # The last part tells it from any other process, of another machine with that name too.
        self._name = f"{host}/{os.getpid()}/{secrets.token_hex(4)}"
        self._connections = DatabaseConnections(
            address, schema=schema, node=self._name, limits=limits
        )
        self._schema, self._patience_s, self._on_lost = schema, patience_s, on_lost
        self._connection: BoundedConnection | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="frontdesk-lock", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._connection = self._connected()
            self._await(self._connection)
        except BaseException as error:
            self._disconnect()
            if isinstance(error, psycopg.Error):
                raise failure_of(error, self._connections.address) from None
            raise
        start_without_signals(self._thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._disconnect()

    def _connected(self) -> BoundedConnection:
        connection = self._connections.connect()
        connection.execute(_KEEPALIVES)
        return connection

    def _await(self, connection: BoundedConnection) -> None:
        """Return once this connection has the lock."""
        address, deadline = self._connections.address, time.monotonic() + self._patience_s
        is_told = False
        while not self._tries(connection):
            holder = _in_words(self._holder(connection) or "")
            if time.monotonic() >= deadline:
                problem = f"another gateway without a cluster, which runs, stores there{holder}"
                raise StorageRefused(str(address), problem=problem)
            if not is_told:
                is_told = True
                _log.warning(
                    "waiting up to %g s for another gateway to end, which stores conversations"
                    " in %s%s",
                    self._patience_s,
                    address,
                    holder,
                )
            time.sleep(POLL_S)

    def _tries(self, connection: BoundedConnection) -> bool:
        return connection.execute(_TRY, [self._schema]).fetchone() == (True,)

    def _holder(self, connection: BoundedConnection) -> str | None:
        """Return the name of the connection that has it: "" where the server does not say it."""
        row = connection.execute(_HOLDER, [self._schema]).fetchone()
        return None if row is None else row[0] or ""

    # -- its thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.wait(LOOK_S):
            try:
                if not self._is_connected():
                    self._have_again()
            except StorageBroken as error:
                self._on_lost(error)
                return
            except (psycopg.Error, StorageRefused):
                # Whoever has something to store finds out as well, and says so.
                self._disconnect()

    def _is_connected(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self._disconnect()
            return False
        return True

    def _have_again(self) -> None:
        """Have the lock on a new connection; `StorageBroken` where another gateway has it."""
        connection = self._connection = self._connected()
        # The one before still has it there, where nobody has noticed that it was cut.
        names = [backend_name(self._name)]
        self._connections.end_backends(connection, names)
        if self._tries(connection):
            _log.warning("the lock of %s was lost, and is had again", self._connections.address)
            return
        holder = self._holder(connection)
        self._disconnect()
        if holder is not None and holder not in names:
            raise StorageBroken(f"another gateway has taken it over{_in_words(holder)}")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _in_words(name: str) -> str:
    """Return which process a connection's name says it is; nothing for another name."""
    host, _, rest = name.removeprefix(backend_name("")).partition("/")
    return f" ({host}, process {rest.partition('/')[0]})" if rest else ""
