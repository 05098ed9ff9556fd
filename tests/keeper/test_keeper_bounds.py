"""What the keeper holds agent processes to: limits, accounts, bounded standard error."""

import logging
import os
import signal

import pytest

from frontdesk.keeper.environment import allowed_environment
from frontdesk.keeper.messages import Command, ProcessLimits, SpawnRequest
from support.keeper import answer_of, end_of
from support.programs.keeper_children import fork, shell

ACCOUNT = "nobody"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")


# -- bounds ------------------------------------------------------------------------------------


def test_memory_is_limited():
    granted_mb = int(answer_of(fork("grow", limits=ProcessLimits(memory_mb=256))))
    assert 64 < granted_mb < 256


def test_processor_time_is_limited():
    assert end_of(fork("spin", limits=ProcessLimits(cpu_s=1))) == -signal.SIGXCPU


def test_open_files_are_limited():
    assert int(answer_of(fork("open_many", limits=ProcessLimits(open_files=64)))) < 64


@needs_root
def test_the_number_of_processes_is_limited_for_an_account_of_its_own(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")
    script = "for n in $(seq 30); do sleep 1000 & echo $!; done"
    request = shell(script, limits=ProcessLimits(processes=20), account=ACCOUNT)
    assert end_of(request) == 2
    assert "Cannot fork" in caplog.text


@needs_root
def test_an_agent_runs_under_the_account_of_its_blueprint():
    env = allowed_environment(account=ACCOUNT)
    request = SpawnRequest(run=Command(argv=("id", "-un"), env=env, account=ACCOUNT))
    assert answer_of(request).strip() == ACCOUNT


# -- standard error ----------------------------------------------------------------------------


def test_standard_error_goes_to_the_log_with_the_label(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")
    request = shell("echo one >&2; echo two >&2; printf three >&2")
    assert end_of(request) == 0
    records = [r for r in caplog.records if r.name == "frontdesk.agents.stderr"]
    assert [record.message for record in records] == ["shell: one", "shell: two", "shell: three"]
    assert {record.session for record in records} == {"shell"}


def test_what_a_fork_prints_and_raises_goes_to_the_log(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")
    assert end_of(fork("raise_something")) == 1
    assert "RuntimeError: the agent's own words" in caplog.text


def test_a_flood_of_standard_error_is_bounded_and_said_to_be(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")
    assert end_of(shell("seq 1 20000 >&2")) == 0
    lines = [r for r in caplog.records if r.name == "frontdesk.agents.stderr"]
    assert len(lines) <= 300
    assert "more lines left out" in caplog.text


def test_a_line_without_end_is_cut(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")
    assert end_of(shell("head -c 100000 /dev/zero | tr '\\0' x >&2")) == 0
    assert all(len(record.message) < 2100 for record in caplog.records)
