"""Virtual time: one heap of what happens when, and an event loop for each thread of each process.

A loop that is paused keeps what comes due, in order, until it goes on; a dead one drops it.
"""

import asyncio
import heapq
import itertools
from asyncio import events


class Clockwork:
    """Hold what is due, and let it happen, one after another; the time is that of the last one."""

    def __init__(self):
        self.now = 0.0
        self._heap = []
        self._numbers = itertools.count()

    def push(self, when, handle):
        """Let a handle run at a time; what is due at once comes in the order of pushing."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._numbers), handle))

    def after(self, delay_s, call, *arguments):
        """Call something that belongs to no loop."""
        self.push(self.now + delay_s, _Call(call, arguments))

    def run(self, until):
        """Let everything happen until then."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, handle = heapq.heappop(heap)
            handle.happen()
        self.now = until


class _Call:
    __slots__ = ("_arguments", "_call")

    def __init__(self, call, arguments):
        self._call, self._arguments = call, arguments

    def happen(self):
        self._call(*self._arguments)


class _LoopHandle(asyncio.TimerHandle):
    __slots__ = ()

    def happen(self):
        if self._cancelled or self._loop.dead:
            return
        if self._loop.paused:
            self._loop.deferred.append(self)
            return
        events._set_running_loop(self._loop)
        try:
            self._run()
        finally:
            events._set_running_loop(None)


class VirtualLoop(asyncio.AbstractEventLoop):
    """An event loop on virtual time, as far as tasks and futures ask for one."""

    def __init__(self, clockwork, *, on_error):
        self._clockwork, self._on_error = clockwork, on_error
        self.dead = self.paused = False
        self.deferred = []

    # -- faults ----------------------------------------------------------------------------------

    def pause(self):
        """Let nothing happen here from now on."""
        self.paused = True

    def resume(self):
        """Go on, with what came due meanwhile first."""
        self.paused = False
        late, self.deferred = self.deferred, []
        for handle in late:
            self._clockwork.push(self.time(), handle)

    def kill(self):
        """Let nothing happen here any more."""
        self.dead = True
        self.deferred = []

    # -- what asyncio asks for -------------------------------------------------------------------

    def time(self):
        return self._clockwork.now

    def call_at(self, when, callback, *args, context=None):
        handle = _LoopHandle(when, callback, args, self, context)
        self._clockwork.push(when, handle)
        return handle

    def call_later(self, delay, callback, *args, context=None):
        return self.call_at(self._clockwork.now + delay, callback, *args, context=context)

    def call_soon(self, callback, *args, context=None):
        return self.call_at(self._clockwork.now, callback, *args, context=context)

    call_soon_threadsafe = call_soon

    def create_future(self):
        return asyncio.Future(loop=self)

    def create_task(self, coro, *, name=None, context=None, **options):
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # a process that is killed leaves tasks behind
        return task

    def run_in_executor(self, executor, func, *args):
        future = self.create_future()
        future.set_result(func(*args))
        return future

    def call_exception_handler(self, context):
        if not self.dead:
            self._on_error(context)

    def default_exception_handler(self, context):
        self.call_exception_handler(context)

    def get_exception_handler(self):
        return None

    def get_debug(self):
        return False

    def is_running(self):
        return events._get_running_loop() is self

    def is_closed(self):
        return self.dead

    def _timer_handle_cancelled(self, handle):
        pass
