"""Power loss: what was said to be committed is in every image that the disk may have then.

The system calls of a process that writes are recorded; of each moment around a sync, images are
made of what was synced, with none, all or some of what was not.
"""

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from persistence.checked_stores import problem_of
from support.synced_images import Disk, traced

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(110)]

ROUNDS = 16


def recorded(tmp_path, *options):
    """Run the writer below strace, and return what it did."""
    directory = tmp_path / "state"
    directory.mkdir()
    program = [sys.executable, "-m", "support.programs.storage_writer", str(directory)]
    path = os.pathsep.join(each for each in sys.path if each)
    return traced(
        [*program, str(ROUNDS), *options],
        directory=directory,
        log=tmp_path / "strace",
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def problems_in_images(tmp_path, calls, *, images_in, apart=False):
    """Return what is wrong with images of all moments around syncs."""
    disk = Disk(tmp_path / "state")
    chance = random.Random(15)
    said, problems, images = [], [], 0
    for event in calls:
        cut = event[0] in {"sync begins", "synced"}
        lands = [lambda: False, lambda: chance.random() < 0.5] if event[0] == "sync begins" else []
        if event[0] == "synced":
            lands = [lambda: False]
        if event[0] == "said":
            said.append(event[1])
        if event[0] == "synced":
            disk.play(event)
        for each in lands if cut else ():
            place = images_in / "image"
            disk.image(place, lands=each)
            images += 1
            if problem := problem_of(place, said, apart=apart):
                problems.append(problem)
            shutil.rmtree(place)
        if event[0] != "synced":
            disk.play(event)
    assert len(said) > ROUNDS
    assert images > ROUNDS
    return problems


@pytest.fixture
def memory():
    """A directory in memory, where there is one: checking an image is no test of the disk."""
    within = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=within) as directory:
        yield Path(directory)


def test_whatever_is_committed_is_in_every_image_after_a_power_loss(tmp_path, memory):
    calls = recorded(tmp_path)
    assert problems_in_images(tmp_path, calls, images_in=memory) == []


def test_with_edges_no_more_than_events_that_nothing_follows_is_lost(tmp_path, memory):
    calls = recorded(tmp_path, "edges")
    assert problems_in_images(tmp_path, calls, images_in=memory, apart=True) == []


def test_images_find_a_store_that_does_not_sync_its_commits(tmp_path, memory):
    calls = recorded(tmp_path, "mutated")
    assert problems_in_images(tmp_path, calls, images_in=memory)
