"""`InterruptibleLock`: a lock that is let go whatever a signal handler raises, and wherever.

At the bottom, beside the errors and the clock: every lock of the library that a caller's own thread
takes is one of these.

CPython runs signal handlers (Control-C raises in one) where a function begins, after the call of
anything that is not a Python function, and in jumps backwards. There are three places where that
leaves a plain lock held for ever:

1. `with lock:` from CPython 3.14 on: after the call of `__enter__`, before the block that ends with
   `__exit__` is entered.
2. A function that releases it: as that function begins, or after its question whether the lock is
   held at all.
3. A loop in the block: CPython 3.13 and 3.14 count some jumps backwards as outside of it.

So `__enter__` is a Python function, which gives back what it got and was not let to hand over, and
`__exit__` is not; and loops are in functions that the block calls. Where a `with` costs too much,
the same is written out:

    try:
        acquire()
        ...
    finally:
        try:
            release()
        except RuntimeError:  # a signal handler raised before the lock was had
            pass

The release is the first call after `finally`, so nothing comes between; and it is not asked first
whether the lock is ours, since a handler may run right after the answer.
"""

from __future__ import annotations

from _thread import RLock


class InterruptibleLock(RLock):  # type: ignore[misc]  # final in the stubs only
    """A recursive lock for `with`, which holds it during the block, and never after it."""

    __slots__ = ()

    def __enter__(self) -> bool:  # type: ignore[override]
        try:
            return self.acquire()
        except BaseException:
            try:  # noqa: SIM105 - a call in its place could be interrupted itself
                self.release()
            except RuntimeError:  # a signal handler raised before the lock was had
                pass
            raise
