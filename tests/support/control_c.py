"""Control-C where a test wants it: at each moment when the interpreter may run a signal handler.

`ControlC` puts it at the n-th such moment, without a signal; `interrupted_after` is a real one.
"""

import gc
import signal
import sys
import threading

TOOL = 4
"""Our number in `sys.monitoring`; no debugger, profiler or coverage takes it."""


class ControlC:
    """Raise what a signal handler raises, at the n-th moment when the interpreter may call one.

    Those are the beginning of a function, the return from anything that is not a Python function,
    and a jump backwards. `inside` tells of which code they count. `place` is where it was raised,
    None if there were fewer moments.
    """

    def __init__(self, at, *, inside):
        self._left, self._inside = at, inside
        self._thread = threading.get_ident()
        self.place = None

    def __enter__(self):
        # Without the collector: it would run the finalizers of former scenes in here, and CPython
        # 3.11 does not survive what a profile function raises inside a collection.
        gc.disable()
        if sys.version_info >= (3, 12):
            self._monitor()
        else:
            sys.setprofile(self._profile)
        return self

    def __exit__(self, *_):
        self._stop()
        gc.enable()

    def _monitor(self):
        monitoring, events = sys.monitoring, sys.monitoring.events
        monitoring.use_tool_id(TOOL, "control-c")
        for event, heard in (
            (events.PY_START, lambda code, at: self._moment(code, "start")),
            (events.PY_RESUME, lambda code, at: self._moment(code, "resume")),
            (events.C_RETURN, lambda code, at, called, _: self._moment(code, called)),
            (events.JUMP, lambda code, at, to: to < at and self._moment(code, "jump")),
        ):
            monitoring.register_callback(TOOL, event, heard)
        # C_RETURN is told of with CALL.
        monitoring.set_events(TOOL, events.PY_START | events.PY_RESUME | events.CALL | events.JUMP)

    def _profile(self, frame, event, argument):
        if event in ("call", "c_return"):
            self._moment(frame.f_code, argument or event)

    def _moment(self, code, what):
        if threading.get_ident() != self._thread or not self._inside(code):
            return
        self._left -= 1
        if self._left == 0:
            self._stop()
            self.place = f"{code.co_filename}, {code.co_qualname}: {what}"
            raise KeyboardInterrupt

    def _stop(self):
        if sys.version_info < (3, 12):
            sys.setprofile(None)
        elif sys.monitoring.get_tool(TOOL):
            sys.monitoring.set_events(TOOL, 0)
            sys.monitoring.free_tool_id(TOOL)


def interrupted_after(delay_s, run):
    """Call `run` until a real signal, whose handler raises, ends it; there is just one signal.

    A function and no context manager: the signal may come before the block of one is entered.
    """

    came = []

    def handle(number, frame):
        came.append(number)
        raise KeyboardInterrupt

    def run_on():
        signal.setitimer(signal.ITIMER_REAL, delay_s)
        while not came:  # what is raised in a finalizer ends nothing
            run()

    before = signal.signal(signal.SIGALRM, handle)
    try:
        run_on()  # a function, since CPython 3.13 counts the jump of a loop as outside of its block
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGALRM, before)
