"""The fork servers of a keeper: started, asked for forks, read, and dropped when unused.

`forkserver.py` is what runs at the other end. It knows which children wait for which fork server,
and does nothing to a child itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from frontdesk.keeper.confinement import Confinement
from frontdesk.keeper.environment import interpreter_environment, python
from frontdesk.keeper.forkserver import ForkRequest, ForkServerEvent, Prepared
from frontdesk.keeper.interpreters import command_of
from frontdesk.keeper.messages import MAX_PACKET_BYTES, ForkServerSpec, Refused
from frontdesk.keeper.seqpacket import SeqPacketChannel, close_all, packet_pair
from frontdesk.keeper.spawn import ExecSpec, start_program

MAX_FORK_SERVERS = 16
"""Fork servers kept warm; past that the one used longest ago is dropped. Each holds its imports."""

_CHANNEL = 3
_ENTER = """
import runpy
runpy.run_module("frontdesk.keeper.forkserver", run_name="__main__", alter_sys=True)
"""


@dataclass(slots=True)
class ForkServerProcess:
    """One running fork server.

    `forking` are the children that it was asked for and has not announced, `waiting_requests` the
    requests that wait for its imports, `description` what came of these; `python` is another
    interpreter than the keeper's.
    """

    key: bytes
    pid: int
    packets: SeqPacketChannel
    python: str | None = None
    forking: set[int] = field(default_factory=set)
    waiting_requests: list[int] = field(default_factory=list)
    prepared: bool = False
    description: str = ""


class ForkServers:
    """Hold the fork servers that run, in the order of their last use."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, ForkServerProcess] = {}

    def __iter__(self) -> Iterator[ForkServerProcess]:
        return iter(list(self._by_key.values()))

    def get(self, spec: ForkServerSpec, confinement: Confinement) -> ForkServerProcess:
        """Return the running fork server, started now where there is none; `ExecFailed`."""
        server = self._by_key.pop(spec.key, None)
        if server is None:
            idle = (each for each in self._by_key.values() if not each.forking)
            if len(self._by_key) >= MAX_FORK_SERVERS and (oldest := next(idle, None)) is not None:
                self.drop(oldest)
            server = _start(spec, confinement)
        self._by_key[server.key] = server
        return server

    def send(
        self, server: ForkServerProcess, request: ForkRequest, descriptors: Sequence[int]
    ) -> None:
        """Ask for a child. The descriptors become the fork server's."""
        server.forking.add(request.child_id)
        server.packets.send(msgspec.json.encode(request), descriptors)

    def receive(self, server: ForkServerProcess) -> Iterator[ForkServerEvent]:
        """Yield what the fork server has sent since; its exit too, where it has hung up."""
        while self._by_key.get(server.key) is server:
            try:
                packet = server.packets.receive(largest=MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = None
            if packet is None:
                yield from self.on_exit(server)
                return
            yield msgspec.json.decode(packet[0], type=ForkServerEvent)

    def on_exit(self, server: ForkServerProcess) -> Iterator[ForkServerEvent]:
        """Yield what the end of a fork server means for those who wait for it."""
        if self._by_key.get(server.key) is not server:
            return
        self.drop(server)
        text = "the process that agents are forked from has ended"
        if not server.prepared:
            if server.python is not None:
                text = "it ended before it was ready; it may be no Python"
            yield Prepared(text)
        for child_id in sorted(server.forking):
            yield Refused(child_id, "forkserver", text)

    def drop(self, server: ForkServerProcess) -> None:
        """Hang up, which ends it. Its children live on; what it has not forked yet never will."""
        if self._by_key.get(server.key) is server:
            del self._by_key[server.key]
        server.packets.close()


def _start(spec: ForkServerSpec, confinement: Confinement) -> ForkServerProcess:
    ours, its = packet_pair()
    null = os.open(os.devnull, os.O_RDONLY)
    argv = python(_ENTER, str(_CHANNEL))
    if spec.python is not None:
        argv = command_of(spec.python, channel=_CHANNEL)
    try:
        pid = start_program(
            ExecSpec(
                argv=argv,
                env={**spec.env, **interpreter_environment(ours=spec.python is None)},
                confinement=confinement,
                descriptors={0: null, 1: 2, 2: 2, _CHANNEL: its.fileno()},
            )
        )
    except BaseException:
        ours.close()
        raise
    finally:
        close_all((null,))
        its.close()
    server = ForkServerProcess(spec.key, pid, SeqPacketChannel(ours), spec.python)
    # A program that has ended already, as one that is no interpreter may, is noticed as any other.
    with suppress(OSError):
        server.packets.send(msgspec.json.encode(spec))
    return server
