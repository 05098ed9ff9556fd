"""Which limits this system can hold an agent process to: refused at the start, not found out later.

Pure but for looking at the account that it runs under.
"""

from __future__ import annotations

import os
import pwd

from frontdesk.errors import InvalidArgument
from frontdesk.keeper.errors import LimitUnenforceable
from frontdesk.keeper.messages import ProcessLimits

MIN_MEMORY_MB = 64
MIN_OPEN_FILES = 32


def check_limits(limits: ProcessLimits, *, account: str | None = None) -> None:
    """Raise for limits that cannot be enforced, or that no process could live with.

    `LimitUnenforceable`: `processes` without an account of the agent's own (the system counts
    processes by account, and would count the gateway's too), or an account that this process may
    not change to or that does not exist. `InvalidArgument`: a value out of range.
    """
    _at_least("memory_mb", limits.memory_mb, MIN_MEMORY_MB)
    _at_least("cpu_s", limits.cpu_s, 1)
    _at_least("open_files", limits.open_files, MIN_OPEN_FILES)
    _at_least("processes", limits.processes, 1)
    if account is not None:
        try:
            uid = pwd.getpwnam(account).pw_uid
        except KeyError:
            raise LimitUnenforceable(
                f"account {account!r}", problem="there is none of this name"
            ) from None
        if os.geteuid() not in (0, uid):
            raise LimitUnenforceable(
                f"account {account!r}", problem="only root can run agents under another account"
            )
    if limits.processes is not None and (
        account is None or pwd.getpwnam(account).pw_uid in (0, os.getuid())
    ):
        raise LimitUnenforceable(
            "processes",
            problem="the system counts them by account, so the blueprint needs an account of its "
            "own that is not root",
        )


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise InvalidArgument(name, expected=f"at least {least}", got=str(value))
