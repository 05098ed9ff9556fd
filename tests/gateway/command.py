"""The real command, `frontdesk serve`, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import httpx

from gateway.running import ACME
from support.waiting import eventually

START_S = 60
KEYS = f"acme/ci:{ACME}"
TESTS = Path(__file__).parents[1]
NEVER_IDLE = httpx.Limits(keepalive_expiry=None)
"""Else a client that waits for 5 s has another connection, which another worker may accept."""

CONFIG = """
[blueprints.parrot]
kind = "python"
target = "gateway.agents:parrot"
[blueprints.patient]
kind = "python"
target = "gateway.agents:patient"
[blueprints.deaf]
kind = "python"
target = "gateway.agents:deaf"
"""

IN_MEMORY = CONFIG + '[conversations]\nstore = "memory"\n'
"""Conversations are not stored: they end with whoever runs their agents."""


class Served:
    """A server process: its address, its log, and ways to end it."""

    def __init__(self, process, log, out):
        self.process, self._log, self._out = process, log, out
        self.url = None

    @property
    def log(self):
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self):
        return self._out.read_text(encoding="utf-8", errors="replace")

    def client(self, secret=ACME):
        return httpx.Client(
            base_url=self.url,
            headers={"X-API-Key": secret},
            trust_env=False,
            timeout=30,
            limits=NEVER_IDLE,
        )

    @staticmethod
    def url_in(text):
        found = re.search(r"answers at (https?://\S+?)[\"\s]", text)
        return found and found[1]

    def find_url(self):
        self.url = self.url_in(self.log)
        return self.url or self.process.poll() is not None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, within_s=30):
        return self.process.wait(within_s)

    def terminate(self):
        self.signal(signal.SIGTERM)
        return self.wait()


@contextmanager
def serving(
    directory,
    *arguments,
    config=CONFIG,
    keys=KEYS,
    wait=True,
    errors_to=None,
    module="frontdesk.cli",
    spans=None,
    **environment,
):
    """Run `frontdesk serve` on a free port; killed at the end if it still runs.

    `module` is the program, which is the command line unless a test has one of its own; `spans`
    has what it exports (`exported_spans.py`).
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "frontdesk.toml"
    if config is not None:
        file.write_text(config, encoding="utf-8")
    traced = () if spans is None else spans.command
    command = [
        *traced, sys.executable, "-m", module, "serve", "--port", "0",
        "--state-dir", str(directory / "state"), *arguments,
    ]  # fmt: skip
    log, out = directory / "log.txt", directory / "out.txt"
    environment = {
        **os.environ, "PYTHONPATH": str(TESTS), "FRONTDESK_KEYS": keys,
        **({} if spans is None else spans.environment(TESTS)), **environment,
    }  # fmt: skip
    with log.open("w") as errors, out.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=errors if errors_to is None else errors_to,
        )
    served = Served(process, log, out)
    try:
        if wait:
            eventually(served.find_url, within_s=START_S)
            assert served.url, served.log
        yield served
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(START_S)


def frontdesk(directory, *arguments):
    """Run a command of `frontdesk` and return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "frontdesk.cli", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


@contextmanager
def scratch():
    """A directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
