"""The command line on a system that lacks what the environment names: `LACKING=prctl,pidfds`.

What is missing is taken away before anything of ours is imported, as it would not be there.
"""

import ctypes
import os
import select
import signal
import socket

lacking = os.environ["LACKING"].split(",")


class Library(ctypes.CDLL):
    """The C library without some of its functions."""

    def __getattr__(self, name):
        if name in lacking:
            raise AttributeError(name)
        return super().__getattr__(name)


ctypes.CDLL = Library
GONE = {
    "pidfds": [(os, "pidfd_open"), (signal, "pidfd_send_signal")],
    "waitid": [(os, "waitid")],
    "pipe2": [(os, "pipe2")],
    "sockets of packets": [(socket, "SOCK_SEQPACKET")],
    "O_PATH": [(os, "O_PATH")],
    "epoll": [(select, "epoll")],
}
for name in lacking:
    for module, attribute in GONE.get(name, ()):
        delattr(module, attribute)
        if attribute in getattr(module, "__all__", ()):
            module.__all__.remove(attribute)

from frontdesk.cli import main  # noqa: E402 - after what it is for

if __name__ == "__main__":
    main()
