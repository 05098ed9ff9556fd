"""What a keeper needs of the system under it: agents in processes are for Linux from 5.3 on.

Everything else of this package works without; so who serves agents in tasks alone does not need it,
and who asks for a process hears what is missing, not how our code fails without it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket


def lacking() -> str | None:
    """Say what this system lacks for agents in processes; None where it lacks nothing."""
    there = {
        "prctl": hasattr(ctypes.CDLL(None), "prctl"),
        "pidfds": hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"),
        "waitid": hasattr(os, "waitid"),
        "pipe2": hasattr(os, "pipe2"),
        "sockets of packets": hasattr(socket, "SOCK_SEQPACKET"),
        "/proc": os.path.exists("/proc/self/stat"),
    }
    missing = ", ".join(name for name, is_there in there.items() if not is_there)
    return f"this system has no {missing}: it takes Linux from 5.3 on" if missing else None
