"""The unit for systemd: it says what systemd understands, and allows what a gateway does."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frontdesk.cli.run import MAX_OPEN_FILES
from gateway.command import serving
from gateway.running import create, turn_of
from support.installed import missing
from support.waiting import eventually

UNIT = Path(__file__).parents[2] / "ops/frontdesk.service"
FIRST_WITH_NOTIFY_RELOAD = 253
MAX_EXPOSURE = 2.0
CONFIG = """
[blueprints.parrot]
kind = "python"
target = "gateway.agents:parrot"
[blueprints.apart]
kind = "python"
target = "gateway.agents:parrot"
isolation = "process"
"""


def program(name):
    return shutil.which(name) or missing(name)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def analyze():
    return program("systemd-analyze")


@pytest.fixture
def unit(analyze, tmp_path):
    """A copy of the unit that can be verified here: its program is one that there is."""
    version = int(re.search(r"systemd (\d+)", run(analyze, "--version").stdout)[1])
    text = UNIT.read_text().replace("/opt/frontdesk/venv/bin/frontdesk", sys.executable)
    if version < FIRST_WITH_NOTIFY_RELOAD:
        text = text.replace("Type=notify-reload", "Type=notify")
    copy = tmp_path / "frontdesk.service"
    copy.write_text(text)
    return str(copy)


def settings():
    """Return what the unit sets; of what is set twice, the last."""
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))


def test_systemd_understands_every_line_of_the_unit(analyze, unit):
    ran = run(analyze, "verify", unit)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_systemd_holds_the_service_for_little_exposed(analyze, unit):
    said = run(analyze, "security", "--offline=true", unit).stdout
    assert float(re.search(r"Overall exposure level.*: ([\d.]+)", said)[1]) <= MAX_EXPOSURE


def test_the_unit_says_what_the_gateway_needs():
    said = settings()
    assert said["Type"] == "notify-reload"
    assert said["NotifyAccess"] == "main"
    assert said["KillMode"] == "mixed"
    assert int(said["LimitNOFILE"]) == MAX_OPEN_FILES
    assert int(said["WatchdogSec"]) > 0


def names_of(analyze, group):
    """Return the system calls of a group, those of the groups in it included."""
    names = set()
    for line in run(analyze, "syscall-filter", group).stdout.splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            names |= names_of(analyze, name)
        elif name and not name.startswith("#"):
            names.add(name)
    return names


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_system_call_of_a_gateway_and_its_agents_is_refused_by_the_unit(
    analyze, tmp_path, monkeypatch
):
    strace, without = program("strace"), program("setpriv")
    if os.geteuid() != 0:
        pytest.skip("only root can give up what the unit takes away")
    allowed = set()
    for each in settings()["SystemCallFilter"].split():
        allowed |= names_of(analyze, each) if each.startswith("@") else {each}
    trace = tmp_path / "trace"
    # As the unit has it: nothing is permitted to root, and nothing can be had.
    wrapper = tmp_path / "python"
    wrapper.write_text(
        f"#!/bin/sh\nexec {without} --no-new-privs --bounding-set=-all --inh-caps=-all "
        f'{strace} -D -f -qq -e signal=none -o {trace} {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setattr("gateway.command.sys.executable", str(wrapper))
    with serving(tmp_path / "run", config=CONFIG) as server, server.client() as client:
        for blueprint in ("parrot", "apart"):
            create(client, blueprint, blueprint=blueprint)
            assert turn_of(client, blueprint, "who is in?")[-1][1] == "agent_end"
        server.signal(signal.SIGHUP)
        eventually(lambda: "reloaded" in server.log, within_s=60)
        server.signal(signal.SIGTERM)
        assert server.wait(60) == 0
    used = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)[( ]", trace.read_text(), re.MULTILINE))
    assert len(used) > 50
    assert used - allowed == set()
