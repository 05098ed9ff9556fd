"""The process of one worker, as the supervisor starts it; and the one that checks for it.

What a worker is, and with what it was called, comes by the channel. It ends with its supervisor,
however that ends: the kernel sees to it, and where a kernel cannot, the channel.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from frontdesk.cli.exit_codes import exiting
from frontdesk.cli.options import beside, loaded
from frontdesk.cli.run import Run
from frontdesk.gateway.surroundings import mistakes_around
from frontdesk.gateway.workers.channel import WorkerChannel
from frontdesk.gateway.workers.worker_server import AssignedWorker
from frontdesk.keeper.modules_behind import find_behind
from frontdesk.keeper.prctl import die_with_parent


def main(descriptor: int) -> None:
    """Serve as the worker that the supervisor says; exit code 2 where that cannot be."""
    with suppress(OSError):  # a system without it leaves it to the channel
        die_with_parent(signal.SIGKILL)
    channel = WorkerChannel(socket.socket(fileno=descriptor))
    try:
        assignment = channel.receive_assignment()
    except EOFError:
        return
    if os.getppid() != assignment.supervisor:
        return  # it died before the kernel was asked to tell
    with exiting():
        file = None if assignment.file is None else Path(assignment.file)
        worker = AssignedWorker(assignment, channel)
        Run(file, assignment.given, dev=assignment.dev, worker=worker).run()


def check(arguments: str) -> None:
    """Say everything that would stop a worker from starting; exit code 2 if something would."""
    file, given = msgspec.json.decode(arguments, type=tuple[str | None, dict[str, Any]])
    path = None if file is None else Path(file)
    with exiting():
        find_behind([beside(path)])
        loaded(path, around=mistakes_around, **given)
