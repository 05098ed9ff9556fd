"""`Watcher`: the owner of the one thread that waits for the threads and processes of a store.

Above `lookout.py` (what that thread does), below the kinds that need it (`threads.py`,
`processes.py`) and the store. It knows no kind of agent.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType

from frontdesk.errors import InvalidArgument
from frontdesk.monitors.linux import Abilities, probe_abilities
from frontdesk.monitors.lookout import Pollable, WatchLoop


class Watcher:
    """Wait for the ends of threads and processes, whatever their number, in one daemon thread.

    Pass one to several `monitor()` calls, or to several stores: it is one thread for all of them,
    and yours to close. **A watcher that is closed tells nobody any more**: close it after
    everything that uses it. The thread and its two descriptors come with the first thing to watch;
    each watched process or thread costs one descriptor more. Usable with `with`; a `Watcher` that
    nobody refers to and that watches nothing is closed by the garbage collector.

    Callbacks run in that thread, one after the other: **one that blocks delays every later exit of
    this watcher**. One that raises is logged and harms nobody. (A store's own never block.)

    Args:
        use_pidfd: None asks the kernel what it can do, once, when first needed; False switches to
            the fallback everywhere.
        fallback_interval_s: How often is looked where there are no pidfds (or, for threads, before
            Linux 6.9): an end is told at most that much later, or five times what one look at all
            of them takes, whichever is more.

    Examples:
        >>> import subprocess, threading
        >>> from frontdesk import Watcher, monitor
        >>> over = threading.Event()
        >>> with Watcher() as watcher:
        ...     process = subprocess.Popen(["sleep", "0.1"])
        ...     watched = monitor(process, lambda reason: over.set(), watcher=watcher)
        ...     over.wait(10) or not watched.alive
        True
        >>> process.wait()
        0
    """

    __slots__ = ("__weakref__", "_abilities", "_lookout")

    def __init__(self, *, use_pidfd: bool | None = None, fallback_interval_s: float = 0.05) -> None:
        if not fallback_interval_s > 0:
            raise InvalidArgument(
                "fallback_interval_s", expected="more than 0", got=repr(fallback_interval_s)
            )
        self._abilities: Abilities | None = None
        if use_pidfd is False:
            self._abilities = Abilities(processes=False, threads=False)
        self._lookout = WatchLoop(interval_s=fallback_interval_s)
        if use_pidfd and not self.abilities.processes:
            raise InvalidArgument("use_pidfd", expected="False or None on this kernel", got="True")
        # Not at exit: a daemon thread needs no farewell, and callbacks then would find ruins.
        weakref.finalize(self, self._lookout.close).atexit = False

    @property
    def abilities(self) -> Abilities:
        """Return what the kernel lets this watcher open. `OSError` where it cannot be tried."""
        if self._abilities is None:
            self._abilities = probe_abilities()
        return self._abilities

    @property
    def closed(self) -> bool:
        """Tell whether it was closed, or belongs to another process (it came by `fork()`)."""
        return self._lookout.closed

    def __len__(self) -> int:
        """Return the number of things watched."""
        return len(self._lookout)

    def __bool__(self) -> bool:
        return True

    def add(self, watched: Pollable) -> None:
        """Watch one thing. `OSError` where that cannot be; its descriptor is then still yours."""
        self._lookout.add(watched)

    def remove(self, watched: Pollable) -> bool:
        """Watch it no more. False where its end was noticed, or it was removed, before."""
        return self._lookout.remove(watched)

    def every_second(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the thread once a second; return a function that ends that.

        A bound method is held weakly, and the calls end with its object; anything else is held. One
        that raises is logged, once until it succeeds again, and goes on being called.
        """
        return self._lookout.every_second(callback)

    def close(self, *, wait_s: float = 0.0) -> None:
        """End the thread. Idempotent, from anywhere: callbacks, finalizers, signal handlers.

        What is still watched is let go: nobody is told, and its descriptors are closed on return.
        The thread ends as soon as it wakes up; `wait_s` waits that long for it at most.
        """
        self._lookout.close()
        if wait_s > 0:
            self._lookout.join(wait_s)

    def abandon_after_fork(self) -> None:
        """Forget what the parent watches: to be called in the child of a `fork()`.

        The parent's watcher is unaffected. Every other method does the same by itself when it finds
        itself in another process, so this only gives the copied descriptors back sooner.
        """
        self._lookout.abandon()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(wait_s=1.0)
