"""What can go wrong between a keeper, its client and an agent's process.

Each error carries its facts as attributes and writes its own message from them.
"""

from __future__ import annotations

import errno
import re

from frontdesk.errors import FrontdeskError

SHORTAGES = frozenset(
    {
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EDQUOT,
    }
)
"""What a system call answers where the machine is out of something: it may pass."""

_ERRNO = re.compile(r"\[Errno (\d+)\]")

__all__ = [
    "ForkServerFailed",
    "KeeperLost",
    "LimitUnenforceable",
    "SpawnFailed",
]


class SpawnFailed(FrontdeskError):
    """An agent process never ran: `stage` names the step that failed, `problem` says how.

    Stages: `fork`, `group`, `limits`, `account`, `directory`, `domain`, `keeper`, `exec`,
    `forkserver`, `descriptors`, `request`. `may_pass` says that the machine is out of something now
    (descriptors, memory, processes, room, time), and may have it later.
    """

    label: str
    stage: str
    problem: str

    def __init__(self, label: str, *, stage: str, problem: str, may_pass: bool = False) -> None:
        self.label, self.stage, self.problem = label, stage, problem
        number = _ERRNO.match(problem)
        self.may_pass: bool = may_pass or (number is not None and int(number[1]) in SHORTAGES)
        super().__init__(f"cannot start the process of {label!r} ({stage}): {problem}")


class ForkServerFailed(FrontdeskError):
    """The imports of a blueprint failed in the process that its agents would be forked from.

    `python` is that process's interpreter, where it is another than this one's.
    """

    preload: tuple[str, ...]
    problem: str
    python: str | None

    def __init__(
        self, preload: tuple[str, ...], *, problem: str, python: str | None = None
    ) -> None:
        self.preload, self.problem, self.python = preload, problem, python
        where = "" if python is None else f" in {python}"
        what = ", ".join(preload) or "an interpreter"
        super().__init__(f"cannot prepare {what}{where}: {problem}")


class KeeperLost(FrontdeskError):
    """The process that keeps the agent processes has ended and could not be replaced."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the keeper of agent processes is gone: {problem}")


class LimitUnenforceable(FrontdeskError):
    """A limit was configured that this system cannot hold an agent process to."""

    limit: str
    problem: str

    def __init__(self, limit: str, *, problem: str) -> None:
        self.limit, self.problem = limit, problem
        super().__init__(f"cannot enforce {limit}: {problem}")
