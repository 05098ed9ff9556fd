"""A development run: keys that stay, an operator's, and a new run after every edit."""

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from frontdesk.cli.dev import dev_keys, dev_state
from frontdesk.cli.options import DEVELOPMENT_STATE
from frontdesk.gateway.state_dir import StateDir
from support.processes import descendants
from support.waiting import eventually

pytestmark = pytest.mark.timeout(180)
START_S = 60

CONFIG = """
[blueprints.mine]
kind = "python"
target = "my_agents:mine"
"""
AGENT = """
from frontdesk.agents import blueprint

@blueprint("mine")
async def mine(turn):
    yield "{says}"
"""


def test_the_keys_of_a_development_run_are_the_same_at_the_next_start(tmp_path):
    first, second = (dev_keys(StateDir.make(tmp_path)) for _ in range(2))
    assert first.tenant.secret == second.tenant.secret
    assert first.operator.secret == second.operator.secret
    assert first.tenant.secret != first.operator.secret
    assert first.operator.key.operator
    assert not first.tenant.key.operator
    elsewhere = dev_keys(StateDir.make(tmp_path / "elsewhere"))
    assert elsewhere.tenant.secret != first.tenant.secret


def test_the_state_of_a_development_run_stays_and_is_not_for_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with dev_state() as directory:
            assert directory == DEVELOPMENT_STATE
    assert (DEVELOPMENT_STATE / ".gitignore").read_text() == "*\n"
    assert DEVELOPMENT_STATE.stat().st_mode & 0o077 == 0


def test_where_no_state_can_be_kept_a_development_run_has_one_that_is_gone_afterwards(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    DEVELOPMENT_STATE.write_text("in the way")
    with dev_state() as directory:
        assert directory != DEVELOPMENT_STATE
        dev_keys(StateDir.make(directory))
    assert not directory.exists()


class DevelopmentRun:
    """`frontdesk serve --dev` with more, in a directory; ended with the block."""

    def __init__(self, directory, *arguments):
        self._out, self._log = directory / "out.txt", directory / "log.txt"
        self._command = [
            sys.executable, "-m", "frontdesk.cli", "serve", "--dev", "--port", "0", *arguments,
        ]  # fmt: skip
        self._directory = directory

    def __enter__(self):
        with self._out.open("w") as out, self._log.open("w") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._directory, stdout=out, stderr=log
            )
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(START_S)

    @property
    def output(self):
        return self._out.read_text()

    @property
    def log(self):
        return self._log.read_text()

    def welcomes(self):
        """Return url, tenant's and operator's secret of each start so far."""
        form = r"is at (\S+)\. .*? FRONTDESK_KEY=(\S+)\n.*?with the key (\S+)\n"
        return re.findall(form, self.output, re.DOTALL)

    def welcome(self, number):
        eventually(lambda: len(self.welcomes()) >= number, within_s=START_S)
        return self.welcomes()[number - 1]


def client_of(url, secret):
    headers = {"X-API-Key": secret}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30)


def answer(url, secret, session):
    """Open a session, prompt it, and return what it says."""
    with client_of(url, secret) as client:
        client.post("/v1/sessions", json={"sessionId": session, "model": "m"}).raise_for_status()
        client.post(f"/v1/sessions/{session}/prompt", json={"text": "?"}).raise_for_status()
        with client.stream("GET", f"/v1/sessions/{session}/events") as stream:
            for line in stream.iter_lines():
                if found := re.search(r'"content":"(\w+)"', line):
                    return found[1]
    return None


def history(url, secret, session):
    """Return whether a session has an agent, and the texts of its messages."""
    with client_of(url, secret) as client:
        listed = client.get("/v1/sessions").raise_for_status().json()["sessions"]
        (live,) = (each["live"] for each in listed if each["sessionId"] == session)
        page = client.get(f"/v1/sessions/{session}/messages").raise_for_status().json()
    return live, [each["content"] for each in page["messages"]]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "frontdesk.toml").write_text(CONFIG)
    (tmp_path / "my_agents.py").write_text(AGENT.format(says="first"))
    return tmp_path


@pytest.mark.slow
def test_an_operators_key_is_printed_and_opens_what_operators_see(project):
    with DevelopmentRun(project) as run:
        url, tenant, operator = run.welcome(1)
        seen = {}
        for secret in (tenant, operator):
            headers = {"X-API-Key": secret}
            with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
                seen[secret] = [
                    client.get(path).status_code for path in ("/v1/sessions", "/ops/sessions")
                ]
        assert seen == {tenant: [200, 401], operator: [401, 200]}
    assert (project / DEVELOPMENT_STATE / "master.secret").exists()


@pytest.mark.slow
def test_after_an_edit_the_gateway_is_begun_anew_with_the_same_key_and_conversations(project):
    with DevelopmentRun(project, "--reload") as run:
        url, secret, operator = run.welcome(1)
        assert answer(url, secret, "one") == "first"
        (project / "my_agents.py").write_text(AGENT.format(says="second"))
        url, *others = run.welcome(2)
        assert others == [secret, operator]
        assert history(url, secret, "one") == (False, ["?", "first"])
        assert answer(url, secret, "two") == "second"
        eventually(lambda: "my_agents.py changed" in run.log, within_s=START_S)

        # A mistake is told, and waits for its correction.
        (project / "frontdesk.toml").write_text(CONFIG.replace("kind", "kin"))
        eventually(lambda: "kind is missing" in run.log, within_s=START_S)
        (project / "frontdesk.toml").write_text(CONFIG)
        url, *others = run.welcome(3)
        assert answer(url, secret, "three") == "second"

        below = descendants(run.process.pid)
        assert below
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(START_S) == 0
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in below))


@pytest.mark.slow
def test_the_gateway_ends_with_the_killed_process_that_begins_it_anew(project):
    with DevelopmentRun(project, "--reload") as run:
        url, *_ = run.welcome(1)
        run.process.kill()
        run.process.wait(START_S)

        def gone():
            try:
                httpx.get(f"{url}/healthz", trust_env=False, timeout=30)
            except httpx.TransportError:
                return True
            return False

        eventually(gone, within_s=START_S)
