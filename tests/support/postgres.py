"""A real PostgreSQL for tests: in a directory of its own, on a free port of the loopback interface.

It is also on a Unix socket in that directory, where everybody is let in; over TCP it wants the
password. It refuses to run as root, so root gives it to another account. Where it is missing, a
test is skipped on a laptop and fails in CI.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from support.engines import free_port

START_S = 60
USER = "desk"
PASSWORD = "a-database's-pass/word"
QUOTED_PASSWORD = "a-database%27s-pass%2Fword"
ACCOUNTS = ("postgres", "nobody")


def _directory_of_programs():
    found = shutil.which("postgres")
    if found is not None and Path(found).resolve().with_name("initdb").exists():
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: one.parent.name)
    return places[-1] if places else None


PROGRAMS = _directory_of_programs()


def needed_programs():
    """Return where they are; skip the test where they are not, and fail in CI."""
    if PROGRAMS is None:
        assert not os.environ.get("CI"), "PostgreSQL is needed here"
        pytest.skip("PostgreSQL is not installed")
    return PROGRAMS


def _account():
    """Return the account that runs it: another one, where this is root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next(names[name] for name in ACCOUNTS if name in names)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _lives(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _signal(processes, number):
    """Send a signal to each that is still there: the server's own workers come and go."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


class PostgresServer:
    """One server: started, killed, stopped for a while, started again, on the same port.

    `fsync` is off: what survives the kill of all its processes is what the kernel has.
    """

    def __init__(self, **options):
        self.programs = needed_programs()
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.files = self.directory / "files"
        self.log = self.directory / "log"
        self.process = None
        self.account = _account()
        self.options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "shared_buffers": "32MB",
            "max_connections": "40",
            "fsync": "off",
            **options,
        }
        if self.account:
            os.chown(self.directory, self.account["user"], self.account["group"])
        self._make()

    def _make(self):
        password = self.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        words = ["-N", "-E", "UTF8", "--locale=C", "-U", USER, f"--pwfile={password}"]
        words += ["--auth-local=trust", "--auth-host=scram-sha-256"]
        self._run("initdb", "-D", str(self.files), *words)

    def _run(self, program, *words):
        done = subprocess.run(
            [self.programs / program, *words],
            capture_output=True,
            text=True,
            timeout=START_S,
            cwd=self.directory,
            **self.account,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def url(self, *, port=None, database="postgres"):
        """Return the address that a gateway is given; another port is a proxy's."""
        return f"postgresql://{USER}:{QUOTED_PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def start(self):
        """Start it, and wait until it lets somebody in."""
        assert self.process is None, "it runs already"
        options = [
            word for name, value in self.options.items() for word in ("-c", f"{name}={value}")
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", str(self.files), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                **self.account,
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)
        return self

    def _answers(self):
        import psycopg

        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False

    def connect(self, database="postgres"):
        """Return a connection of the administrator's, on the socket; to be closed by the caller."""
        import psycopg

        where = {"host": str(self.directory), "port": self.port, "dbname": database}
        return psycopg.connect(**where, user=USER, autocommit=True)

    def ask(self, statement, *values, database="postgres"):
        """Carry out a statement as the administrator; return its rows."""
        with self.connect(database) as connection:
            asked = connection.execute(statement, values)
            return asked.fetchall() if asked.description else []

    def processes(self):
        """Return all its processes: a killed postmaster leaves the others for a moment."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def kill(self):
        """Kill all of it at once."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = self.processes()
            _signal(processes, signal.SIGKILL)
            deadline = time.monotonic() + START_S
            while any(map(_lives, processes[1:])):
                assert time.monotonic() < deadline, "a process outlives its kill"
                time.sleep(0.005)
        self.process.wait(START_S)
        self.process = None

    def stop(self):
        """End it in order, breaking the connections that there are."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_S)
        self.process = None

    def pause(self):
        """Stop it in its tracks: connections stay, nothing is answered."""
        _signal(self.processes(), signal.SIGSTOP)

    def resume(self):
        """Let it go on."""
        _signal(self.processes(), signal.SIGCONT)

    def write_position(self):
        """Return how far its log goes, for a standby to come up to."""
        return self.ask("SELECT pg_current_wal_lsn()")[0][0]

    def __enter__(self):
        return self if self.process is not None else self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgresStandby(PostgresServer):
    """A server that follows another, which runs: read from until it is promoted."""

    def __init__(self, primary, **options):
        self.primary = primary
        super().__init__(**options)

    def _make(self):
        way = f"host={self.primary.directory} port={self.primary.port} user={USER}"
        self._run("pg_basebackup", "-D", str(self.files), "-d", way, "-R", "-c", "fast")

    def catch_up(self):
        """Wait until it has all that the other one has now."""
        position = self.primary.write_position()
        self._await("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position)

    def stop_following(self):
        """Receive nothing from here on."""
        self.ask("ALTER SYSTEM SET primary_conninfo = ''")
        self.ask("SELECT pg_reload_conf()")
        self._await("SELECT count(*) = 0 FROM pg_stat_wal_receiver")

    def promote(self):
        """Be the one that takes writes, with what it has."""
        assert self.ask("SELECT pg_promote(true, %s)", START_S) == [(True,)]

    def _await(self, condition, *values):
        deadline = time.monotonic() + START_S
        while self.ask(condition, *values) != [(True,)]:
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)
