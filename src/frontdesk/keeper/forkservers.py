"""The keeper's templates: starting them, handing them orders, and hearing what they say.

Below `house.py`, above `launch.py`; `template.py` is what runs at the other end. It knows which
wards wait for which template, and does nothing to a ward itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from frontdesk.keeper.confinement import Confinement
from frontdesk.keeper.environment import interpreter_environment
from frontdesk.keeper.forkserver import ForkRequest, ForkServerEvent, Prepared
from frontdesk.keeper.messages import LARGEST_PACKET, ForkServerSpec, Refused
from frontdesk.keeper.seqpacket import SeqPacketChannel, close_all, packet_pair
from frontdesk.keeper.spawn import Program, start_program

MAX_FORK_SERVERS = 16
"""Templates kept warm; past that the one used longest ago is let go. Each holds its imports."""

_CHANNEL = 3


@dataclass(slots=True)
class ForkServerProcess:
    """One running template: `forking` are the wards that it has been asked for and has not told of,
    `errands` those who wait for its imports."""

    key: bytes
    pid: int
    packets: SeqPacketChannel
    forking: set[int] = field(default_factory=set)
    errands: list[int] = field(default_factory=list)
    prepared: bool = False


class ForkServers:
    """Hold the templates that run, in the order of their last use."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, ForkServerProcess] = {}

    def __iter__(self) -> Iterator[ForkServerProcess]:
        return iter(list(self._by_key.values()))

    def get(self, template: ForkServerSpec, harness: Confinement) -> ForkServerProcess:
        """Return the template's process, started now where there is none; LaunchFailed."""
        running = self._by_key.pop(template.key, None)
        if running is None:
            self._let_go_of_the_oldest()
            running = _start(template, harness)
        self._by_key[running.key] = running
        return running

    def order(
        self, running: ForkServerProcess, order: ForkRequest, descriptors: Sequence[int]
    ) -> None:
        """Ask for a ward. The descriptors become the template's."""
        running.forking.add(order.ward)
        running.packets.send(msgspec.json.encode(order), descriptors)

    def hear(self, running: ForkServerProcess) -> Iterator[ForkServerEvent]:
        """Yield what the template has said since; ends it where it has hung up."""
        while self._by_key.get(running.key) is running:
            try:
                packet = running.packets.receive(largest=LARGEST_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = None
            if packet is None:
                yield from self.lose(running)
                return
            yield msgspec.json.decode(packet[0], type=ForkServerEvent)

    def lose(self, running: ForkServerProcess) -> Iterator[ForkServerEvent]:
        """Yield what the end of a template means for those who wait for it."""
        if self._by_key.get(running.key) is not running:
            return
        self.drop(running)
        text = "the process that agents are forked from has ended"
        if not running.prepared:
            yield Prepared(text)
        for ward in sorted(running.forking):
            yield Refused(ward, "template", text)

    def drop(self, running: ForkServerProcess) -> None:
        """Hang up, which ends it. Its wards live on; those it has not forked yet never will."""
        if self._by_key.get(running.key) is running:
            del self._by_key[running.key]
        running.packets.close()

    def _let_go_of_the_oldest(self) -> None:
        idle = (running for running in self._by_key.values() if not running.forking)
        if len(self._by_key) >= MAX_FORK_SERVERS and (oldest := next(idle, None)) is not None:
            self.drop(oldest)


def _start(template: ForkServerSpec, harness: Confinement) -> ForkServerProcess:
    ours, its = packet_pair()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        pid = start_program(
            Program(
                argv=(
                    sys.executable,
                    "-P",
                    "-m",
                    "frontdesk.keeper.forkserver",
                    str(_CHANNEL),
                ),
                env={**template.env, **interpreter_environment(template.path or None)},
                harness=harness,
                descriptors={0: null, 1: 2, 2: 2, _CHANNEL: its.fileno()},
            )
        )
    except BaseException:
        ours.close()
        raise
    finally:
        close_all((null,))
        its.close()
    running = ForkServerProcess(template.key, pid, SeqPacketChannel(ours))
    running.packets.send(msgspec.json.encode(template))
    return running
