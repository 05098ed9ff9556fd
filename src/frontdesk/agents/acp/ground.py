"""The ground of a session: its working directory, and a way to open files that leads nowhere else.

Used by what answers an ACP agent's requests for files and terminals. A path is walked one name at a
time, each opened relative to the directory before it and never through a symbolic link: links are
read and walked by this walk, so that one that leads out is refused, and one that is swapped between
look and use has nothing to offer. It knows nothing of the protocol.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections import deque
from types import TracebackType
from typing import Self

MOST_LINKS = 40
MOST_DEPTH = 64

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class OutsideWorkDir(Exception):
    """A path leads out of the session's working directory, or is too deep to be followed."""


class WorkDir:
    """A directory that nothing opened here is outside of. Close it; it holds a descriptor.

    Good against links, whatever makes them and whenever. Not promised: that a directory which
    somebody moves out while it is walked is not followed, and hard links are like any file.
    """

    def __init__(self, directory: str) -> None:
        self.path = os.path.realpath(directory)
        self._fd = os.open(self.path, _DIRECTORY)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the directory; a walk that is under way goes on. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def open(self, path: str, flags: int, *, make_parents: bool = False) -> int:
        """Open a regular file by its absolute path, and return the descriptor.

        `OutsideWorkDir`, `OSError`. With `O_CREAT` a missing file is made, with `make_parents` the
        directories that lead to it as well.
        """
        with _Walk(self, make_parents=make_parents) as walk:
            descriptor = walk.open(path, flags)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")

    def directory(self, path: str) -> str:
        """Return a directory on this ground by the path that no link is part of.

        `OutsideWorkDir`, `OSError`.
        """
        with _Walk(self) as walk:
            return walk.enter(path)

    def hold(self) -> int:
        """Return a descriptor of the directory, which is the caller's; `OSError` once closed.

        Never this ground's own: a number that is closed here would soon be another file's.
        """
        with self._lock:
            return os.dup(self._fd)


class _Walk:
    """One walk from the ground to a file: the directories it is in, each held open."""

    def __init__(self, ground: WorkDir, *, make_parents: bool = False) -> None:
        self._ground, self._make_parents = ground, make_parents
        self._root = ground.hold()
        self._held: list[int] = []
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
        self._begin_again()
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
        return os.path.join(self._ground.path, *self._names)

    @property
    def _here(self) -> int:
        return self._held[-1] if self._held else self._root

    def _plan(self, path: str) -> None:
        """Set out for an absolute path, from the ground itself."""
        root = self._ground.path
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            raise OutsideWorkDir
        self._begin_again()
        self._todo.extendleft(reversed(path[len(root) :].split("/")))

    def _begin_again(self) -> None:
        while self._held:
            os.close(self._held.pop())
        self._names.clear()

    def _step(self, name: str) -> None:
        if name in ("", "."):
            return
        if name == "..":
            self._up()
            return
        try:
            descriptor = self._open_directory(name)
        except NotADirectoryError:
            # What is neither directory nor link, `readlink` refuses.
            self._follow(name)
            return
        self._held.append(descriptor)
        self._names.append(name)
        if len(self._held) > MOST_DEPTH:
            raise OutsideWorkDir

    def _up(self) -> None:
        if not self._held:
            raise OutsideWorkDir
        os.close(self._held.pop())
        self._names.pop()

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
        if self._links > MOST_LINKS:
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
