"""Kills: whatever was committed is there after a `kill -9` at any moment, and batches are whole."""

import os
import random
import signal
import subprocess
import sys

import pytest

from persistence.checked_stores import problem_of
from support.synced_images import strace

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(110)]

PROGRAM = "support.programs.storage_writer"


def writing(directory, *options, below=()):
    """Start a process that writes rounds without end."""
    path = os.pathsep.join(each for each in sys.path if each)
    return subprocess.Popen(
        [*below, sys.executable, "-m", PROGRAM, str(directory), "1000000", *options],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def killed(process, *, after):
    """Kill a process once it has said so many lines, and return all that it said."""
    said = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    return lines_of(process, said)


def lines_of(process, said=()):
    """Return what a process said until it was killed, line by line."""
    try:
        said = [*said, *process.stdout.readlines()]
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.stdout.close()
    return [line for line in said if line.endswith("\n")]


@pytest.mark.parametrize("options", [(), ("edges",)], ids=["always", "edges"])
def test_whatever_is_committed_survives_a_process_that_is_killed_again_and_again(tmp_path, options):
    chance = random.Random(15)
    said = []
    for _ in range(6):
        said += killed(writing(tmp_path, *options), after=chance.randrange(1, 12))
        assert problem_of(tmp_path, said, apart=bool(options)) is None


AT = {"pwrite64": (1, 5, 60), "fdatasync": (1, 4, 30), "fsync": (1, 2, 3), "unlink": (1, 1)}


@pytest.mark.parametrize("call", AT)
def test_a_process_that_is_killed_at_a_call_on_its_files_leaves_them_whole(tmp_path, call):
    """Among them: the first ones, which make the file, and those of an erasure."""
    said = []
    for when in AT[call]:
        inject = f"inject={call}:signal=SIGKILL:when={when}"
        below = [*strace(), "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        said += lines_of(writing(tmp_path, below=below))
        assert problem_of(tmp_path, said) is None
