"""The making of one session, for all who ask for it meanwhile: in a thread, or in a task.

A plain factory runs in its caller's thread: a `PendingCreate`. One that is awaited runs in a task
of its own, which is nobody's who asked: a `Construction`. It goes on while one of them waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context

from frontdesk.errors import AgentFactoryFailed, RecursiveCreate, SessionBusy
from frontdesk.feed import Wakers
from frontdesk.lock import InterruptibleLock
from frontdesk.records import Session
from frontdesk.waiting import running_library

_log = logging.getLogger("frontdesk")

Make = Callable[[], Coroutine[object, None, Session]]


class PendingCreate:
    """The making of one session: by one thread, for all who ask for it meanwhile.

    That thread holds `making` until `session` or `error` is there. Not an Event: from CPython 3.14
    on, a signal handler that raises as its wait() begins can leave it locked, and then the maker
    waits for ever to set it.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.session: Session | None = None
        self.error: BaseException | None = None
        self._making = InterruptibleLock()
        self._making.acquire()
        # What a `finally` may call first: not a function of ours, which could be interrupted.
        self.finish: Callable[[], None] = self._making.release
        self.wakers: Wakers = Wakers()
        """Who waits on an event loop; to be woken after `finish`, which tells threads."""

    def is_over(self) -> bool:
        """Tell whether there is a session, or an error in its place."""
        return self.session is not None or self.error is not None

    def wait(self, session_id: str, *, timeout_s: float) -> Session | None:
        """Wait in this thread for whoever makes the session, and share what comes of it.

        None where nothing came of it, since nobody wanted it any more: ask again.
        """
        if not self.is_over():
            self._refuse_to_wait(session_id)
            if not self._wait(timeout_s):
                raise SessionBusy(session_id, waited_s=timeout_s)
        return self.answer(session_id)

    async def wait_async(self, session_id: str, *, timeout_s: float) -> Session | None:
        """Wait as `wait` does, on the running event loop."""
        if not await _within(timeout_s, self.until_over):
            raise SessionBusy(session_id, waited_s=timeout_s)
        return self.answer(session_id)

    async def until_over(self) -> None:
        """Wait on the running event loop for a session, or an error in its place."""
        while not self.is_over():
            await self.wakers.wait_async(self.is_over)

    def answer(self, session_id: str) -> Session | None:
        """Return what came of it to who did not make it."""
        if self.session is not None:
            return self.session
        error = self.error or RuntimeError("the factory's thread ended")
        raise AgentFactoryFailed(session_id, error=error) from error

    def _refuse_to_wait(self, session_id: str) -> None:
        if self._thread == threading.get_ident():
            raise RecursiveCreate(session_id)
        if running_library() is not None:
            raise SessionBusy(session_id, waited_s=0)

    def _wait(self, timeout_s: float) -> bool:
        try:
            return self._making.acquire(timeout=timeout_s)
        finally:
            try:  # noqa: SIM105 - a call in its place could be interrupted itself
                self._making.release()  # for the next who waits
            except RuntimeError:  # it was not had in time, or a signal handler raised before
                pass


class Construction(PendingCreate):
    """The making of one session by a factory that is awaited, in a task of its own.

    The task runs on the loop of the first who asked, with that caller's context variables. Who is
    cancelled, or waits no longer, takes nothing away from the others; **the last one ends it**, and
    waits for that. What nobody wanted any more failed for nobody: who asks meanwhile waits until it
    is over and begins anew, and so does who waits on another loop when this one ends.
    """

    session: Session | None
    error: BaseException | None

    def __init__(self, forget: Callable[[Construction], None]) -> None:
        super().__init__()
        self._forget = forget
        self._lock = InterruptibleLock()
        self._waiting = 1
        self._withdrawn = False
        self._task: object = None
        self._cancel: Callable[[], object] = lambda: None
        self._is_lost: Callable[[], bool] = lambda: False

    def begin(self, make: Make) -> None:
        """Run `make` in a task on the running event loop."""
        if running_library() == "trio":
            self._begin_on_trio(make)
            return
        loop = asyncio.get_running_loop()
        self._is_lost = loop.is_closed
        task = loop.create_task(self._run(make), name="frontdesk-get-or-create")
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        # One that is cancelled before its first step never gets to say so.
        task.add_done_callback(lambda _: self.withdraw())

    def _begin_on_trio(self, make: Make) -> None:
        import trio  # it runs already

        scope, token = trio.CancelScope(), trio.lowlevel.current_trio_token()

        async def run() -> None:
            # What leaves a system task would end the whole run, its cancellation included.
            with suppress(BaseException), scope:
                await self._run(make)
            self.withdraw()

        self._cancel = lambda: token.run_sync_soon(scope.cancel)
        trio.lowlevel.spawn_system_task(run, context=copy_context())

    async def _run(self, make: Make) -> None:
        self._task = _current_task()
        try:
            self.complete(session=await make())
        except GeneratorExit:  # its loop was closed under it
            self.withdraw()
            raise
        except BaseException as error:
            if _is_cancelled(error):
                raise
            self.complete(error=error)

    def withdraw(self) -> None:
        """Say that nothing came of it, unless something did."""
        self.complete(error=asyncio.CancelledError(), withdrawn=True)

    def complete(
        self,
        *,
        session: Session | None = None,
        error: BaseException | None = None,
        withdrawn: bool = False,
    ) -> None:
        """Say what came of it, once: first out of the table, then told."""
        with self._lock:
            if self.is_over():
                return
            self._withdrawn = withdrawn or (session is None and not self._waiting)
            self._forget(self)
            self.session, self.error = session, error
        if self._withdrawn and getattr(error, "agent", None) is not None:
            _log.error("an agent was made and refused when nobody waited for it: %s", error)
        with suppress(RuntimeError):  # from another thread than the loop's, which is closed
            self.finish()
        self.wakers.wake_all()

    async def run(self, session_id: str) -> Session | None:
        """Wait for what was begun, as the first who asked: its error is raised as it is."""
        await self._wait_as_one_of_them(session_id, timeout_s=None)
        if self.error is not None and not self._withdrawn:
            raise self.error
        return self.session

    async def wait_async(self, session_id: str, *, timeout_s: float) -> Session | None:
        """Wait with the others; None where it was withdrawn."""
        if not self.is_over() and self._task is not None and self._task is _current_task():
            raise RecursiveCreate(session_id)
        if self._join():
            await self._wait_as_one_of_them(session_id, timeout_s=timeout_s)
        elif not await _within(timeout_s, self.until_over):
            raise SessionBusy(session_id, waited_s=timeout_s)
        return self.answer(session_id)

    def wait(self, session_id: str, *, timeout_s: float) -> Session | None:
        """Wait with the others, in a thread."""
        joined = self._join()
        try:
            return super().wait(session_id, timeout_s=timeout_s)
        finally:
            if joined:
                self._leave()

    def answer(self, session_id: str) -> Session | None:
        """Return what came of it to who did not ask first; None where it was withdrawn."""
        return None if self._withdrawn else super().answer(session_id)

    async def _wait_as_one_of_them(self, session_id: str, *, timeout_s: float | None) -> None:
        try:
            in_time = await _within(timeout_s, self.until_over)
        except GeneratorExit:  # nothing can be awaited any more
            self._leave()
            raise
        except BaseException:
            await self._leave_ended()
            raise
        if not in_time:
            await self._leave_ended()
            raise SessionBusy(session_id, waited_s=timeout_s or 0)

    async def _leave_ended(self) -> None:
        """Wait no longer; but nothing that was begun outlives its last caller."""
        if self._leave():
            await _shielded(self.until_over)

    def _join(self) -> bool:
        """Count one more who waits; False where nobody did any more, or it is over."""
        if self._is_lost():
            self.withdraw()
        with self._lock:
            joined = self._waiting > 0 and not self.is_over()
            self._waiting += joined
            return joined

    def _leave(self) -> bool:
        """Count one less; end it where that was the last, and tell so."""
        with self._lock:
            self._waiting -= 1
            last = not self._waiting and not self.is_over()
        if last:
            with suppress(RuntimeError):  # its loop is over, and it with it
                self._cancel()
        return last

    def _refuse_to_wait(self, session_id: str) -> None:
        if running_library() is not None:
            if self._task is not None and self._task is _current_task():
                raise RecursiveCreate(session_id)
            raise SessionBusy(session_id, waited_s=0)


def _current_task() -> object:
    if running_library() == "trio":
        import trio  # it runs already

        return trio.lowlevel.current_task()
    return asyncio.current_task()


def _is_cancelled(error: BaseException) -> bool:
    """Tell whether an error is the cancellation of the task that runs here."""
    if running_library() == "trio":
        import trio  # it runs already

        return isinstance(error, trio.Cancelled)
    task = asyncio.current_task()
    # A factory may fail with one of its own: of a task that it waited for.
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


async def _within(timeout_s: float | None, wait: Callable[[], Coroutine[None, None, None]]) -> bool:
    """Wait for at most so long on the running event loop; tell whether it came in time."""
    if timeout_s is None:
        await wait()
        return True
    if running_library() == "trio":
        import trio  # it runs already

        with trio.move_on_after(timeout_s) as scope:
            await wait()
        return not scope.cancelled_caught
    try:
        async with asyncio.timeout(timeout_s):
            await wait()
    except TimeoutError:
        return False
    return True


async def _shielded(wait: Callable[[], Coroutine[None, None, None]]) -> None:
    """Wait although the task is being cancelled; on asyncio a second cancellation ends it."""
    if running_library() != "trio":
        await wait()
        return
    import trio  # it runs already

    with trio.CancelScope(shield=True):
        await wait()
