"""The working directory of an ACP session, and a way to open files that leads nowhere else.

It is the directory that the session's client chose, or one made for the session. A path is walked
one name at a time, each opened relative to the directory before it and never through a symbolic
link: links are read and walked by this walk, so that one that leads out is refused, and one that is
swapped between look and use has nothing to offer. What is no coroutine here blocks: call it through
`WorkDir.in_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from frontdesk.agents.acp.own_directory import OwnDirectory
from frontdesk.background import in_own_thread

MAX_LINKS = 40
MAX_DEPTH = 64

MAX_THREADS = 2
"""How many calls of one session's are under way in threads at a time."""

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Bytes of a file that is read or written."""

_DIRECTORY = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class OutsideWorkDir(Exception):
    """A path leads out of the session's working directory, or is too deep to be followed."""


class FileTooLarge(Exception):
    """A file is larger than `MAX_FILE_BYTES`."""


T = TypeVar("T")


class WorkDir:
    """A directory that nothing opened here is outside of. `clear` it; it holds a descriptor.

    `directory` None makes one for the session, of `account` where that is given, which `clear`
    removes; or is `former`, which was made for it before. Good against links, whatever makes them
    and whenever. Not promised: that a directory which somebody moves out while it is walked is not
    followed, and hard links are like any file.
    """

    def __init__(
        self, directory: str | None, *, account: str | None = None, former: str | None = None
    ) -> None:
        self._own: OwnDirectory | None = None
        if directory is None:
            self._own = OwnDirectory(prefix="frontdesk-session-", account=account, path=former)
            directory = self._own.path
        self.path: str = os.path.realpath(directory)
        self._fd = os.open(self.path, _DIRECTORY)
        self._lock = threading.Lock()
        self._threads = asyncio.Semaphore(MAX_THREADS)

    def close(self) -> None:
        """Close the descriptor; a walk that is under way goes on. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    @property
    def own_path(self) -> str | None:
        """Return where the directory is, if it was made for the session."""
        return None if self._own is None else self._own.path

    def leave(self) -> None:
        """Close it, and let the directory be. Idempotent."""
        self.close()
        if self._own is not None:
            self._own.leave()

    async def clear(self) -> None:
        """Close it, and remove the directory where it was made here. Idempotent."""
        self.close()
        if self._own is not None:
            await self._own.remove()

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call what blocks here in a thread of its own; the session's other calls wait."""
        async with self._threads:
            return await in_own_thread(function, name="file")

    def read_text(self, path: str, *, line: int | None = None, limit: int | None = None) -> str:
        """Return a file's text, or `limit` lines of it from `line` on, counted from one.

        `OutsideWorkDir`, `OSError`, `FileTooLarge`, `UnicodeDecodeError`.
        """
        with os.fdopen(self.open(path, os.O_RDONLY), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise FileTooLarge
        text = content.decode()
        if not line and limit is None:
            return text
        first = max(0, (line or 1) - 1)
        lines = text.split("\n")[first:]
        return "\n".join(lines if limit is None else lines[:limit])

    def write_text(self, path: str, text: str) -> None:
        """Write a file whatever was in it; make it, and the directories to it, where missing.

        `OutsideWorkDir`, `OSError`, `FileTooLarge`.
        """
        content = text.encode()
        if len(content) > MAX_FILE_BYTES:
            raise FileTooLarge
        descriptor = self.open(path, os.O_WRONLY | os.O_CREAT, make_parents=True)
        with os.fdopen(descriptor, "wb") as file:
            # A crash between these two leaves the file cut short, as any editor's would. Writing
            # another and renaming it would cut hard links and lose the file's owner and mode.
            file.truncate(0)
            file.write(content)

    def open(self, path: str, flags: int, *, make_parents: bool = False) -> int:
        """Open a regular file by its absolute path, and return the descriptor.

        `OutsideWorkDir`, `OSError`. With `O_CREAT` a missing file is made, with `make_parents` the
        directories that lead to it as well.
        """
        with _PathWalk(self, make_parents=make_parents) as walk:
            descriptor = walk.open(path, flags)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")

    def directory(self, path: str) -> str:
        """Return a directory in this one by the path that no link is part of.

        `OutsideWorkDir`, `OSError`.
        """
        with _PathWalk(self) as walk:
            return walk.enter(path)

    def duplicate(self) -> int:
        """Return a descriptor of the directory, which is the caller's; `OSError` once closed.

        Never the one held here: a number that is closed here would soon be another file's.
        """
        with self._lock:
            return os.dup(self._fd)


class _PathWalk:
    """One walk from the directory to a file: the directories it is in, each held open."""

    def __init__(self, workdir: WorkDir, *, make_parents: bool = False) -> None:
        self._workdir, self._make_parents = workdir, make_parents
        self._root = workdir.duplicate()
        self._open_dirs: list[int] = []
        self._names: list[str] = []
        self._todo: deque[str] = deque()
        self._links = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._restart()
        os.close(self._root)

    def open(self, path: str, flags: int) -> int:
        """Walk to a file and open it."""
        self._plan(path)
        while self._todo:
            name = self._todo.popleft()
            if self._todo or name in ("", ".", ".."):
                self._step(name)
                continue
            try:
                return os.open(name, flags | _FILE, 0o666, dir_fd=self._here)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                self._follow(name)
        raise IsADirectoryError(errno.EISDIR, "is a directory")

    def enter(self, path: str) -> str:
        """Walk to a directory, and return where that is."""
        self._plan(path)
        while self._todo:
            self._step(self._todo.popleft())
        return os.path.join(self._workdir.path, *self._names)

    @property
    def _here(self) -> int:
        return self._open_dirs[-1] if self._open_dirs else self._root

    def _plan(self, path: str) -> None:
        """Set out for an absolute path, from the directory itself."""
        root = self._workdir.path
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            raise OutsideWorkDir
        self._restart()
        self._todo.extendleft(reversed(path[len(root) :].split("/")))

    def _restart(self) -> None:
        while self._open_dirs:
            os.close(self._open_dirs.pop())
        self._names.clear()

    def _step(self, name: str) -> None:
        if name in ("", "."):
            return
        if name == "..":
            if not self._open_dirs:
                raise OutsideWorkDir
            os.close(self._open_dirs.pop())
            self._names.pop()
            return
        try:
            descriptor = self._open_directory(name)
        except NotADirectoryError:
            # What is neither directory nor link, `readlink` refuses.
            self._follow(name)
            return
        self._open_dirs.append(descriptor)
        self._names.append(name)
        if len(self._open_dirs) > MAX_DEPTH:
            raise OutsideWorkDir

    def _open_directory(self, name: str) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=self._here)
        except FileNotFoundError:
            if not self._make_parents:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._here)
        return os.open(name, _DIRECTORY, dir_fd=self._here)

    def _follow(self, name: str) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise OutsideWorkDir
        try:
            target = os.readlink(name, dir_fd=self._here)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory") from None
            raise
        if target.startswith("/"):
            self._plan(target)
        else:
            self._todo.extendleft(reversed(target.split("/")))
