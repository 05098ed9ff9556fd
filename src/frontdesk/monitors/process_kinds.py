"""The kinds of process objects, and how each is asked without being touched.

Above `processes.py`, below `dispatch.py`. It knows the attributes of `Popen`, of asyncio's and of
multiprocessing's processes, the private ones that there is no public way to: multiprocessing's
`exitcode` and `is_alive()` reap, so what it has already found out is read beside them.
"""

from __future__ import annotations

import asyncio.subprocess
import subprocess
import sys
from typing import Any

from frontdesk.errors import AgentNotStarted
from frontdesk.monitors import linux
from frontdesk.monitors.processes import ProcessKind, ProcessRef


def kind_of(agent: Any) -> ProcessKind | None:
    """Return how this process object is asked; None if it is none."""
    if isinstance(agent, ProcessRef):
        return _REF
    if isinstance(agent, (subprocess.Popen, asyncio.subprocess.Process)):
        return _OWNED
    # Never imported for the question: whoever has such a process has imported it.
    module = sys.modules.get("multiprocessing.process")
    return _MULTIPROCESSING if module and isinstance(agent, module.BaseProcess) else None


def _identity_of_ref(ref: ProcessRef) -> tuple[int, int]:
    return ref.pid, ref.start_time


def _returncode_of_ref(ref: ProcessRef) -> int | None:
    """Ask a reference that its owner made: one of a type of the owner's may know the status."""
    returncode: int | None = getattr(ref, "returncode", None)
    return returncode


def _identity_of_owned(process: Any) -> tuple[int, None]:
    if not process.pid:
        raise AgentNotStarted(f"{type(process).__name__} without a pid")
    return int(process.pid), None


def _returncode_of_owned(process: Any) -> int | None:
    returncode: int | None = process.returncode
    return returncode


def _owner_still_has(_: Any, pid: int, fd: int | None) -> bool:
    """An object that makes children has lost its pid when that is no child of this process."""
    return linux.is_child(pid, fd=fd)


def _identity_of_multiprocessing(process: Any) -> tuple[int, None]:
    # A closed one has ended, and has forgotten its pid.
    return (0, None) if getattr(process, "_closed", False) else _identity_of_owned(process)


def _returncode_of_multiprocessing(process: Any) -> int | None:
    returncode: int | None = getattr(getattr(process, "_popen", None), "returncode", None)
    return returncode


def _multiprocessing_still_has(process: Any, pid: int, fd: int | None) -> bool:
    popen = getattr(process, "_popen", None)
    if popen is None:
        return True  # this very process, or the parent's, seen from a child
    if getattr(popen, "method", None) == "forkserver":
        # A child of the fork server, which writes the status into the sentinel when it reaps.
        return not linux.readable(popen.sentinel)
    return linux.is_child(pid, fd=fd)


_REF = ProcessKind(
    identity_of=_identity_of_ref, returncode_of=_returncode_of_ref, still_has=lambda *_: True
)
_OWNED = ProcessKind(
    identity_of=_identity_of_owned, returncode_of=_returncode_of_owned, still_has=_owner_still_has
)
_MULTIPROCESSING = ProcessKind(
    identity_of=_identity_of_multiprocessing,
    returncode_of=_returncode_of_multiprocessing,
    still_has=_multiprocessing_still_has,
)
