"""The state directory: what the gateway keeps on disk.

Below the keys and the meter, which each keep one SQLite file here, and the callback tools, whose
signing secrets derive from the master secret. It knows where things lie and with which rights
(nobody else's), and nothing of what the tables hold. Several workers share one: its keys and its
secret are all theirs, and each has a directory in it for what one process alone writes.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from frontdesk.gateway.errors import StateUnusable
from frontdesk.gateway.secret_file import cluster_secret_in

MASTER_SECRET_BYTES = 32
BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class StateDir:
    """Name the files of one state directory; `make` it before use.

    `secret_file` is read in place of the master secret. `worker_path` is where one of several
    workers has what no other process writes.
    """

    path: Path
    secret_file: Path | None = None
    worker_path: Path | None = None

    @classmethod
    def make(cls, path: Path | str, *, secret_file: Path | None = None) -> StateDir:
        """Create the directory, closed to other accounts, where there is none yet."""
        return cls(_made(Path(path)), secret_file)

    @classmethod
    def existing(cls, path: Path | str, *, secret_file: Path | None = None) -> StateDir:
        """Take the directory of a gateway that there is; what only looks makes nothing."""
        directory = cls(Path(path), secret_file)
        if not directory.keys.exists():
            problem = "no gateway has its state here; `frontdesk keys create` makes the first key"
            raise StateUnusable(str(directory.path), problem=problem)
        return directory

    def worker(self, number: int) -> StateDir:
        """Return it as one of several workers has it."""
        return replace(self, worker_path=_made(self.path / "workers" / str(number)))

    def worker_numbers(self) -> list[int]:
        """Return the numbers of workers that have a directory here, from the lowest on."""
        found = (self.path / "workers").glob("[0-9]*")
        return sorted(int(each.name) for each in found if each.name.isdecimal())

    def sockets(self) -> Path:
        """Return the directory for sockets between workers."""
        return _made(self.path / "sockets")

    def metrics(self) -> Path:
        """Return the directory in which workers count, each in a file of its own."""
        return _made(self.path / "metrics")

    @property
    def own(self) -> Path:
        """Where a process has what no other one writes: the directory itself, or a worker's."""
        return self.worker_path or self.path

    @property
    def keys(self) -> Path:
        return self.path / "keys.sqlite3"

    @property
    def usage(self) -> Path:
        return self.own / "usage.sqlite3"

    @property
    def processes(self) -> Path:
        """Where keepers write down what they started, for the next start of any to find."""
        return self.path / "processes"

    @property
    def lock(self) -> Path:
        """What a gateway holds for as long as it lives."""
        return self.own / "node.lock"

    @property
    def revisions(self) -> Path:
        """Where the supervisor of workers writes what its next start's fences are above."""
        return self.path / "revisions"

    @property
    def incarnation(self) -> Path:
        """Where a node of a cluster writes as what it has joined, for who finds it dead."""
        return self.own / "node.incarnation"

    @property
    def conversations(self) -> Path:
        """Where one process writes what is said in sessions."""
        return self.path / "conversations.sqlite3"

    @property
    def conversation_keys(self) -> Path:
        """Where the keys are that it is encrypted with, one a tenant."""
        return self.path / "conversation-keys"

    @property
    def homes(self) -> Path:
        """Where agents of each tenant have their home: beside it, as they may not see into it."""
        return self.path.with_name(f"{self.path.name}-homes")

    def master_secret(self) -> bytes:
        """Return the server's own secret; it is made at the first call, readable by nobody else.

        In a cluster it is the secret of all nodes, from its file.
        """
        if self.secret_file is not None:
            return cluster_secret_in(self.secret_file)
        place = self.path / "master.secret"
        with usable(place):
            try:
                return place.read_bytes()
            except FileNotFoundError:
                return _written_once(place, secrets.token_bytes(MASTER_SECRET_BYTES))


def _made(directory: Path) -> Path:
    with usable(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turn what the system or SQLite says of a file into `StateUnusable`."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise StateUnusable(str(path), problem=problem) from error


def _written_once(place: Path, content: bytes) -> bytes:
    """Return what is in a file, which is made where there is none."""
    # Written aside and linked into place: of two starts at once, both read one whole secret.
    aside = place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, place)
        except FileExistsError:
            return place.read_bytes()
    finally:
        aside.unlink()
    return content


def open_database(
    path: Path, *, schema: Sequence[str], timeout_s: float = BUSY_TIMEOUT_S
) -> sqlite3.Connection:
    """Open an SQLite file in WAL mode, readable by this account only, in the form of its schema.

    In WAL mode readers never wait for the writer, and what was committed survives a SIGKILL.
    `schema` is what makes the form, step by step, one statement each; the file's version is how
    many it has seen (`PRAGMA user_version`). Steps are only ever added: an older file gets those
    that it lacks, and a newer one is refused. `timeout_s` is how long a later statement waits for
    a lock. `StateUnusable`.
    """
    with usable(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            _upgrade(connection, path, schema)
            connection.execute(f"PRAGMA busy_timeout={int(timeout_s * 1000)}")
        except BaseException:
            connection.close()
            raise
        return connection


def _upgrade(connection: sqlite3.Connection, path: Path, schema: Sequence[str]) -> None:
    if not _missing(connection, path, schema):
        return
    connection.execute("BEGIN IMMEDIATE")  # of two starts at once, one waits for the other
    try:
        for statement in _missing(connection, path, schema):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(schema)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _missing(connection: sqlite3.Connection, path: Path, schema: Sequence[str]) -> Sequence[str]:
    """Return the steps that a file has not seen."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(schema):
        known = f"form {version}, this one knows {len(schema)}"
        raise StateUnusable(str(path), problem=f"a newer Frontdesk has written it ({known})")
    return schema[version:]
