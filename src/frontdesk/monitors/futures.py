"""Monitors of futures: asyncio tasks and futures (any loop's), and concurrent futures.

Above `base.py`, below `kinds.py`. The most frequent kind, so the leanest: the monitor object is
itself the done-callback and holds two references. It knows no thread, no descriptor, no session,
and logs nothing about the agent: whoever reads an exception silences asyncio's own report of it,
and should log it (a `crashed` reason tells of it, the future has it).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from asyncio import AbstractEventLoop, _get_running_loop
from contextvars import Context
from typing import Any, ClassVar

from frontdesk.monitors.base import ExitCallback, tell
from frontdesk.session import ExitKind, ExitReason

Future = Any
"""An `asyncio.Future` or `asyncio.Task` of any loop, or a `concurrent.futures.Future`."""

_NORMAL = ExitReason.of(ExitKind.NORMAL)
_WAS_CANCELLED = ExitReason.of(ExitKind.CANCELLED)
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


def exit_reason_of(future: Future) -> ExitReason:
    """Return how a finished future ended: `normal`, `cancelled` or `crashed`.

    Reads the exception, which silences the report that asyncio makes of one never retrieved.
    Never raises, whatever a subclass overrides or an exception does when it is printed: what
    cannot be read is `unknown`. The future must be done.
    """
    try:
        error = future.exception()  # raises where it was cancelled
    except _CANCELLED:
        return _WAS_CANCELLED
    except BaseException:  # noqa: BLE001 - a subclass that cannot be asked has ended all the same
        return _UNKNOWN
    if error is None:
        return _NORMAL
    return _WAS_CANCELLED if isinstance(error, _CANCELLED) else _crashed(error)


def _crashed(error: BaseException) -> ExitReason:
    try:
        return ExitReason.crashed(error)
    except BaseException:  # noqa: BLE001 - its __str__ may raise SystemExit, say
        return ExitReason(ExitKind.CRASHED, error=type(error).__name__)


class FutureMonitor:
    """Watch a future: `on_exit` is called when it is done, in its loop or in the finishing thread.

    A future that is done already, or pending on a closed loop, gives a monitor that is not `alive`
    and knows its `exit_reason()`; `on_exit` is then not called. Works from any thread: away from
    the future's loop the callback is added with `call_soon_threadsafe`.

    `cancel()` disarms: the callback stays in the future and does nothing, and the monitor holds
    the future weakly and `on_exit` not at all. `rearm()` takes it into use again, so that a future
    never carries more than one callback of one user.

    A pending task whose loop is closed later tells nobody. Look at `loop` for that.

    `context` is what the callback runs in; without one every monitor makes asyncio copy the
    caller's. It may be shared by the futures of ONE loop only: two loops that enter one context at
    the same time fail. It has no meaning for a concurrent future.

    Costs one object of 56 bytes with the collector's header, and one entry in the future's
    callbacks.
    """

    __slots__ = ("__weakref__", "_future", "_on_exit")

    lingers: ClassVar[bool] = True

    def __init__(
        self, future: Future, on_exit: ExitCallback, *, context: Context | None = None
    ) -> None:
        self._future = future
        self._on_exit: ExitCallback | None = None
        if future.done():
            return
        if isinstance(future, concurrent.futures.Future):
            # Added disarmed: a future that finishes just now calls back inside this very call.
            future.add_done_callback(self)
            self._arm(future, on_exit)
            return
        self._on_exit = on_exit
        loop = future.get_loop()
        if loop is _get_running_loop():
            future.add_done_callback(self, context=context)
        else:
            self._attach_from_outside(loop, context)

    def __call__(self, future: Future) -> None:
        """Be told by the future that it is done."""
        on_exit = self._on_exit
        if on_exit is None:
            return
        self._on_exit = None
        tell(on_exit, exit_reason_of(future))

    @property
    def alive(self) -> bool:
        """Tell whether the future is pending on a loop that is open (or on none)."""
        future = self._held()
        return future is not None and not future.done() and not _on_closed_loop(future)

    @property
    def loop(self) -> AbstractEventLoop | None:
        """Return the event loop of the future; None for a concurrent future."""
        future = self._held()
        return None if future is None else _loop_of(future)

    @property
    def pid(self) -> int:
        """Return this process: a future lives where it is watched."""
        return os.getpid()

    def exit_reason(self) -> ExitReason | None:
        """Return how it ended; `lost` where its loop was closed under it; None while alive."""
        future = self._held()
        if future is None:
            return ExitReason.of(ExitKind.UNKNOWN)
        if future.done():
            return exit_reason_of(future)
        return ExitReason.of(ExitKind.LOST) if _on_closed_loop(future) else None

    def cancel(self) -> None:
        """Disarm: `on_exit` and the future are let go, the callback stays and does nothing."""
        self._on_exit = None
        future = self._future
        if isinstance(future, weakref.ref):
            return
        try:
            self._future = weakref.ref(future)
        except TypeError:
            return  # a future of a strange type that nobody can refer to weakly is kept

    def rearm(self, future: Future, on_exit: ExitCallback) -> None:
        """Watch the same future again, after `cancel()`, with the callback that is already there.

        `future` must be the one that this monitor was made for. Look at `alive` afterwards as after
        making one: a future that has finished meanwhile calls nobody.
        """
        self._future = future
        self._arm(future, on_exit)

    def _arm(self, future: Future, on_exit: ExitCallback) -> None:
        # In this order: a future that is not done after on_exit was set will find it.
        self._on_exit = on_exit
        if future.done():
            self._on_exit = None

    def _attach_from_outside(self, loop: AbstractEventLoop, context: Context | None) -> None:
        try:
            loop.call_soon_threadsafe(self._attach, context, context=context)
        except RuntimeError:
            self._on_exit = None
            if not loop.is_closed():
                raise

    def _attach(self, context: Context | None) -> None:
        future = self._held()
        if future is not None:
            future.add_done_callback(self, context=context)

    def _held(self) -> Future | None:
        future = self._future
        return future() if isinstance(future, weakref.ref) else future


def _loop_of(future: Future) -> AbstractEventLoop | None:
    if isinstance(future, concurrent.futures.Future):
        return None
    loop: AbstractEventLoop = future.get_loop()
    return loop


def _on_closed_loop(future: Future) -> bool:
    loop = _loop_of(future)
    return loop is not None and loop.is_closed()
