"""The home directory of an ACP session's agent: what it remembers there is its tenant's alone.

Coding agents keep instructions, memories and logins under `HOME`, and put them into their model
requests. With one home for all, what one tenant told its agent is in another tenant's requests.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Literal

from frontdesk.agents.acp.own_directory import OwnDirectory

HomeKind = Literal["tenant", "session", "shared"]


class Home:
    """Where an agent's `HOME` is: `path`, or None where it is the operator's own.

    `tenant` is a directory under `homes` that the tenant's sessions share and that stays;
    `session` (and `tenant` without `homes`) is one that `clear` removes, or the `former` one of the
    same session. Blocks: a few system calls. Raises `OSError`.
    """

    __slots__ = ("_own", "path")

    def __init__(
        self,
        kind: HomeKind,
        *,
        tenant_id: str,
        homes: Path | None,
        account: str | None,
        former: str | None = None,
    ) -> None:
        self.path: str | None = None
        self._own: OwnDirectory | None = None
        if kind == "shared":
            return
        if kind == "tenant" and homes is not None:
            homes.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.path = str(homes.absolute() / tenant_id)
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            if account is not None:
                entry = pwd.getpwnam(account)
                os.chown(self.path, entry.pw_uid, entry.pw_gid)
        else:
            self._own = OwnDirectory(prefix="frontdesk-home-", account=account, path=former)
            self.path = self._own.path

    def in_environment(self, environment: dict[str, str]) -> dict[str, str]:
        """Return the environment with this home in it."""
        return environment if self.path is None else {**environment, "HOME": self.path}

    @property
    def own_path(self) -> str | None:
        """Return where the directory is, if it was made for the session."""
        return None if self._own is None else self._own.path

    def leave(self) -> None:
        """Let the directory be. Idempotent."""
        if self._own is not None:
            self._own.leave()

    async def clear(self) -> None:
        """Remove the directory where it was the session's own. Idempotent."""
        if self._own is not None:
            await self._own.remove()
