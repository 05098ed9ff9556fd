"""What agent processes may see and use: the environment by allow-list, limits that hold."""

import json
import os
import pwd
import subprocess
import sys

import pytest

from frontdesk.errors import InvalidArgument
from frontdesk.keeper.environment import (
    allowed_environment,
    interpreter_environment,
    python,
    search_path,
)
from frontdesk.keeper.errors import LimitUnenforceable
from frontdesk.keeper.limits import check_limits
from frontdesk.keeper.messages import ForkServerSpec, ProcessLimits
from frontdesk.keeper.procfs import stat_of

SOURCE = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "OPENAI_API_KEY": "k",
    "OPENAI_BASE_URL": "u",
    "FRONTDESK_KEYS": "acme:secret",
    "AWS_SECRET_ACCESS_KEY": "s",
}


def test_nothing_goes_to_an_agent_that_was_not_named():
    assert allowed_environment(source=SOURCE) == {"PATH": "/bin", "LC_ALL": "C"}


def test_names_are_patterns_and_case_counts():
    allowed = allowed_environment(["OPENAI_*", "aws_*"], source=SOURCE)
    assert set(allowed) == {"PATH", "LC_ALL", "OPENAI_API_KEY", "OPENAI_BASE_URL"}


def test_an_account_of_its_own_has_a_home_of_its_own():
    allowed = allowed_environment(source={"HOME": "/root", "USER": "root"}, account="nobody")
    assert allowed == {
        "HOME": pwd.getpwnam("nobody").pw_dir,
        "USER": "nobody",
        "LOGNAME": "nobody",
    }


def test_the_keeper_starts_without_the_gateways_secrets(monkeypatch):
    monkeypatch.setenv("FRONTDESK_KEYS", "acme:secret")
    monkeypatch.setenv("PYTHONSTARTUP", "/tmp/startup.py")
    environment = interpreter_environment()
    assert not {"FRONTDESK_KEYS", "PYTHONSTARTUP", "HOME"} & environment.keys()
    assert "PYTHONPATH" not in environment


def test_an_interpreter_of_ours_imports_this_package_and_nothing_of_our_search_path(
    monkeypatch, tmp_path
):
    for name in ("sitecustomize", "_winapi", "json"):
        (tmp_path / f"{name}.py").write_text("print('taken')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path, str(tmp_path), ""])
    program = "import json, frontdesk, msgspec\nprint(json.dumps([sys.path, sys.argv[1:]]))"
    environment = interpreter_environment()
    done = subprocess.run(
        python(program, "one", "--two"),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    path, arguments = json.loads(done.stdout)
    assert str(tmp_path) not in path
    assert arguments == ["one", "--two"]


def test_the_search_path_means_the_same_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "relative", "/absolute"])
    assert search_path() == (str(tmp_path), str(tmp_path / "relative"), "/absolute")


def test_fork_servers_that_differ_in_anything_are_two():
    one = ForkServerSpec(entry="a:b", env={"x": "1", "y": "2"})
    same = ForkServerSpec(entry="a:b", env={"y": "2", "x": "1"})
    assert one.key == same.key
    assert one.key != ForkServerSpec(entry="a:b", env={"x": "1"}).key
    assert one.key != ForkServerSpec(entry="a:b", env={"x": "1", "y": "2"}, argument="z").key


@pytest.mark.parametrize(
    "limits",
    [
        ProcessLimits(memory_mb=63),
        ProcessLimits(cpu_s=0),
        ProcessLimits(open_files=31),
        ProcessLimits(processes=0),
    ],
)
def test_a_limit_that_no_process_could_live_with_is_refused(limits):
    with pytest.raises(InvalidArgument, match="must be at least"):
        check_limits(limits)


def test_processes_are_limited_only_for_an_account_of_their_own():
    for account in (None, "root", pwd.getpwuid(os.getuid()).pw_name):
        with pytest.raises(LimitUnenforceable, match="cannot enforce processes"):
            check_limits(ProcessLimits(processes=10), account=account)
    if os.geteuid() == 0:
        check_limits(ProcessLimits(processes=10), account="nobody")


def test_an_account_that_there_is_not_is_refused():
    with pytest.raises(LimitUnenforceable, match="there is none of this name"):
        check_limits(ProcessLimits(), account="there-is-no-such-account")


def test_only_root_can_run_agents_under_another_account(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(LimitUnenforceable, match="only root"):
        check_limits(ProcessLimits(), account="nobody")


def test_a_process_whose_name_looks_like_a_stat_line_is_read_right(tmp_path):
    """The name of a process is its own choice."""
    program = tmp_path / ") Z 1 (x"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "1000"])
    try:
        stat = stat_of(child.pid)
        assert (stat.over, stat.parent, stat.group) == (False, os.getpid(), os.getpgrp())
        assert stat.start_time > stat_of(os.getpid()).start_time
    finally:
        child.kill()
        child.wait()
    assert stat_of(child.pid) is None
