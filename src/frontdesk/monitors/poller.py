"""How a watcher's thread sleeps: until a descriptor is ready, it is woken, or time is up.

It knows descriptors and no monitors. `EpollPoller` is for Linux; `PipePoller` serves where there is
no epoll, and then nothing but the clock is waited for.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Protocol

from frontdesk.monitors.linux import CAN_WAIT

_WOKEN = (1).to_bytes(8, "little")


class Poller(Protocol):
    """A place to sleep, with an owner who closes it."""

    def add(self, fd: int) -> None:
        """Wait for this descriptor too, from now on. `OSError` where that cannot be."""
        ...

    def remove(self, fd: int) -> None:
        """Wait for it no more. To be called before it is closed."""
        ...

    def wait(self, timeout_s: float | None) -> list[int]:
        """Sleep, and return the descriptors that are ready."""
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

    def wait(self, timeout_s: float | None) -> list[int]:
        ready = [fd for fd, _ in self._epoll.poll(timeout_s)]
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
    """Wait for the clock or a wake-up, on any POSIX system."""

    __slots__ = ("_read", "_write")

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def add(self, fd: int) -> None:  # noqa: ARG002 - the protocol's
        raise OSError("this system has no descriptors of processes")

    def remove(self, fd: int) -> None:
        """Do nothing: there are none."""

    def wait(self, timeout_s: float | None) -> list[int]:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if poll.poll(None if timeout_s is None else timeout_s * 1000):
            _drain(self._read)
        return []

    def wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._write, _WOKEN)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def make_poller() -> Poller:
    """Return the better of the two for this system."""
    return EpollPoller() if CAN_WAIT else PipePoller()


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)
