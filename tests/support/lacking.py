"""Takes away what only some systems have, before anything of ours is imported.

`FRONTDESK_TEST_LACKING=prctl,pidfds,waitid` does so for a whole run of the suite.
"""

import ctypes
import os
import select
import signal
import socket

import pytest

waitid, pidfd_open = os.waitid, os.pidfd_open
"""What tests themselves ask the kernel with, whatever is taken away from what they test."""

LACKING = frozenset(filter(None, os.environ.get("FRONTDESK_TEST_LACKING", "").split(",")))
"""What is taken away for this run of the suite."""


def about(*names):
    """Mark a test that is about what may be taken away: it is not for a run without that."""
    return pytest.mark.skipif(bool(LACKING & set(names)), reason=f"about {', '.join(names)}")


GONE = {
    "pidfds": [(os, "pidfd_open"), (signal, "pidfd_send_signal")],
    "waitid": [(os, "waitid")],
    "pipe2": [(os, "pipe2")],
    "sockets of packets": [(socket, "SOCK_SEQPACKET")],
    "O_PATH": [(os, "O_PATH")],
    "epoll": [(select, "epoll")],
}
FUNCTIONS = ("prctl",)
"""What is asked of the C library."""


def take_away(names):
    """Make what is named be missing, as it would be on a system without."""
    assert set(names) <= {*GONE, *FUNCTIONS}, names

    class Library(ctypes.CDLL):
        """The C library without some of its functions."""

        def __getattr__(self, name):
            if name in names:
                raise AttributeError(name)
            return super().__getattr__(name)

    ctypes.CDLL = Library
    for name in names:
        for module, attribute in GONE.get(name, ()):
            vars(module).pop(attribute, None)
            if attribute in getattr(module, "__all__", ()):
                module.__all__.remove(attribute)
