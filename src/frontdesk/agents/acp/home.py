"""The home directory of an ACP session's agent: what it remembers there is its tenant's alone.

Coding agents keep instructions, memories and logins under `HOME`, and put them into their model
requests. With one home for all, what one tenant told its agent is in another tenant's requests.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Literal

from frontdesk.background import in_own_thread

HomeKind = Literal["tenant", "session", "shared"]


class Home:
    """Where an agent's `HOME` is: `path`, or None where it is the operator's own.

    `tenant` is a directory under `homes` that the tenant's sessions share and that stays;
    `session` (and `tenant` without `homes`) is one that `clear` removes. Blocks: a few system
    calls. Raises `OSError`.
    """

    __slots__ = ("_temporary", "path")

    def __init__(
        self, kind: HomeKind, *, tenant_id: str, homes: Path | None, account: str | None
    ) -> None:
        self.path: str | None = None
        self._temporary = False
        if kind == "shared":
            return
        if kind == "tenant" and homes is not None:
            homes.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.path = str(homes.absolute() / tenant_id)
            os.makedirs(self.path, mode=0o700, exist_ok=True)
        else:
            self._temporary = True
            self.path = tempfile.mkdtemp(prefix="frontdesk-home-")
        if account is not None:
            entry = pwd.getpwnam(account)
            os.chown(self.path, entry.pw_uid, entry.pw_gid)

    def in_environment(self, environment: dict[str, str]) -> dict[str, str]:
        """Return the environment with this home in it."""
        return environment if self.path is None else {**environment, "HOME": self.path}

    async def clear(self) -> None:
        """Remove the directory where it was the session's own. Idempotent."""
        if self._temporary and self.path is not None:
            remove = partial(shutil.rmtree, self.path, ignore_errors=True)
            await in_own_thread(remove, name="removal")
