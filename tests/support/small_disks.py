"""A file system that has room for little, where one can be mounted."""

import os
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(place, *, mib):
    """Mount a file system of so many MiB, which needs root."""
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    """Leave no room at all; return the file that takes it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler
