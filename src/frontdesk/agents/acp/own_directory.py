"""A directory made for one session, and removed with it whatever its agent has put there.

What an agent can leave: directories nested deeper than any path or stack goes, files by the
hundred thousand, names that are no text, directories that nobody may enter, and the directory
itself under another name. So nothing here holds a path, a list of names or a descriptor for each
level: the directory is known by one descriptor, and each directory in it is moved up into it before
it is looked into. `rm -rf` and `shutil.rmtree` go down instead, and need one of the three.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from frontdesk.background import in_own_thread

_PLACE = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NAME_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)

_log = logging.getLogger("frontdesk.agents.acp")


class OwnDirectory:
    """A directory of one session's, at `path`. `remove` it; it holds a descriptor until then.

    `account` is whose it is. Making it blocks: a few system calls. Raises `OSError`. With `path`,
    it is one that was made before, for the same session.
    """

    __slots__ = ("_place", "path")

    def __init__(self, *, prefix: str, account: str | None, path: str | None = None) -> None:
        self._place: int | None = None
        if path is not None:
            self.path: str = path
            self._place = os.open(path, _PLACE)
            return
        self.path = os.path.realpath(tempfile.mkdtemp(prefix=prefix))
        try:
            self._place = os.open(self.path, _PLACE)
            if account is not None:
                entry = pwd.getpwnam(account)
                os.chown(self.path, entry.pw_uid, entry.pw_gid)
        except BaseException:
            if self._place is not None:
                os.close(self._place)
            os.rmdir(self.path)
            raise

    def leave(self) -> None:
        """Let it be: another agent of its session finds it. Idempotent."""
        place, self._place = self._place, None
        if place is not None:
            os.close(place)

    async def remove(self) -> None:
        """Remove it with all that is in it; what cannot be removed is logged. Idempotent."""
        place, self._place = self._place, None
        if place is None:
            return
        if not await in_own_thread(partial(remove_directory, place, self.path), name="removal"):
            _log.warning("what a session left in %s could not be removed", self.path)


def remove_directory(place: int, path: str) -> bool:
    """Remove the directory behind a descriptor, which is closed; return whether it is gone.

    `path` is where it was. Blocks, with what is in it.
    """
    try:
        _Emptying(place).run()
        with suppress(FileNotFoundError):  # a system without such a /proc
            # Under the name that it has now: who may write beside it may have moved it.
            path = os.readlink(f"/proc/self/fd/{place}")
        os.rmdir(path)
    except OSError:
        return False
    finally:
        os.close(place)
    return True


class _Emptying:
    """Empty the directory behind a descriptor, at any depth, with two more descriptors at a time.

    Nobody is to write there any more. Links are removed, never followed, and what is mounted there
    is left alone. Costs some system calls for each directory and one for each file.
    """

    def __init__(self, place: int) -> None:
        self._place = place
        self._device = os.fstat(place).st_dev
        self._names = (f".removed-{number}" for number in itertools.count())
        self._done = 0

    def run(self) -> None:
        """Do it, as far as it can be done."""
        _let_in(self._place)
        before = -1
        # Until a look changes nothing: what was moved up may not have been seen yet.
        while self._done != before:
            before = self._done
            for entry in _entries(self._place):
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        self._flatten(entry.name)
                        os.rmdir(entry.name, dir_fd=self._place)
                    else:
                        os.unlink(entry.name, dir_fd=self._place)
                    self._done += 1

    def _flatten(self, name: str) -> None:
        """Remove what is in a directory, and move the directories in it up beside it."""
        directory = os.open(name, _PLACE, dir_fd=self._place)
        try:
            if os.fstat(directory).st_dev != self._device:
                return
            _let_in(directory)
            for entry in _entries(directory):
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        self._move_up(entry.name, directory)
                    else:
                        os.unlink(entry.name, dir_fd=directory)
                    self._done += 1
        finally:
            os.close(directory)

    def _move_up(self, name: str, directory: int) -> None:
        with suppress(OSError):
            os.rmdir(name, dir_fd=directory)
            return
        # To be moved, a directory has to be writable itself: its `..` is changed.
        inner = os.open(name, _PLACE, dir_fd=directory)
        try:
            _let_in(inner)
        finally:
            os.close(inner)
        for fresh in self._names:
            try:
                os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=self._place)
            except OSError as error:
                if error.errno in _NAME_TAKEN:
                    continue
                raise
            return


def _entries(directory: int) -> Iterator[os.DirEntry[str]]:
    listed = os.open(".", _LIST, dir_fd=directory)
    try:
        with os.scandir(listed) as entries:
            yield from entries
    finally:
        os.close(listed)


def _let_in(directory: int) -> None:
    # By way of /proc: a descriptor that was opened for the place alone is no way to change a mode.
    # Not root's own to have failed at: it may go in as it is.
    with suppress(OSError):
        os.chmod(f"/proc/self/fd/{directory}", 0o700)
