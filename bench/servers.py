"""Servers under measurement: real processes on loopback, looked at from outside, and ended.

Below the scenes of `gateway`, `agents` and `others`. `gateway` is the command `frontdesk serve`
with a configuration of the benchmark's; everything else is a module that takes a port. It knows
nothing of requests.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.scene import ROOT, environment
from bench.wire import HOST

START_S = 60.0
END_S = 30.0
LOOK_S = 0.02

SECRET = "bench-secret-0123456789abcdef"
KEY = {"x-api-key": SECRET}

LIMITS = """
[conversations]
store = "memory"
[server]
grace_s = 0.5
[limits]
requests_per_minute = 1_000_000_000
streams_per_key = 1_000_000
sessions_total = 1_000_000
sessions_per_tenant = 1_000_000
sessions_per_key = 1_000_000
"""
"""What would refuse the load of a benchmark is out of its way; all else is as it comes."""


class ServerFailed(Exception):
    """A server did not come up, or ended; `report` is the end of its log."""

    def __init__(self, command: Sequence[str], *, report: str) -> None:
        super().__init__(f"{' '.join(command)}\n{report}")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at a port of loopback."""

    port: int
    pid: int

    @property
    def resident_bytes(self) -> int:
        """Read its resident set."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_s(self) -> float:
        """Read the processor time that it has used, all its threads together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def gateway(blueprints: str, *, workers: int = 1) -> Iterator[Server]:
    """Run `frontdesk serve` with these tables of blueprints, its access log in a file."""
    with tempfile.TemporaryDirectory(prefix="frontdesk-bench-") as folder:
        config = Path(folder) / "frontdesk.toml"
        config.write_text(LIMITS + blueprints)
        state = str(Path(folder) / "state")
        arguments = ["serve", "--config", str(config), "--state-dir", state]
        if workers > 1:
            arguments += ["--workers", str(workers)]
        extra = {"FRONTDESK_KEYS": f"acme/bench:{SECRET}"}
        with serving("frontdesk.cli", *arguments, "--port", extra=extra) as server:
            yield server


@contextmanager
def serving(
    module: str,
    *arguments: str,
    python: str = sys.executable,
    extra: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a module whose last argument is the port, until it answers; end it afterwards."""
    port = _free_port()
    command = [python, "-m", module, *arguments, str(port)]
    paths = os.pathsep.join([environment()["PYTHONPATH"], str(ROOT)])
    variables = {**environment(), "PYTHONPATH": paths, **(extra or {})}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log)
        try:
            if not _answers(process, port):
                log.seek(0)
                raise ServerFailed(command, report=log.read()[-4000:].decode())
            yield Server(port, process.pid)
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=START_S).close()
        except OSError:
            time.sleep(LOOK_S)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
