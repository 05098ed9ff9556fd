"""Where the private sockets between workers lie: in the state directory, which agents cannot see.

A Unix socket's name has at most 107 bytes. Where the state directory's own is too long for that, a
link with a short name leads there, which goes with the supervisor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frontdesk.gateway.state_dir import StateDir

MAX_NAME_BYTES = 107
LONGEST_OWN = len("/storage.sock")


@contextmanager
def sockets_directory(state: StateDir) -> Iterator[Path]:
    """Yield a directory for sockets, closed to other accounts, by a name that is short enough."""
    directory = state.sockets()
    if len(bytes(directory)) + LONGEST_OWN <= MAX_NAME_BYTES:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="frontdesk-") as short:
        link = Path(short) / "s"
        link.symlink_to(directory)
        yield link


def engine_socket(directory: Path) -> Path:
    """Return where the supervisor serves the index."""
    return directory / "engine.sock"


def storage_socket(directory: Path) -> Path:
    """Return where the supervisor serves the storage of conversations."""
    return directory / "storage.sock"


def worker_socket(directory: Path, number: int) -> Path:
    """Return where a worker takes requests that others pass on to it."""
    return directory / f"{number}.sock"
