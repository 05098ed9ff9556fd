"""What writes down the calls of Frontdesk's functions, in every interpreter that finds it.

`paths` puts a copy of this file, as `sitecustomize`, first on the search path of the server that it
follows; whatever that server starts inherits the path. Alone, without imports of ours: it runs in
processes of any version of the package. While the flag is 0 (a byte of a file that all of them map)
nothing is written; otherwise each call is a line of a file of the process's own.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

FOLDER = Path(__file__).resolve().parent
PYTHON = "python"
FLAG = "recording"

PACKAGE = "package"
"""The file that says where the package lies whose calls are meant."""

NO_CALLS = frozenset({"<module>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
"""Frames that no reader takes for a call: imports, and comprehensions of older interpreters."""


LOOP = "asyncio/runners.py"
"""Below this frame is who started the event loop, and no caller of anything."""


class Recorder:
    """A profile function: one line for each call, with the functions that led to it."""

    def __init__(self, flag: mmap.mmap, *, package: str) -> None:
        self._flag, self._package = flag, package
        self._ours: dict[CodeType, str | None] = {}
        self._resumptions: dict[tuple[CodeType, int], bool] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Take a `call` event of the interpreter."""
        if event != "call" or not (number := self._flag[0]):
            return
        if (name := self._name_of(frame.f_code)) is None:
            return
        stack = [name, *self._above(frame)][::-1]
        line = {"recording": number, "stack": stack, "again": self._goes_on(frame)}
        with (FOLDER / f"calls-{os.getpid()}").open("a") as calls:
            calls.write(json.dumps(line) + "\n")

    def _above(self, frame: FrameType) -> list[str]:
        """Return the callers that are ours, the nearest first, down to the event loop or thread."""
        names, above = [], frame.f_back
        while above is not None and not above.f_code.co_filename.endswith(LOOP):
            if (name := self._name_of(above.f_code)) is not None:
                names.append(name)
            above = above.f_back
        return names

    def _name_of(self, code: CodeType) -> str | None:
        """Return `path:function` of a function of the package, None of all else."""
        if code not in self._ours:
            known = code.co_filename.startswith(self._package) and code.co_name not in NO_CALLS
            path = code.co_filename.removeprefix(self._package)
            self._ours[code] = f"{path}:{code.co_qualname}" if known else None
        return self._ours[code]

    def _goes_on(self, frame: FrameType) -> bool:
        """Say whether this is a coroutine or generator that goes on, not one that begins."""
        at = (frame.f_code, frame.f_lasti)
        if at not in self._resumptions:
            # The argument of RESUME says where: 0 is the beginning.
            code, here = frame.f_code.co_code, max(frame.f_lasti, 0)
            self._resumptions[at] = here > 0 and bool(code[here + 1])
        return self._resumptions[at]


def _begin() -> None:
    with (FOLDER / FLAG).open("r+b") as file:
        flag = mmap.mmap(file.fileno(), 1)
    recorder = Recorder(flag, package=(FOLDER / PACKAGE).read_text())
    described = json.dumps({"pid": os.getpid(), "command": sys.orig_argv})
    (FOLDER / f"process-{os.getpid()}").write_text(described)
    # The keeper's interpreter is given no search path of ours: it is started by what gives it one.
    sys.executable = str(FOLDER / PYTHON)
    threading.setprofile(recorder)
    sys.setprofile(recorder)


if __name__ == "sitecustomize":
    _begin()
