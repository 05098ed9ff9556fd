"""A fork server: an interpreter with its imports done, from which agents are forked.

A process of its own (`python -m frontdesk.keeper.forkserver`), started by the keeper and
ended by the end of their connection. It forks twice for each agent: the one in between exits at
once, so that the keeper, who adopts orphans, becomes the agent's parent and reaps it. It knows what
to import and what to call, and nothing of what that does.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn, cast

import msgspec

from frontdesk.keeper.confinement import Confinement, ConfinementFailed, apply
from frontdesk.keeper.import_problems import place_of
from frontdesk.keeper.left_open import open_descriptors, shared_since
from frontdesk.keeper.messages import MAX_PACKET_BYTES, ForkServerSpec, Refused
from frontdesk.keeper.modules_behind import find_behind
from frontdesk.keeper.prctl import become_undumpable
from frontdesk.keeper.seqpacket import SeqPacketChannel, close_all

Entry = Callable[[socket.socket], object]

_MAX_TEXT = 2000


class ForkRequest(msgspec.Struct, frozen=True, tag="fork"):
    """Fork a child. With it travel the socket of its channel and its standard error."""

    child_id: int
    confinement: Confinement


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """The imports are done, or failed with `error`; `description` is the entry's own."""

    error: str | None
    description: str = ""


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """The child has a process, which is about to become the keeper's child."""

    child_id: int
    pid: int


class Confined(msgspec.Struct, frozen=True, tag="confined"):
    """The child's process is confined and about to run the agent."""

    child_id: int


ForkServerEvent = Prepared | Forked | Confined | Refused


def main() -> None:
    """Prepare what the keeper says, then fork until the keeper hangs up."""
    # Its end comes through its connection: a signal meant for a whole service must not end it
    # while the gateway still drains. Nor its forks, which keep this unless their entry changes it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    # It knows what its agents are given, and so does each of them from the start.
    become_undumpable()
    keeper = socket.socket(fileno=int(sys.argv[1]))
    keeper.set_inheritable(False)
    spec = msgspec.json.decode(keeper.recv(MAX_PACKET_BYTES), type=ForkServerSpec)
    try:
        entry = _prepare(spec)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises is the answer
        text = "".join(traceback.format_exception_only(error)).strip() + place_of(error)
        _report(keeper, Prepared(text[:_MAX_TEXT]))
        return
    _report(keeper, Prepared(None, getattr(entry, "description", "")))
    _serve(keeper, entry)


def _prepare(spec: ForkServerSpec) -> Entry:
    before = open_descriptors()
    os.environ.clear()
    os.environ.update(spec.env)
    sys.path[:] = spec.path or sys.path
    find_behind(spec.behind)
    for name in spec.preload:
        importlib.import_module(name)
    module, _, function = spec.entry.partition(":")
    entry: Entry = getattr(importlib.import_module(module), function)(spec.argument)
    if threading.active_count() > 1:
        names = ", ".join(sorted(t.name for t in threading.enumerate()[1:]))
        raise RuntimeError(f"preparing it started threads ({names}), which no fork can copy")
    gc.collect()
    if (shared := shared_since(before)) is not None:
        raise RuntimeError(
            f"preparing it opened what all sessions would share: {shared}. "
            "Open it in the session, or at the first turn"
        )
    # What was imported is never garbage: a collection in a fork must not touch, and so copy, it.
    gc.freeze()
    return entry


def _serve(keeper: socket.socket, entry: Entry) -> None:
    packets = SeqPacketChannel(keeper)
    keeper.setblocking(True)
    while (packet := packets.receive(largest=MAX_PACKET_BYTES)) is not None:
        payload, descriptors = packet
        request = msgspec.json.decode(payload, type=ForkRequest)
        try:
            _fork(keeper, entry, request, descriptors)
        finally:
            close_all(descriptors)


def _fork(
    keeper: socket.socket, entry: Entry, request: ForkRequest, descriptors: tuple[int, ...]
) -> None:
    try:
        between = os.fork()
    except OSError as error:
        _report(keeper, Refused(request.child_id, "fork", str(error)))
        return
    if between == 0:
        _fork_again(keeper, entry, request, descriptors)
    os.waitpid(between, 0)


def _fork_again(
    keeper: socket.socket, entry: Entry, request: ForkRequest, descriptors: tuple[int, ...]
) -> NoReturn:
    try:
        pid = os.fork()
        if pid == 0:
            _become_agent(keeper, entry, request, descriptors)
        # Reported before this process exits, hence before the keeper can have adopted the agent:
        # the keeper never reaps a child that it has not heard of.
        _report(keeper, Forked(request.child_id, pid))
    except OSError as error:
        _report(keeper, Refused(request.child_id, "fork", str(error)))
    finally:
        os._exit(0)


def _become_agent(
    keeper: socket.socket, entry: Entry, request: ForkRequest, descriptors: tuple[int, ...]
) -> NoReturn:
    code = 1
    try:
        channel, stderr = descriptors
        _connect(stderr)
        apply(request.confinement)
        _report(keeper, Confined(request.child_id))
        keeper.close()
        code = _run(entry, socket.socket(fileno=channel))
    except ConfinementFailed as error:
        _report(keeper, Refused(request.child_id, error.stage, error.text))
    finally:
        os._exit(code)


def _connect(stderr: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    close_all((nothing, stderr))
    # What an agent prints belongs into the log when it prints it, not when a buffer is full.
    cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)


def _run(entry: Entry, channel: socket.socket) -> int:
    try:
        entry(channel)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001 - the process ends here, and says why on its stderr
        traceback.print_exc()
        return 1
    finally:
        # Whoever read them may be gone, which is no fault of the agent's.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
    return 0


def _report(keeper: socket.socket, event: ForkServerEvent) -> None:
    keeper.sendall(msgspec.json.encode(event))


if __name__ == "__main__":
    main()
