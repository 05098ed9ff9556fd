"""Whether the threads of this program are the operating system's, or greenlets of one of them.

gevent and eventlet replace `threading` and `select`, whole or in part, before or after we are
imported; so it is asked when a watcher starts. Where both are replaced a watcher's thread works, as
a greenlet that sleeps in their `select`. Where only threads are, its first sleep would be
everybody's, for ever.
"""

from __future__ import annotations

import _thread
import select
import threading
from types import BuiltinFunctionType

from frontdesk.background import start_without_signals


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
