"""A server whose wall clock jumps when a test says so: a library loaded before the C library."""

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


class ShiftedClock:
    """The clock of the servers that are started with its `environment`. Needs a C compiler."""

    def __init__(self, directory):
        self._file = directory / "clock-shift"
        self._library = directory / "shifted_clock.so"
        self.shift(0)
        compile_library(self._library)

    def shift(self, by_s):
        """Let the clock be so many seconds off the machine's, from now on."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("q", int(by_s * 1_000_000)))

    @property
    def environment(self):
        """What a server is started with that is to have this clock."""
        return {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK": str(self._file)}

    def assert_in_force(self, pid):
        """Fail where a process does not have this clock: what the linker ignores, it only says."""
        mapped = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        for file in (self._library, self._file):
            assert re.search(rf"{re.escape(str(file))}$", mapped, re.MULTILINE), f"no {file} there"


def compile_library(library):
    """Compile it; skip the test where there is no compiler, and fail in CI."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        assert not os.environ.get("CI"), "a C compiler is needed here"
        pytest.skip("no C compiler here")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)],
        check=True,
        timeout=60,
    )
