"""Monitors of the user's own: kinds registered by type, and agents with `add_exit_callback()`.

What comes from outside promises little, so it is held to the rules of the built-in kinds here: one
call at most, none inside `monitor()`, none after `cancel()`, an `ExitReason` or else `unknown`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

from frontdesk.errors import InvalidType
from frontdesk.lock import InterruptibleLock
from frontdesk.monitors.protocol import ExitCallback, Monitor, MonitorFunction, notify
from frontdesk.records import ExitKind, ExitReason

_logger = logging.getLogger("frontdesk")


class ExitCallbackAgent(Protocol):
    """An agent that says itself when it ends: a remote actor, a connection, a child in a pool.

    `add_exit_callback(callback)` keeps the callback and calls it with an `ExitReason` when the
    agent ends, once, from any thread; at once if it has ended already. It returns a function of no
    arguments that takes the callback back, or None if that cannot be.

    Optional: `alive` (an attribute or property, true while the agent lives; without it the agent
    lives until it calls), `exit_reason()` (how it ended, for who finds it dead before it has
    called; None while it lives) and `pid` (the process that it runs in; without it, this one).

    >>> class Connection:
    ...     def __init__(self):
    ...         self._callbacks = []
    ...     def add_exit_callback(self, callback):
    ...         self._callbacks.append(callback)
    ...         return lambda: self._callbacks.remove(callback)
    ...     def lost(self):
    ...         for callback in list(self._callbacks):
    ...             callback(ExitReason.of("lost"))
    >>> from frontdesk.monitors import monitor
    >>> connection = Connection()
    >>> watched = monitor(connection, lambda reason: print(reason))
    >>> connection.lost()
    lost
    """

    def add_exit_callback(self, callback: ExitCallback, /) -> Callable[[], None] | None:
        """Call `callback` with how this agent ended, once it has."""
        ...


def monitor_by_callback(agent: Any, on_exit: ExitCallback) -> Monitor:
    """Monitor an agent through its own `add_exit_callback()`."""
    return _CallbackMonitor(agent, agent.add_exit_callback(on_exit))


class _CallbackMonitor:
    __slots__ = ("_agent", "_take_back")

    def __init__(self, agent: Any, take_back: Callable[[], None] | None) -> None:
        self._agent, self._take_back = agent, take_back

    @property
    def alive(self) -> bool:
        return bool(getattr(self._agent, "alive", True))

    @property
    def pid(self) -> int:
        return int(getattr(self._agent, "pid", None) or os.getpid())

    def exit_reason(self) -> ExitReason | None:
        ask = getattr(self._agent, "exit_reason", None)
        reason: ExitReason | None = ask() if ask is not None else None
        return reason

    def cancel(self) -> None:
        if self._take_back is not None:
            self._take_back()


class CustomMonitor:
    """Hold a monitor of the user's own to what `monitor()` promises of every monitor.

    The first call of the callback counts, and one made before the monitor function has returned
    means that the agent was dead: the monitor is not `alive` and has the reason, and `on_exit` is
    not called. Errors of the user's `alive` and `cancel` are logged and harm nobody: an agent that
    cannot be asked counts as alive until it says otherwise. Errors of the monitor function itself
    are the caller's of `monitor()`. The user's monitor of an agent found dead is cancelled at once.
    """

    __slots__ = ("_error_logged", "_inner", "_lock", "_on_exit", "_over", "_reason")

    def __init__(self, agent: Any, on_exit: ExitCallback, *, function: MonitorFunction) -> None:
        # Recursive: a signal handler or finalizer that comes in here may end the agent.
        self._lock = InterruptibleLock()
        self._on_exit: ExitCallback | None = None
        self._reason: ExitReason | None = None
        self._over = self._error_logged = False
        self._inner: Monitor | None = None
        self._begin(function(agent, self._ended), on_exit)

    def _begin(self, inner: Monitor, on_exit: ExitCallback) -> None:
        """Keep the user's monitor if the agent lives; let it go at once if it is dead."""
        # Asked before the lock: it may be a property that takes a lock of the user's own.
        is_monitor = callable(getattr(inner, "cancel", None))
        with self._lock:
            if self._over:
                return
            self._over = not is_monitor
            if self._over:
                raise InvalidType(
                    "monitor",
                    expected="an object with alive and cancel()",
                    got=type(inner).__name__,
                )
            self._inner = inner
        # Asked outside the lock, and armed after it: of a dead agent nobody is told.
        if not self.alive:
            self._reason = self.exit_reason()
            self.cancel()
            return
        with self._lock:
            if not self._over:
                self._on_exit = on_exit

    def _ended(self, reason: ExitReason) -> None:
        known = _checked_reason(reason)
        with self._lock:
            if self._over:
                return
            self._over, self._reason = True, known
            on_exit, self._on_exit, self._inner = self._on_exit, None, None
        if on_exit is not None:
            notify(on_exit, known)

    @property
    def alive(self) -> bool:
        """Tell whether the agent lives, as far as the monitor of the user's own can say."""
        inner = self._inner
        if inner is None:
            return False
        try:
            return bool(inner.alive)
        except Exception:  # noqa: BLE001 - logged; a lookup does not fail for a strange agent
            self._log_once("alive")
            return True

    @property
    def pid(self) -> int:
        """Return the monitor's own `pid` if it has one, else this process."""
        return int(getattr(self._inner, "pid", None) or os.getpid())

    def exit_reason(self) -> ExitReason | None:
        """Return the reason that was told; `unknown` for an agent only known to be dead."""
        if self._reason is not None or self.alive:
            return self._reason
        return _reason_asked_of(self._inner) or ExitReason.of(ExitKind.UNKNOWN)

    def cancel(self) -> None:
        """Stop watching, and cancel the monitor of the user's own."""
        with self._lock:
            self._over = True
            inner, self._inner, self._on_exit = self._inner, None, None
        if inner is None:
            return
        try:
            inner.cancel()
        except Exception:  # noqa: BLE001 - logged; the session goes all the same
            self._log_once("cancel()")

    def _log_once(self, what: str) -> None:
        if not self._error_logged:
            self._error_logged = True
            _logger.exception("%s of a monitor of the user's own raised", what)


def _checked_reason(reason: object) -> ExitReason:
    if isinstance(reason, ExitReason):
        return reason
    _logger.error("an agent ended with %s instead of an ExitReason", type(reason).__name__)
    return ExitReason.of(ExitKind.UNKNOWN)


def _reason_asked_of(inner: Monitor | None) -> ExitReason | None:
    ask = getattr(inner, "exit_reason", None)
    try:
        reason = ask() if ask is not None else None
    except Exception:  # noqa: BLE001 - what cannot be asked is unknown
        return None
    return reason if isinstance(reason, ExitReason) else None
