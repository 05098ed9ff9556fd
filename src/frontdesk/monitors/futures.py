"""Monitors of futures: asyncio tasks and futures (any loop's), and concurrent futures.

The most frequent kind, so the leanest: the monitor object is itself the done-callback and holds two
references. It knows no thread, no descriptor, no session, and logs nothing about the agent: whoever
reads an exception silences asyncio's own report of it, and should log it (a `crashed` reason tells
of it, the future has it).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from asyncio import AbstractEventLoop, _get_running_loop
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from frontdesk.monitors.protocol import ExitCallback, notify
from frontdesk.records import ExitKind, ExitReason

Future = Any
"""An `asyncio.Future` or `asyncio.Task` of any loop, or a `concurrent.futures.Future`."""

_NORMAL = ExitReason.of(ExitKind.NORMAL)
_WAS_CANCELLED = ExitReason.of(ExitKind.CANCELLED)
_UNKNOWN = ExitReason.of(ExitKind.UNKNOWN)
_LOST = ExitReason.of(ExitKind.LOST)
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


class FutureLiveness:
    """What can be read off a future: whether it lives, where, and how it ended.

    Arms nothing and is told nothing. It is what a session of a store shows as its `monitor`.
    """

    __slots__ = ("_future",)

    def __init__(self, future: Future) -> None:
        self._future = future

    @property
    def alive(self) -> bool:
        """Tell whether the future is pending on a loop that is open (or on none)."""
        future = self._referent()
        return future is not None and not future.done() and not on_closed_loop(future)

    @property
    def loop(self) -> AbstractEventLoop | None:
        """Return the event loop of the future; None for a concurrent future."""
        future = self._referent()
        return None if future is None else loop_of(future)

    @property
    def pid(self) -> int:
        """Return this process: a future lives where it is watched."""
        return os.getpid()

    def exit_reason(self) -> ExitReason | None:
        """Return how it ended; `lost` where its loop was closed under it; None while alive."""
        future = self._referent()
        if future is None:
            return _UNKNOWN
        if future.done():
            return exit_reason_of(future)
        return _LOST if on_closed_loop(future) else None

    def cancel(self) -> None:
        """Do nothing: nobody is told from here. A session's monitoring ends with the session."""

    def _referent(self) -> Future | None:
        return self._future


class FutureMonitor(FutureLiveness):
    """Watch a future: `on_exit` is called when it is done, in its loop or in the finishing thread.

    A future that is done already, or pending on a closed loop, gives a monitor that is not `alive`
    and knows its `exit_reason()`; `on_exit` is then not called. Works from any thread: away from
    the future's loop the callback is added with `call_soon_threadsafe`.

    `cancel()` disarms: the callback stays in the future and does nothing, and the monitor holds
    the future weakly and `on_exit` not at all.

    A pending task whose loop is closed later tells nobody. Look at `loop` for that.

    Costs one object of 56 bytes with the collector's header, and one entry in the future's
    callbacks.
    """

    __slots__ = ("__weakref__", "_on_exit")

    def __init__(self, future: Future, on_exit: ExitCallback) -> None:
        super().__init__(future)
        self._on_exit: ExitCallback | None = None
        if future.done():
            return
        if isinstance(future, concurrent.futures.Future):
            # Added disarmed: a future that finishes just now calls back inside this very call.
            future.add_done_callback(self)
            # In this order: a future that is not done after on_exit was set will find it.
            self._on_exit = on_exit
            if future.done():
                self._on_exit = None
            return
        self._on_exit = on_exit
        if not add_callback(future, self):
            self._on_exit = None

    def __call__(self, future: Future) -> None:
        """Be told by the future that it is done."""
        on_exit = self._on_exit
        if on_exit is None:
            return
        self._on_exit = None
        notify(on_exit, exit_reason_of(future))

    def cancel(self) -> None:
        """Disarm: `on_exit` and the future are let go, the callback stays and does nothing."""
        self._on_exit = None
        if not isinstance(self._future, weakref.ref):
            self._future = _weakly(self._future) or self._future

    def _referent(self) -> Future | None:
        future = self._future
        return future() if isinstance(future, weakref.ref) else future


def add_callback(
    future: Future, callback: Callable[[Future], None], context: Context | None = None
) -> bool:
    """Have `callback(future)` called when an asyncio future is done; from any thread.

    False where it never will be: the future's loop is closed. `context` is what the callback runs
    in; without one asyncio copies the caller's. It is for this callback alone: what is called back
    while another callback of the same context runs, in a loop entered again, would be lost.
    """
    loop = future.get_loop()
    if loop is _get_running_loop():
        future.add_done_callback(callback, context=context)
        return True
    # Held weakly by the loop's queue: nobody knows when that loop runs next.
    held = _weakly(future) or partial(_itself, future)
    try:
        loop.call_soon_threadsafe(_add_held, held, callback, context)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def _add_held(
    held: Callable[[], Future | None], callback: Callable[[Future], None], context: Context | None
) -> None:
    future = held()
    if future is not None and not has_callback(future, callback):
        future.add_done_callback(callback, context=context)


def has_callback(future: Future, callback: Callable[[Future], None]) -> bool:
    """Tell whether a future has this callback already; False for a type that does not show any.

    There is no public way to ask, so what asyncio's own repr reads is read here: pairs of callback
    and context, or None. Compared by identity: no foreign code runs. Costs grow with the callbacks.
    """
    if isinstance(future, concurrent.futures.Future):
        return any(one is callback for one in tuple(future._done_callbacks))  # type: ignore[attr-defined]
    return any(one is callback for one, _ in getattr(future, "_callbacks", None) or ())


def _weakly(future: Future) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(future)
    except TypeError:
        return None  # a future of a strange type that nobody can refer to weakly


def _itself(future: Future) -> Future:
    return future


def loop_of(future: Future) -> AbstractEventLoop | None:
    """Return the event loop of a future; None for a concurrent one."""
    if isinstance(future, concurrent.futures.Future):
        return None
    loop: AbstractEventLoop = future.get_loop()
    return loop


def on_closed_loop(future: Future) -> bool:
    """Tell whether the loop of a future was closed: what is pending there never ends."""
    loop = loop_of(future)
    return loop is not None and loop.is_closed()
