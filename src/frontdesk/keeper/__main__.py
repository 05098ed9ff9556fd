"""The keeper's process: `python -m frontdesk.keeper`, started by `client.py`.

Its one loop waits for the gateway, the templates and the deaths of children. It ends when the
gateway's connection does, however that came, and leaves nobody behind. It takes no notice of
SIGTERM: the signal may be meant for a whole service whose gateway still drains.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from frontdesk.keeper import prctl
from frontdesk.keeper.journal import JournalFile, NoJournal, sweep_journals
from frontdesk.keeper.messages import LARGEST_PACKET, KeeperOptions, Ready
from frontdesk.keeper.seqpacket import SeqPacketChannel
from frontdesk.keeper.server import KeeperServer


def main() -> None:
    """Keep house until the gateway is gone."""
    terms = msgspec.json.decode(sys.argv[1], type=KeeperOptions)
    wake = _take_the_position()
    os.set_inheritable(terms.channel, False)
    gateway = SeqPacketChannel(socket.socket(fileno=terms.channel))
    directory = Path(terms.ledgers) if terms.ledgers is not None else None
    ended = sweep_journals(directory) if directory is not None else 0
    ledger = NoJournal() if directory is None else JournalFile(directory, run=terms.run)
    house = KeeperServer(gateway, run=terms.run, ledger=ledger)
    gateway.send(msgspec.json.encode(Ready(ended)))
    try:
        _keep(house, gateway, wake)
    finally:
        house.wards.clear()


def _take_the_position() -> int:
    # It knows the environment of every agent, and agents may share its account.
    prctl.become_undumpable()
    prctl.become_subreaper()
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Handlers, not SIG_IGN, which programs that we start would inherit.
        signal.signal(number, lambda *_: None)
    return reading


def _keep(house: KeeperServer, gateway: SeqPacketChannel, wake: int) -> None:
    while True:
        ready = _wait(house, gateway, wake)
        if wake in ready:
            _drain(wake)
        for running in house.templates:
            if running.packets.fileno() in ready:
                house.hear(running)
        house.tidy(time.monotonic())
        if gateway.fileno() in ready:
            if not _take_orders(house, gateway):
                return
            house.tidy(time.monotonic())


def _wait(house: KeeperServer, gateway: SeqPacketChannel, wake: int) -> set[int]:
    waiting = select.poll()
    waiting.register(wake, select.POLLIN)
    for packets in (gateway, *(running.packets for running in house.templates)):
        with suppress(OSError):
            packets.flush()
        waiting.register(packets.fileno(), select.POLLIN | packets.pending * select.POLLOUT)
    return {descriptor for descriptor, _ in waiting.poll(_patience_ms(house))}


def _patience_ms(house: KeeperServer) -> float | None:
    deadline = house.wards.next_deadline()
    # Rounded up: woken a moment early, the loop would spin until the deadline.
    return None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000 + 1


def _drain(wake: int) -> None:
    with suppress(BlockingIOError):
        while os.read(wake, 4096):
            pass


def _take_orders(house: KeeperServer, gateway: SeqPacketChannel) -> bool:
    while True:
        try:
            packet = gateway.receive(largest=LARGEST_PACKET)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if packet is None:
            return False
        house.obey(*packet)


if __name__ == "__main__":
    main()
