"""What an ACP agent leaves for the next one of its session: where the session is to be found.

An agent keeps its sessions itself, on its machine. The memory names the session, the directories
that were made for it, and what the agent said of it: which models it offers, how its options are
set, what it has counted.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from frontdesk.agents.records import Memory, TokenUsage

KIND = "acp"

VERSION = 1

MAX_OPENED_BYTES = 256 * 1024
"""Bytes of what an agent said of its session that are left; more are not."""

_log = logging.getLogger("frontdesk.agents.acp")


class SessionLeft(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's session, whose it is, and the machine that it is on.

    `of` is the session here, with its tenant: a copy of that has not its agent's session.
    `workdir` and `home` are directories that were made for it, None where they were not. `opened`
    is what the agent said as it was opened, `options` how they were set last. `used` and `cost_usd`
    are what of its sums is counted already.
    """

    of: str
    session_id: str
    machine: str
    workdir: str | None = None
    home: str | None = None
    opened: dict[str, Any] = {}
    options: dict[str, str | bool] = {}
    used: TokenUsage = TokenUsage()
    cost_usd: float = 0.0

    def memory(self) -> Memory:
        """Return what is left of it."""
        left = self
        if len(msgspec.json.encode(self.opened)) > MAX_OPENED_BYTES:
            left = msgspec.structs.replace(self, opened={})
        content = msgspec.json.encode(left)
        return Memory(kind=KIND, version=VERSION, content=content, replaces=True)

    @classmethod
    def found_in(cls, memories: Iterable[Memory], *, of: str) -> SessionLeft | None:
        """Return what the last agent left; None where that is nothing that can be used here."""
        left = [memory for memory in memories if memory.kind == KIND]
        if not left:
            return None
        if left[-1].version != VERSION:
            _log.warning("what an ACP agent left has version %d", left[-1].version)
            return None
        try:
            found = msgspec.json.decode(left[-1].content, type=cls)
        except (msgspec.MsgspecError, RecursionError) as error:
            _log.warning("what an ACP agent left cannot be read: %s", error)
            return None
        return found if (found.of, found.machine) == (of, this_machine()) else None


def this_machine() -> str:
    """Return what tells this machine, or container, from others."""
    try:
        identity = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        identity = ""
    return f"{identity}/{socket.gethostname()}"


def existing(directory: str | None) -> str | None:
    """Return a directory that is still there."""
    return directory if directory is not None and os.path.isdir(directory) else None
