"""Where the agent of one session works: the directory that its client chose, or one of its own.

Beside the ground, below `acp_agent.py`. It knows nothing of what is done there.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from frontdesk.agents.acp.ground import WorkDir


class Workplace:
    """A session's directory. `clear` it at the end: one that was made for the session goes."""

    def __init__(self, directory: str | None, *, account: str | None = None) -> None:
        self._own = None if directory is not None else _made(account)
        self.ground = WorkDir(directory or str(self._own))

    @property
    def path(self) -> str:
        """Return the directory."""
        return self.ground.path

    async def clear(self) -> None:
        """Let go of the directory, and remove it where it was made here. Idempotent."""
        self.ground.close()
        if self._own is not None:
            await asyncio.to_thread(shutil.rmtree, self._own, ignore_errors=True)


def _made(account: str | None) -> Path:
    made = Path(tempfile.mkdtemp(prefix="frontdesk-session-"))
    if account is not None:
        entry = pwd.getpwnam(account)
        os.chown(made, entry.pw_uid, entry.pw_gid)
    return made
