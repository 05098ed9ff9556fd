"""What the keeper holds agent processes to: limits, accounts, bounded standard error."""

import asyncio
import logging
import os
import re
import signal
import time

import pytest

from frontdesk.keeper.client import Keeper
from frontdesk.keeper.environment import allowed_environment
from frontdesk.keeper.messages import Command, ProcessLimits, SpawnRequest
from frontdesk.keeper.stderr import (
    LITTLE_BYTES,
    LITTLE_LINES,
    MAX_TOTAL_BYTES_PER_S,
    MAX_TOTAL_LINES_PER_S,
    StderrBudget,
)
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


class Seconds:
    """Lines of the log by the second in which they came, as a handler."""

    def __init__(self):
        self.lines = []

    def __enter__(self):
        self._logger = logging.getLogger("frontdesk.agents.stderr")
        self._handler = logging.Handler()
        self._handler.emit = lambda r: self.lines.append((time.monotonic(), r.getMessage()))
        self._logger.addHandler(self._handler)
        self._former = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        return self

    def __exit__(self, *exc_info):
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._former[0])
        self._logger.propagate = self._former[1]

    def within(self, seconds):
        """Return the largest number of lines that came within so many seconds."""
        times = [when for when, _ in self.lines]
        return max((sum(1 for t in times if 0 <= t - each < seconds) for each in times), default=0)


@pytest.mark.parametrize("line", ["x", "\\033[2J\\033[31mred", "y" * 1000])
def test_the_floods_of_all_agents_together_are_bounded_and_counted(line):
    flood = f"while :; do printf '{line}\\n%.0s' 1 2 3 4 5 6 7 8 9 >&2; done"

    async def main():
        async with asyncio.timeout(100), Keeper() as keeper:
            floods = [await keeper.spawn(shell(flood)) for _ in range(12)]
            await asyncio.sleep(0)
            quiet = await keeper.spawn(shell("read x; echo quiet >&2; echo done"))
            # A second of floods that ends before the quiet one speaks.
            while len(seen.lines) < 2 * MAX_TOTAL_LINES_PER_S // 3:
                await asyncio.sleep(0.01)
            quiet.writer.write(b"go\n")
            await quiet.reader.readline()
            while not any("quiet" in text for _, text in seen.lines):
                await asyncio.sleep(0.01)
            while not any("left out" in text for _, text in seen.lines):
                await asyncio.sleep(0.01)
            for each in floods:
                await each.end(0)

    with Seconds() as seen:
        asyncio.run(main())
    # Any second may have the ends of two that are counted, and what is left in the pipes.
    assert seen.within(1.0) <= 2 * MAX_TOTAL_LINES_PER_S
    assert not any("\x1b" in text for _, text in seen.lines)


def test_what_each_and_all_may_write_is_theirs_again_in_the_next_second():
    async def main():
        budget = StderrBudget()
        flooding = [budget.may_log(n + LITTLE_LINES) for n in range(1, MAX_TOTAL_LINES_PER_S)]
        assert sum(flooding) == MAX_TOTAL_LINES_PER_S // 2
        quiet = [budget.may_log(LITTLE_LINES) for _ in range(MAX_TOTAL_LINES_PER_S)]
        assert sum(quiet) == MAX_TOTAL_LINES_PER_S // 2
        budget.bytes = MAX_TOTAL_BYTES_PER_S // 2
        assert not budget.may_read(LITTLE_BYTES)
        assert budget.may_read(0)
        budget.bytes = MAX_TOTAL_BYTES_PER_S
        assert not budget.may_read(0)
        budget.leave_out(7)
        async with asyncio.timeout(20):
            while not budget.may_read(LITTLE_BYTES):
                await asyncio.sleep(0.01)
        assert budget.may_log(LITTLE_LINES + 1)

    with Seconds() as seen:
        asyncio.run(main())
    assert [text for _, text in seen.lines] == ["7 more lines of agents left out"]


def test_every_line_of_many_floods_is_logged_or_counted(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")

    async def main():
        async with asyncio.timeout(100), Keeper() as keeper:
            floods = [await keeper.spawn(shell("seq 1 300 >&2")) for _ in range(10)]
            for each in floods:
                await each.wait_gone()

    asyncio.run(main())
    texts = [r.message for r in caplog.records if r.name == "frontdesk.agents.stderr"]
    counts = [int(m[1]) for each in texts if (m := re.search(r"(\d+) more lines", each))]
    assert len(texts) - len(counts) + sum(counts) == 10 * 300


def test_a_line_without_end_is_cut(caplog):
    caplog.set_level(logging.INFO, "frontdesk.agents.stderr")
    assert end_of(shell("head -c 100000 /dev/zero | tr '\\0' x >&2")) == 0
    assert all(len(record.message) < 2100 for record in caplog.records)
