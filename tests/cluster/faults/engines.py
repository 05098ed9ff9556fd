"""The engines that the faults are tried on, each a process: the local one, Valkey 9, Redis 7."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from support.cluster_nodes import PATIENCE_S, TESTS
from support.engines import REDIS, VALKEY, EngineServer
from support.fault_proxy import FaultProxy

LOCAL, VALKEY_9, REDIS_7 = "local", "valkey", "redis"
EVERY = (LOCAL, VALKEY_9, REDIS_7)
EITHER = (LOCAL, VALKEY_9)
"""Of each kind one: the scripts' answers are the same on both servers, which other tests show."""

SERVERS = (VALKEY_9, REDIS_7)
PROGRAMS = {VALKEY_9: VALKEY, REDIS_7: REDIS}


class LocalIndex:
    """The local engine's server in a process of its own."""

    kind = LOCAL

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="index-"))
        self.address = f"unix:{self.directory}/socket"
        self.process = None

    def url_at(self, address):
        """Return what a node is given to reach it at an address."""
        return "local:" + address.removeprefix("unix:")

    def start(self):
        """Start it; it serves when this returns."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.programs.local_index", self.address[5:]],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        assert self.process.stdout.readline() == b"serving\n"
        return self

    def kill(self):
        """Kill it: it has no file, so everything is lost."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()

    def pause(self):
        """Let it stand still."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        """End it."""
        if self.process.poll() is None:
            self.resume()
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Server(EngineServer):
    """Valkey or Redis, reached by TCP."""

    def __init__(self, program, **options):
        super().__init__(program, **options)
        self.kind = program.name
        self.address = f"tcp:127.0.0.1:{self.port}"

    def url_at(self, address):
        """Return what a node is given to reach it at an address."""
        return f"{self.scheme}://{address.removeprefix('tcp:')}"

    def close(self):
        """End it."""
        self.__exit__()


class Front(FaultProxy):
    """One address that leads to an engine, and later to another one of its kind."""

    def __init__(self, engine):
        super().__init__(engine.address)
        self.kind, self.url_at = engine.kind, engine.url_at

    def lead_to(self, engine):
        """Lead to another engine from now on; connections to the one before break."""
        self.target = engine.address
        self.reset()


@contextmanager
def running(kind, **options):
    """Run an engine of a kind."""
    engine = LocalIndex() if kind == LOCAL else Server(PROGRAMS[kind], **options)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()
