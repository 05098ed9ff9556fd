"""The keeper's process: `python -m frontdesk.keeper`, started by `connection.py`.

Its one loop waits for the gateway, the fork servers and the deaths of children. It ends when the
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
from frontdesk.keeper.confinement import IGNORED_BY_PYTHON, not_enforced
from frontdesk.keeper.journal import JournalFile, NoJournal, sweep_journals
from frontdesk.keeper.messages import MAX_PACKET_BYTES, KeeperOptions, Ready
from frontdesk.keeper.seqpacket import SeqPacketChannel
from frontdesk.keeper.server import KeeperServer


def main() -> None:
    """Serve until the gateway is gone."""
    options = msgspec.json.decode(sys.argv[1], type=KeeperOptions)
    wakeup_fd = _set_up_process()
    os.set_inheritable(options.channel, False)
    gateway = SeqPacketChannel(socket.socket(fileno=options.channel))
    directory = Path(options.journals) if options.journals is not None else None
    ended = sweep_journals(directory) if directory is not None else 0
    journal = NoJournal() if directory is None else JournalFile(directory, run=options.run)
    hidden = options.hidden.path if options.hidden is not None else None
    server = KeeperServer(gateway, run=options.run, journal=journal, hidden=hidden)
    gateway.send(msgspec.json.encode(Ready(ended, not_enforced(options.hidden))))
    try:
        _serve(server, gateway, wakeup_fd)
    finally:
        server.children.kill_all()


def _set_up_process() -> int:
    """Become a subreaper whom agents cannot read; return the descriptor that signals wake."""
    # It knows the environment of every agent, and agents may share its account.
    prctl.become_undumpable()
    prctl.become_subreaper()
    _forget_inherited_signals()
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Handlers, not SIG_IGN, which programs that we start would inherit.
        signal.signal(number, lambda *_: None)
    return reading


def _forget_inherited_signals() -> None:
    """Let agents have every signal, whatever ignores and blocks them where the gateway runs.

    A shell's background job ignores SIGINT and SIGQUIT, and under `nohup` SIGHUP: all that is
    started would inherit it.
    """
    for number in signal.valid_signals() - set(IGNORED_BY_PYTHON):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _serve(server: KeeperServer, gateway: SeqPacketChannel, wakeup_fd: int) -> None:
    while True:
        ready = _poll(server, gateway, wakeup_fd)
        if wakeup_fd in ready:
            with suppress(BlockingIOError):
                while os.read(wakeup_fd, 4096):
                    pass
        for fork_server in server.fork_servers:
            if fork_server.packets.fileno() in ready:
                server.read_fork_server(fork_server)
        server.reap(time.monotonic())
        if gateway.fileno() in ready:
            if not _read_requests(server, gateway):
                return
            server.reap(time.monotonic())


def _poll(server: KeeperServer, gateway: SeqPacketChannel, wakeup_fd: int) -> set[int]:
    poll = select.poll()
    poll.register(wakeup_fd, select.POLLIN)
    for packets in (gateway, *(fork_server.packets for fork_server in server.fork_servers)):
        with suppress(OSError):
            packets.flush()
        poll.register(packets.fileno(), select.POLLIN | packets.pending * select.POLLOUT)
    deadline = server.children.next_deadline()
    # Rounded up: woken a moment early, the loop would spin until the deadline.
    timeout_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000 + 1
    return {descriptor for descriptor, _ in poll.poll(timeout_ms)}


def _read_requests(server: KeeperServer, gateway: SeqPacketChannel) -> bool:
    """Carry out what the gateway has sent; False once it has hung up."""
    while True:
        try:
            packet = gateway.receive(largest=MAX_PACKET_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if packet is None:
            return False
        server.on_request(*packet)


if __name__ == "__main__":
    main()
