"""The files of an ACP session: what its agent may read and write through the gateway.

Above the ground, below the requests. Everything blocks: call it in a thread. It knows nothing of
the protocol but that lines are counted from one.
"""

from __future__ import annotations

import os

from frontdesk.agents.acp.ground import WorkDir

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes of a file that is read or written."""


class FileTooLarge(Exception):
    """A file is larger than `LARGEST_FILE`."""


def read_text(ground: WorkDir, path: str, *, line: int | None, limit: int | None) -> str:
    """Return a file's text, or `limit` lines of it from `line` on.

    `OffGround`, `OSError`, `FileTooLarge`, `UnicodeDecodeError`.
    """
    with os.fdopen(ground.open(path, os.O_RDONLY), "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise FileTooLarge
    text = content.decode()
    if not line and limit is None:
        return text
    first = max(0, (line or 1) - 1)
    lines = text.split("\n")[first:]
    return "\n".join(lines if limit is None else lines[:limit])


def write_text(ground: WorkDir, path: str, text: str) -> None:
    """Write a file, whatever was in it; make it, and the directories to it, where they are missing.

    `OffGround`, `OSError`, `FileTooLarge`.
    """
    content = text.encode()
    if len(content) > LARGEST_FILE:
        raise FileTooLarge
    with os.fdopen(ground.open(path, os.O_WRONLY | os.O_CREAT, make_parents=True), "wb") as file:
        # A crash between these two leaves the file cut short, as any editor's would. Writing
        # another and renaming it would cut hard links and lose the file's owner and mode.
        file.truncate(0)
        file.write(content)
