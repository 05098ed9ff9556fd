"""What monitors of threads and processes have in common: a descriptor, a watcher, one notification.

It knows when to open, poll, notify and close, and leaves to them what is opened and how an end
looks.
"""

from __future__ import annotations

import os
from typing import Any

from frontdesk.errors import MonitorFailed
from frontdesk.monitors.protocol import ExitCallback, notify
from frontdesk.monitors.watcher import Watcher
from frontdesk.records import ExitKind, ExitReason


class PolledMonitor:
    """Watch one agent through a `Watcher`: the given one, or else a private one that ends with it.

    An agent that is dead already gives a monitor that is not `alive` and knows its
    `exit_reason()`; nothing stays open and `on_exit` is not called. After `cancel()` it knows no
    more: not `alive`, and no reason.
    """

    __slots__ = ("__weakref__", "_agent", "_on_exit", "_owns_watcher", "_reason", "_watcher", "fd")

    pending_status: bool = False

    fd: int | None

    def __init__(self, agent: Any, on_exit: ExitCallback, *, watcher: Watcher | None) -> None:
        self.fd = None
        self._agent: Any = agent
        self._on_exit: ExitCallback | None = on_exit
        self._reason: ExitReason | None = None
        self._owns_watcher = watcher is None
        self._watcher = Watcher() if watcher is None else watcher
        try:
            self._reason = self._open()
            if self._reason is None:
                self._watcher.add(self)
            else:
                self._abandon()
        except OSError as error:
            self._abandon()
            if isinstance(error, MonitorFailed):
                raise
            raise MonitorFailed(type(agent).__name__, error=error) from error
        except BaseException:
            self._abandon()
            raise

    def _open(self) -> ExitReason | None:
        """Set `fd` if there can be one, make sure of whom it is, and return how a dead one ended.

        `OSError` where the agent cannot be watched.
        """
        raise NotImplementedError

    def poll(self) -> ExitReason | None:
        """Return how the agent ended, or None. From then on `exit_reason()` knows it too, so that
        nobody who asks between the poll and the notification is told less.
        """
        if not self._alive():
            self._reason = self._status_or_retry()
        return self._reason

    def _status_or_retry(self) -> ExitReason | None:
        """Return how the agent, known to be over, ended; None to be asked again a little later."""
        raise NotImplementedError

    def _status(self) -> ExitReason | None:
        """Return how the agent, known to be over, ended; None if that cannot be read."""
        raise NotImplementedError

    def _alive(self) -> bool:
        """Ask the agent or the kernel; `fd` may be closed meanwhile, the answer is then ignored."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Return the process that the agent runs in."""
        return os.getpid()

    @property
    def alive(self) -> bool:
        """Ask whether the agent lives. Costs a system call or two."""
        return self._on_exit is not None and self._alive() and self._on_exit is not None

    def exit_reason(self) -> ExitReason | None:
        """Return how the agent ended if it has, told or not; None while it lives."""
        known = self._reason
        if known is None and self._on_exit is not None and not self._alive():
            status = self._status()
            # What the watcher read meanwhile counts: it may have closed the descriptor under us.
            self._reason = self._reason or status
            return self._reason or ExitReason.of(ExitKind.UNKNOWN)
        return self._reason

    def notify(self, reason: ExitReason) -> None:
        """Take the end from the watcher's thread, and pass it on."""
        on_exit = self._on_exit
        self._reason = reason
        self._detach()
        if on_exit is not None:
            notify(on_exit, reason)

    def cancel(self) -> None:
        """Stop watching, and close what was opened for it."""
        self._on_exit = None
        self._watcher.remove(self)
        self._detach()

    def _detach(self) -> None:
        self._on_exit = self._agent = None
        if self._owns_watcher:
            self._watcher.close()

    def _abandon(self) -> None:
        """Undo what was begun, wherever it was broken off."""
        if not self._watcher.remove(self):
            fd, self.fd = self.fd, None
            if fd is not None:
                os.close(fd)
        self._detach()
