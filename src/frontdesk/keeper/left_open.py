"""What the imports of a fork server have left open: every agent forked from it would share that.

A connection is one socket in all of them, whoever their tenant is: what one agent asks, another may
read the answer of. So a fork server that has one is refused, with the names of what it has. What
cannot mix is no matter: files open for reading, files that are only appended to, memory.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat

from frontdesk.keeper.procfs import children_of

MAX_NAMED = 5
"""How many things are named; of the others their number is told."""

Descriptors = dict[int, tuple[int, int]]
"""Open descriptors, each with what tells the file behind it from another of the same number."""


def open_descriptors() -> Descriptors:
    """Return what is open in this process now."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    found: Descriptors = {}
    for number in numbers:
        try:
            known = os.fstat(number)
        except OSError:
            continue  # the one that the listing was read from
        found[number] = (known.st_dev, known.st_ino)
    return found


def shared_since(before: Descriptors) -> str | None:
    """Return in words what was opened since and is shared by forks; None where there is nothing."""
    opened = [number for number, known in open_descriptors().items() if before.get(number) != known]
    shared = [what for number in sorted(opened) if (what := _shared(number)) is not None]
    shared += [f"a child process ({pid})" for pid in children_of(os.getpid())]
    if not shared:
        return None
    more = f" and {len(shared) - MAX_NAMED} more" if len(shared) > MAX_NAMED else ""
    return ", ".join(shared[:MAX_NAMED]) + more


def _shared(number: int) -> str | None:
    """Return what a descriptor is, where forks would get in each other's way with it."""
    known = os.fstat(number)
    if stat.S_ISSOCK(known.st_mode):
        with socket.socket(fileno=os.dup(number)) as found:
            return _named_socket(found)
    if stat.S_ISFIFO(known.st_mode):
        return "a pipe"
    target = os.readlink(f"/proc/self/fd/{number}")
    if target.startswith("anon_inode:"):
        return f"an event loop or the like ({target})"
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    written = flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_APPEND
    # Without a name in any directory: memory, as compilers of machine code make it.
    if stat.S_ISREG(known.st_mode) and known.st_nlink and written:
        return f"the file {target}, open for writing"
    return None


def _named_socket(found: socket.socket) -> str:
    if found.family not in (socket.AF_INET, socket.AF_INET6):
        return f"a socket ({found.family.name})"
    try:
        peer = found.getpeername()
    except OSError:
        address = found.getsockname()
        return f"a socket at {address[0]}:{address[1]}"
    return f"a connection to {peer[0]}:{peer[1]}"
