"""How a watcher's thread sleeps: until a descriptor is ready, it is woken, or time is up.

It knows descriptors and no monitors. `EpollPoller` is for Linux; `PipePoller` serves where there is
no epoll, or threads are greenlets, and then nothing but the clock is waited for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from types import ModuleType
from typing import Protocol

from frontdesk.monitors.green_threads import select_is_green, threads_are_green, unpatched_select
from frontdesk.monitors.linux import can_sleep_in_epoll

_WOKEN = (1).to_bytes(8, "little")


class Poller(Protocol):
    """A place to sleep, with an owner who closes it."""

    def add(self, fd: int) -> None:
        """Wait for this descriptor too, from now on. `OSError` where that cannot be."""
        ...

    def remove(self, fd: int) -> None:
        """Wait for it no more. To be called before it is closed."""
        ...

    def wait(self, timeout_s: float | None) -> list[int] | None:
        """Sleep, and return the descriptors that are ready; None where the time is up."""
        ...

    def wake(self) -> None:
        """End the sleep, or the next one. From any thread, any number of times."""
        ...

    def close(self) -> None:
        """Give the descriptors back. In a forked child the parent's are not touched by it."""
        ...


class EpollPoller:
    """Wait in the kernel, for any number of descriptors."""

    __slots__ = ("_epoll", "_wake")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        try:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError:
            self._epoll.close()
            raise
        self._epoll.register(self._wake, select.EPOLLIN)

    def add(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(fd)

    def wait(self, timeout_s: float | None) -> list[int] | None:
        ready = [fd for fd, _ in self._epoll.poll(timeout_s)]
        if not ready:
            return None
        if self._wake in ready:
            ready.remove(self._wake)
            _drain(self._wake)
        return ready

    def wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake, _WOKEN)

    def close(self) -> None:
        # From CPython 3.15 on, epoll objects say so where somebody else closed the descriptor.
        with contextlib.suppress(OSError):
            self._epoll.close()
        with contextlib.suppress(OSError):
            os.close(self._wake)


class PipePoller:
    """Wait for the clock or a wake-up, on any POSIX system, by the functions of a `select`."""

    __slots__ = ("_read", "_select", "_write")

    def __init__(self, select_module: ModuleType = unpatched_select) -> None:
        self._select = select_module
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def add(self, fd: int) -> None:  # noqa: ARG002 - the protocol's
        raise OSError("this system has no descriptors of processes")

    def remove(self, fd: int) -> None:
        """Do nothing: there are none."""

    def wait(self, timeout_s: float | None) -> list[int] | None:
        if not self._woken(timeout_s):
            return None
        _drain(self._read)
        return []

    def _woken(self, timeout_s: float | None) -> bool:
        if not hasattr(self._select, "poll"):  # eventlet's, which bears any number of a descriptor
            return bool(self._select.select([self._read], [], [], timeout_s)[0])
        poll = self._select.poll()
        poll.register(self._read, self._select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._write, _WOKEN)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def make_poller() -> Poller:
    """Return the better of the two for this system. `OSError` where each would block everybody."""
    if can_sleep_in_epoll():
        return EpollPoller()
    if not threads_are_green():
        return PipePoller()
    if not select_is_green():
        raise OSError(
            errno.ENOTSUP,
            "threads are greenlets here and select() is not patched with them, so the thread that "
            "watches would block the program (gevent, eventlet: patch both, or neither)",
        )
    return PipePoller(select)


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)
