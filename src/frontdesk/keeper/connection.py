"""The gateway's connection to one keeper process: start it, talk with it, see it end.

What is sent is to it a request or an event, no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from frontdesk.background import in_own_thread
from frontdesk.keeper.environment import interpreter_environment, python
from frontdesk.keeper.errors import KeeperLost
from frontdesk.keeper.hidden_directory import HiddenDirectory
from frontdesk.keeper.journal import sweep_run
from frontdesk.keeper.messages import MAX_PACKET_BYTES, KeeperEvent, KeeperOptions, Ready
from frontdesk.keeper.procfs import fresh_run
from frontdesk.keeper.seqpacket import SeqPacketChannel, packet_pair
from frontdesk.keeper.stderr import StderrLog

READY_DEADLINE_S = 30.0
"""How long a keeper may take to start, ending the leftovers of others before it included."""

CLOSE_DEADLINE_S = 10.0
"""How long a keeper may take to end everything when we hang up; then it is killed."""

_PACKAGE = str(Path(__file__).parents[1])

_ENTER = """
import runpy, types
for name, path in (("frontdesk", ""), ("frontdesk.monitors", "/monitors")):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + path]
del sys.argv[1]
runpy.run_module("frontdesk.keeper", run_name="__main__", alter_sys=True)
"""
"""What a keeper is started with. The packages above what it imports are there for its imports to
pass through, and are not run: what they import is of no use to it, and would stay in its memory."""

_logger = logging.getLogger("frontdesk.keeper")


class ConnectionListener(Protocol):
    """Who is called with what a connection receives."""

    def on_event(self, event: KeeperEvent) -> None:
        """Handle an event."""

    def on_connection_lost(self) -> None:
        """Handle that the keeper has ended, or cannot be reached any more. Called once."""


class Connection:
    """One keeper process and the packets to and from it. Belongs to one event loop."""

    process: subprocess.Popen[bytes]
    run: int

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        packets: SeqPacketChannel,
        stderr: StderrLog,
        *,
        run: int,
    ) -> None:
        self.process, self.run = process, run
        self.not_enforced: tuple[str, ...] = ()
        self._packets, self._stderr = packets, stderr
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._listener: ConnectionListener | None = None
        self._closed = False
        self._loop.add_reader(packets.fileno(), self._readable)

    @classmethod
    async def open(
        cls, listener: ConnectionListener, *, journals: Path | None, hidden: Path | None = None
    ) -> Connection:
        """Start a keeper and return once it takes requests; `KeeperLost`, `OSError`."""
        connection = _start(journals, hidden)
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                await connection._ready
        except TimeoutError:
            await connection.close()
            raise KeeperLost(f"it was not ready after {READY_DEADLINE_S:g} s") from None
        except BaseException:
            await connection.close()
            raise
        connection._listener = listener
        return connection

    def send(self, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a request. The descriptors become ours, and are closed once sent."""
        # Where the keeper has died, that is noticed as the end of its events.
        with contextlib.suppress(OSError):
            self._packets.send(payload, descriptors)
        if self._packets.pending and not self._closed:
            self._loop.add_writer(self._packets.fileno(), self._writable)

    async def close(self) -> None:
        """Hang up, so that the keeper ends everything and itself, and wait for that."""
        self._shut()
        ended = await in_own_thread(partial(_await_end, self.process), name="keeper")
        self._stderr.close()
        if not ended:
            _logger.error("the keeper did not end within %g s and was killed", CLOSE_DEADLINE_S)
            # Its children die with it; what descended from them would not.
            await in_own_thread(partial(sweep_run, self.run), name="sweep")

    def _shut(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._packets.fileno())
            self._loop.remove_writer(self._packets.fileno())
            self._packets.close()

    def _writable(self) -> None:
        with contextlib.suppress(OSError):
            self._packets.flush()
        if not self._packets.pending:
            self._loop.remove_writer(self._packets.fileno())

    def _readable(self) -> None:
        while not self._closed:
            try:
                packet = self._packets.receive(largest=MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = None
            if packet is None:
                self._ended()
                return
            event = msgspec.json.decode(packet[0], type=KeeperEvent)
            if isinstance(event, Ready):
                if event.ended:
                    _logger.warning("ended %d processes that an earlier run had left", event.ended)
                self.not_enforced = event.not_enforced
                if not self._ready.done():
                    self._ready.set_result(None)
            elif self._listener is not None:
                self._listener.on_event(event)

    def _ended(self) -> None:
        self._shut()
        if not self._ready.done():
            self._ready.set_exception(KeeperLost("it ended as it started; its log says why"))
        elif self._listener is not None:
            self._listener.on_connection_lost()


def _start(journals: Path | None, hidden: Path | None) -> Connection:
    run = fresh_run()
    with contextlib.ExitStack() as ends:
        ours, its = packet_pair()
        ends.callback(its.close)
        failing = ends.enter_context(contextlib.ExitStack())
        failing.callback(ours.close)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        ends.callback(os.close, writing)
        failing.callback(os.close, reading)
        place = None if journals is None else str(journals.absolute())
        options = KeeperOptions(
            channel=its.fileno(),
            run=run,
            journals=place,
            hidden=None
            if hidden is None
            else HiddenDirectory.for_agent(str(hidden), environment=os.environ, cwd=None),
        )
        process = _exec(options, writing)
        failing.pop_all()
        return Connection(
            process, SeqPacketChannel(ours), StderrLog(reading, label="keeper"), run=run
        )


def _exec(options: KeeperOptions, stderr: int) -> subprocess.Popen[bytes]:
    # A session of its own, so that a terminal's Ctrl-C is the gateway's alone; an environment of
    # its own, since others of this account may read that.
    return subprocess.Popen(
        python(_ENTER, _PACKAGE, msgspec.json.encode(options).decode()),
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        env=interpreter_environment(),
        pass_fds=[options.channel],
        start_new_session=True,
    )


def _await_end(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(CLOSE_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
