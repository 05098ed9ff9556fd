"""What tests of monitors share: a callback that can be waited for, and processes that obey.

`Exits` is an exit callback that keeps what it was told. `obedient()` starts a process that ends
how and when the test says.
"""

import os
import queue
import subprocess
import sys
import threading

from support.lacking import waitid

PATIENCE_S = 30
"""How long a test waits for what must happen: a bound for broken code, not for slow machines."""


class Exits:
    """An exit callback: keeps the reasons it was told, and waits for them."""

    def __init__(self):
        self._told = queue.SimpleQueue()
        self.reasons = []
        self.threads = []

    def __call__(self, reason):
        self.reasons.append(reason)
        self.threads.append(threading.current_thread())
        self._told.put(reason)

    def next(self):
        """Wait for the next reason that was not asked for yet."""
        return self._told.get(timeout=PATIENCE_S)


class Obedient:
    """A shell that waits for its last words: `exit 3`, `kill -9 $$`."""

    def __init__(self, words="exit 0"):
        self.popen = subprocess.Popen(["sh", "-c", f"read go; {words}"], stdin=subprocess.PIPE)
        self.pid = self.popen.pid

    def go(self):
        """Let it say them."""
        if not self.popen.stdin.closed:
            self.popen.stdin.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go()
        try:
            self.popen.wait(PATIENCE_S)
        finally:
            self.popen.kill()


def wait_until(condition):
    """Wait until a condition holds that nobody announces, with a bound."""
    pause = threading.Event()
    for _ in range(PATIENCE_S * 200):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError(f"not within {PATIENCE_S} s: {condition}")


def wait_for_zombie(pid):
    """Wait until a child has exited, and leave it to be waited for."""
    waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def receive_and_exit(connection, code):
    """Be the work of a multiprocessing process: end when told."""
    connection.recv()
    sys.exit(code)


def run_script(text, *arguments, python=sys.executable):
    """Run Python text in a process of its own, and return what it printed. It must succeed."""
    command = [str(python), "-W", "ignore::DeprecationWarning", "-c", text, *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 3,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def descriptors():
    """Return the numbers of the descriptors that are open in this process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        if os.path.lexists(f"/proc/self/fd/{name}"):
            found.add(int(name))
    return found


def watcher_threads():
    """Return the threads of watchers that run in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "frontdesk-watcher"]
