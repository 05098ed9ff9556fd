"""What every test may ask for, and what no test may leave behind.

`FRONTDESK_NO_PIDFD=1` runs the whole suite with stores that watch processes and threads without
the kernel's pidfds; `FRONTDESK_TEST_LACKING` names what this system is to lack, see
`support/lacking.py`.
"""

import asyncio
import contextlib
import gc
import os
import sys
import threading
from contextlib import asynccontextmanager

import pytest

from support.lacking import LACKING, take_away

if LACKING:
    take_away(LACKING)

# About pidfds themselves.
collect_ignore = ["unit/test_monitors_kernel.py"] if "pidfds" in LACKING else []

# Before the laws are imported, so that a broken one shows the values it compared.
pytest.register_assert_rewrite("frontdesk.testing.laws")

from frontdesk import SessionStore, Watcher  # noqa: E402 - see above
from frontdesk.testing import EmbeddedSubject  # noqa: E402 - see above

USE_PIDFD = False if os.environ.get("FRONTDESK_NO_PIDFD") == "1" else None
"""What stores of the tests are told about pidfds: None lets them find out."""


def new_watcher():
    """Return a watcher of the mode that this run of the suite is about."""
    return Watcher(use_pidfd=USE_PIDFD)


@pytest.fixture
def make_store():
    """Make stores, in the mode of this run; each is closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(**options):
            if USE_PIDFD is not None and "watcher" not in options:
                options["watcher"] = stack.enter_context(new_watcher())
            return stack.enter_context(SessionStore(**options))

        yield make


@pytest.fixture
def store(make_store):
    """One embedded store without limits."""
    return make_store()


@pytest.fixture
def embedded_store_factory(make_store):
    """Return the embedded store as the laws want it, in the mode of this run."""

    @asynccontextmanager
    async def open_store(options):
        limits, capacity = options.limits, options.feed_capacity
        yield EmbeddedSubject(make_store(limits=limits, feed_capacity=capacity))

    return open_store


@pytest.fixture
def anyio_backend():
    """Run `@pytest.mark.anyio` tests on asyncio."""
    return "asyncio"


@pytest.fixture
def eager_switches():
    """Let threads interrupt each other as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="session", autouse=True)
def no_thread_and_no_descriptor_outlives_the_suite():
    """Fail the run that leaves threads or descriptors behind."""
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "frontdesk-watcher":
            thread.join(10)  # told to end, and about to
    left = [one for one in threading.enumerate() if one not in threads and not one.daemon]
    assert not left, f"threads left by the tests: {left}"
    new = [target for number, target in open_descriptors().items() if number not in descriptors]
    ours = [target for target in new if target.strip("[]").endswith(OF_A_WATCHER)]
    assert not ours, f"descriptors left by the tests: {ours}"


OF_A_WATCHER = ("pidfd", "eventpoll", "eventfd")
"""What the descriptors of a watcher refer to."""


def open_descriptors():
    """Return the open descriptors of this process and what each refers to."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the listing's own
    return found


async def passes(number=5):
    """Let the running loop call back whoever is due."""
    for _ in range(number):
        await asyncio.sleep(0)
