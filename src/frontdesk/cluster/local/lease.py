"""The connection that a lease is renewed over: a socket that blocks, for a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import msgspec

from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.local import wire
from frontdesk.cluster.records import Renewal, Renewed
from frontdesk.lock import InterruptibleLock

__all__ = ["LocalLease"]

_RECEIVED_AT_ONCE = 4096

_answer = msgspec.msgpack.Decoder(wire.WireAnswer)


class LocalLease:
    """Renew a lease. A `LeaseConnection`; one thread renews, any closes.

    Connects when it is first asked, and anew after every failure: an answer that comes late is to
    be taken for no other.
    """

    def __init__(self, path: Path, *, patience_s: float) -> None:
        self._path, self._patience_s = path, patience_s
        self._lock = InterruptibleLock()
        self._socket: socket.socket | None = None
        self._number = 0
        self._renewing = self._closed = False

    def renew(self, renewal: Renewal) -> Renewed:
        """Renew; `LeaseLost`, `EngineUnavailable`. Blocks for a quarter of a lease at most."""
        with self._lock:
            if self._closed:
                raise EngineUnavailable("the connection is closed")
            self._renewing = True
        try:
            answer = self._ask(renewal, time.monotonic() + self._patience_s)
        except (OSError, msgspec.MsgspecError, wire.BadFrame) as error:
            self._hang_up()
            raise EngineUnavailable(f"the lease could not be renewed: {error}") from error
        finally:
            self._renewed()
        return wire.RENEW.result(answer)

    def close(self) -> None:
        """Close it; a renewal under way ends with `EngineUnavailable`. From any thread."""
        with self._lock:
            self._closed = True
            if self._renewing and self._socket is not None:
                # The renewing thread closes it: its number must not be another file's meanwhile.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
        self._hang_up()

    def _renewed(self) -> None:
        with self._lock:
            self._renewing = False
            closed = self._closed
        if closed:
            self._hang_up()

    def _ask(self, renewal: Renewal, deadline: float) -> wire.WireAnswer:
        connected = self._connected(deadline)
        self._number += 1
        connected.settimeout(_left_s(deadline))
        connected.sendall(wire.RENEW.call(self._number, renewal))
        frames = wire.FrameReader(largest=wire.MAX_ANSWER_BYTES)
        while (message := frames.take()) is None:
            connected.settimeout(_left_s(deadline))
            arrived = connected.recv(_RECEIVED_AT_ONCE)
            if not arrived:
                raise ConnectionResetError("the supervisor is gone")
            frames.feed(arrived)
        return _answer.decode(message)

    def _connected(self, deadline: float) -> socket.socket:
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX)
            with self._lock:
                self._socket = fresh
            fresh.settimeout(_left_s(deadline))
            with wire.short_path(self._path) as address:
                fresh.connect(address)
        return self._socket

    def _hang_up(self) -> None:
        with self._lock:
            connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the supervisor did not answer in time")
    return left_s
