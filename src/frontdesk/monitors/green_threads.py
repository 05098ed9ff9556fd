"""Whether the threads of this program are the operating system's, or greenlets of one of them.

gevent and eventlet replace `threading` and `select`, whole or in part, before or after we are
imported; so it is asked when a watcher starts. Where both are replaced a watcher's thread works, as
a greenlet that sleeps in their `select`. Where only threads are, its first sleep would be
everybody's, for ever.

A thread of the operating system that uses their `select` begins an event loop of theirs for itself.
Two threads that do so at once wait for each other for ever, so what such a thread asks is
`unpatched_select`.
"""

from __future__ import annotations

import _thread
import importlib.util
import select
import threading
from types import BuiltinFunctionType, ModuleType

from frontdesk.background import start_without_signals


def _another_of(module: ModuleType) -> ModuleType:
    """Return a module anew, as the interpreter made it, beside the one that everybody imports."""
    spec = module.__spec__
    if spec is None or spec.loader is None:
        return module
    another = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(another)
    return another


unpatched_select: ModuleType = _another_of(select)
"""`select` with the functions of the operating system, whoever has replaced them, and whenever."""


def threads_are_green() -> bool:
    """Tell whether a new thread would be a greenlet: while one of those blocks, all do.

    Costs a thread where somebody has replaced the functions that start them, next to nothing else.
    """
    starters = (
        _thread.start_new_thread,
        getattr(threading, "_start_new_thread", None),
        getattr(threading, "_start_joinable_thread", None),
    )
    if all(one is None or isinstance(one, BuiltinFunctionType) for one in starters):
        return False
    # Debuggers replace them too, and start real threads: so one is started, and asked.
    numbers: list[int] = []
    thread = threading.Thread(target=lambda: numbers.append(threading.get_native_id()))
    start_without_signals(thread)
    thread.join()
    return numbers == [threading.get_native_id()]


def select_is_green() -> bool:
    """Tell whether `select.select` lets the other greenlets run."""
    return not isinstance(select.select, BuiltinFunctionType)
