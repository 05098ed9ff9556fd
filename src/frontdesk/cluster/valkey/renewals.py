"""The blocking connection of the thread that renews a node's lease; nothing else waits on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.records import Renewal, Renewed
from frontdesk.cluster.valkey import verbs
from frontdesk.cluster.valkey.calls import ScriptCall, packed_caller
from frontdesk.cluster.valkey.connecting import FAILURES, NoScriptError, connect_blocking
from frontdesk.cluster.valkey.driver import raise_as_ours
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.cluster.valkey.keys import key
from frontdesk.lock import InterruptibleLock

__all__ = ["RenewalConnection"]

T = TypeVar("T")


class RenewalConnection:
    """Renew a lease. A `LeaseConnection`; for one thread, but for `close`.

    Attributes:
        known (int): The highest revision that it heard of. Written by its thread only.
    """

    def __init__(
        self, address: EngineAddress, *, timeout_s: float, known: Callable[[], int]
    ) -> None:
        self.known: int = 0
        self._address, self._meta = address, key(address.prefix, "meta")
        self._timeout_s, self._known_elsewhere = timeout_s, known
        self._connection: Any = None
        self._run_id = ""
        self._closed = threading.Event()
        self._in_use = InterruptibleLock()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def renew(self, renewal: Renewal) -> Renewed:
        """Renew a lease; raises `LeaseLost` and `EngineUnavailable`.

        A connection that was idle may be one to a server that is gone: it is tried once more.
        """
        call = verbs.renew(renewal)
        with self._in_use:
            before = self._connection is not None
            try:
                return self._ask(call)
            except EngineUnavailable:
                if not before or self._closed.is_set():
                    raise
                return self._ask(call)

    def close(self) -> None:
        """Close it; a call under way ends with `EngineUnavailable`. From any thread."""
        self._closed.set()
        # Who is in a call reads the end of the connection, and closes it.
        socket_in_use = getattr(self._connection, "_sock", None)
        if socket_in_use is not None:
            with suppress(OSError):
                socket_in_use.shutdown(socket.SHUT_RDWR)
        if self._in_use.acquire(blocking=False):
            try:
                self._disconnect()
            finally:
                self._in_use.release()

    def _ask(self, call: ScriptCall[T]) -> T:
        try:
            if self._connection is None:
                # Connecting, its two answers and the call's: together not more than the time.
                made = connect_blocking(self._address, timeout_s=self._timeout_s / 4)
                self._connection, self._run_id = made[0], made[1].run_id
            reply = self._exchange(call)
        except BaseException as error:  # noqa: BLE001 - each is raised, most as ours
            self._disconnect()
            raise_as_ours(error)
        answer = call.answer(reply)
        self.known = max(self.known, answer.revision)
        return call.outcome(answer)

    def _exchange(self, call: ScriptCall[Any]) -> Any:
        connection = self._connection
        if self._closed.is_set():
            raise EngineUnavailable("the connection is closed")
        known = max(self.known, self._known_elsewhere())
        words = call.words(self._meta, packed_caller(self._run_id, known))
        connection.send_command(*words)
        try:
            return connection.read_response(disable_decoding=True)
        except NoScriptError:
            connection.send_command("SCRIPT LOAD", call.script.text)
            connection.read_response()
            connection.send_command(*words)
            return connection.read_response(disable_decoding=True)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAILURES):
                connection.disconnect()
