"""Where the system lacks what agents in processes need, the rest is served and that is said."""

import os
import subprocess
import sys

import pytest

from frontdesk.keeper import platform_needs
from gateway.command import TESTS, serving
from gateway.running import create, turn_of

# A real gateway for each thing that is taken away.
pytestmark = pytest.mark.slow

PROGRAM = "support.programs.elsewhere"
SYSTEMS = [
    "prctl",
    "pidfds",
    "waitid",
    "pipe2",
    "sockets of packets",
    "prctl,pidfds,waitid,pipe2,sockets of packets,O_PATH,epoll",
]
TASKS = """
[blueprints.parrot]
kind = "python"
target = "gateway.agents:parrot"
"""
PROCESSES = """
[blueprints.parrot]
kind = "python"
target = "gateway.agents:parrot"
isolation = "process"
[blueprints.built]
kind = "process"
[blueprints.coder]
kind = "acp"
command = ["sh"]
"""


def run(directory, lacking, *arguments):
    """Run a command on such a system."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "LACKING": lacking}
    return subprocess.run(
        [sys.executable, "-m", PROGRAM, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_nothing_is_lacking_here():
    assert platform_needs.lacking() is None


@pytest.mark.parametrize("lacking", [*SYSTEMS[:3], SYSTEMS[-1]])
def test_agents_in_tasks_are_served_and_it_is_said_what_is_lacking(tmp_path, lacking):
    with serving(tmp_path, "--dev", module=PROGRAM, config=TASKS, LACKING=lacking) as server:
        with server.client() as client:
            create(client, "s")
            events = turn_of(client, "s", "hello")
            assert events[-1][1] == "agent_end"
        assert server.terminate() == 0
        assert "Traceback" not in server.log
        assert "there are no agents in processes: this system has no " in server.log
        assert lacking.split(",")[0] in server.log


@pytest.mark.parametrize("lacking", SYSTEMS[-1:])
def test_without_a_configuration_only_what_works_there_is_open(tmp_path, lacking):
    with serving(tmp_path, "--dev", module=PROGRAM, config=None, LACKING=lacking) as server:
        with server.client() as client:
            refused = client.post("/v1/sessions", json={"model": "test", "blueprint": "process"})
            assert refused.status_code in (404, 422), refused.text
            create(client, "s", blueprint="assistant", model="test")
        assert server.terminate() == 0
        assert "Traceback" not in server.log


SERVE, CHECK = ("serve", "--dev", "--port", "0"), ("agents", "check")


@pytest.mark.parametrize(
    ("lacking", "command"),
    [*((system, SERVE) for system in SYSTEMS), (SYSTEMS[0], CHECK), (SYSTEMS[-1], CHECK)],
)
def test_agents_in_processes_are_refused_in_plain_words(tmp_path, lacking, command):
    (tmp_path / "frontdesk.toml").write_text(PROCESSES)
    done = run(tmp_path, lacking, *command)
    assert done.returncode in (1, 2)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for name in ("parrot", "built", "coder"):
        assert name in said
    assert said.count(f"this system has no {lacking.split(',')[0]}") >= 3
