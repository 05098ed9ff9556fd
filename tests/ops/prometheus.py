"""A real Prometheus, and its promtool: Debian's, skipped on a laptop that has none."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from support.engines import free_port
from support.waiting import eventually

START_S = 60
OPS = Path(__file__).parents[2] / "ops"

CONFIG = """
global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: frontdesk
    authorization: {{ credentials_file: {key} }}
    static_configs: [{{ targets: ["{target}"] }}]
"""


def program(name):
    """Return where a program is; skip the test where there is none, and fail in CI."""
    path = shutil.which(name)
    if path is None:
        assert not os.environ.get("CI"), f"{name} is needed here"
        pytest.skip(f"{name} is not installed")
    return path


def promtool(*arguments, told=None):
    """Run promtool; return what it says, which has to be that nothing is wrong."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)],
        input=told,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """One that scrapes a gateway once a second."""

    def __init__(self, port):
        self.client = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=30
        )

    def ask(self, path, **query):
        answer = self.client.get(path, params=query).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """Return the samples of an expression, now."""
        return self.ask("/query", query=expression)["result"]

    def scrapes(self):
        """Return how often it has scraped, well or not."""
        return sum(int(each["value"][1]) for each in self.query("count_over_time(up[1h])"))

    def await_scrapes(self, count):
        until = self.scrapes() + count
        eventually(lambda: self.scrapes() >= until, within_s=START_S)


@contextmanager
def prometheus(directory, *, target, key):
    """Run one; it is gone afterwards."""
    directory.mkdir()
    port = free_port()
    secret, config = directory / "key", directory / "prometheus.yml"
    secret.write_text(key)
    config.write_text(CONFIG.format(rules=OPS / "alerts.yml", key=secret, target=target))
    promtool("check", "config", config)
    command = [
        program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (directory / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        running = Prometheus(port)
        try:

            def ready():
                assert process.poll() is None, (directory / "log").read_text()
                try:
                    return running.query("up == 1")
                except (httpx2.HTTPError, ValueError):  # it says so while it reads its data
                    return None

            eventually(ready, within_s=START_S)
            yield running
        finally:
            running.client.close()
            process.kill()
