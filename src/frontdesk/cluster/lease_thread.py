"""The thread that renews a node's lease, on a connection of its own.

Not a task: a loop that is busy for ten seconds must not cost a thousand sessions their node, and
one that hangs must be found out by somebody else. It waits for nothing of the loop's, reads plain
numbers that the loop writes, and hands over what came of each renewal.
"""

from __future__ import annotations

import faulthandler
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from frontdesk.background import start_without_signals
from frontdesk.cluster.decisions import RenewalOutcome, must_end_itself, stall_s
from frontdesk.cluster.engine import LeaseConnection
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.records import Renewal
from frontdesk.cluster.terms import LeaseTerms

__all__ = ["LeaseThread", "RenewalSource"]

RETRIES_IN_A_RENEWAL = 5
"""A renewal that failed is tried again after a fifth of the time between two."""

_log = logging.getLogger("frontdesk")


@dataclass(frozen=True, slots=True)
class RenewalSource:
    """What the thread asks and calls; each from the thread, so none may wait.

    Attributes:
        connect (Callable): Makes a connection for renewals.
        renewal (Callable): What to tell, given how long the loop has not moved.
        report (Callable): Takes what came of it.
        moved_s (Callable): When the loop last moved.
        now_s (Callable): The time.
        end_process (Callable): Ends the process, whose loop hangs.
    """

    connect: Callable[[], LeaseConnection]
    renewal: Callable[[float], Renewal]
    report: Callable[[RenewalOutcome], None]
    moved_s: Callable[[], float]
    now_s: Callable[[], float]
    end_process: Callable[[], None]


class LeaseThread:
    """Renew a lease every quarter of it, until it is ended. Owned by a `Node`.

    A renewal takes a quarter of a lease at most, and one that failed is tried again sooner, on
    another connection; so three can fail before the lease runs out.
    """

    def __init__(self, source: RenewalSource, *, terms: LeaseTerms) -> None:
        self._source, self._terms = source, terms
        self._ending = threading.Event()
        self._soon = threading.Event()
        self._connection: LeaseConnection | None = None
        self._ran_since_s = source.now_s()
        self._thread = threading.Thread(target=self._run, name="frontdesk-lease", daemon=True)

    def start(self) -> None:
        """Begin; the first renewal is sent at once."""
        start_without_signals(self._thread)

    def renew_soon(self) -> None:
        """Renew now instead of at the next quarter: what is told has changed. From any thread."""
        self._soon.set()

    def end(self) -> None:
        """Ask it to end; a renewal under way is broken off. Idempotent."""
        self._ending.set()
        self._soon.set()
        connection = self._connection
        if connection is not None:
            connection.close()

    def join(self) -> None:
        """Wait until it has ended, a quarter of a lease at most. Blocks."""
        self._thread.join(self._terms.renew_s)

    def _run(self) -> None:
        while not self._ending.is_set():
            began_s = self._source.now_s()
            self._end_hung_process(began_s)
            outcome = self.renew_once()
            if not self._ending.is_set():
                self._source.report(outcome)
            retries = RETRIES_IN_A_RENEWAL if outcome.renewed is None else 1
            pause_s = self._terms.renew_s / retries - (outcome.at_s - began_s)
            self._soon.wait(max(0.0, pause_s))
            self._soon.clear()
            if self._source.now_s() - began_s > self._terms.lease_s:
                # Nothing here takes so long: the process stood still, and the loop with it.
                self._ran_since_s = self._source.now_s()
        self._disconnect()

    def renew_once(self) -> RenewalOutcome:
        """Renew; return what came of it. An error of any kind is no answer."""
        source = self._source
        sent_s = source.now_s()
        moved_s, ran_since_s = source.moved_s(), self._ran_since_s
        age_s = stall_s(moved_s=moved_s, ran_since_s=ran_since_s, now_s=sent_s)
        try:
            if self._connection is None:
                self._connection = source.connect()
            renewed = self._connection.renew(source.renewal(age_s))
        except LeaseLost:
            return RenewalOutcome(sent_s, source.now_s(), lost=True)
        except EngineUnavailable:
            self._disconnect()
        except Exception:  # noqa: BLE001 - the lease is worth more than knowing why; it is logged
            self._disconnect()
            if not self._ending.is_set():
                _log.exception("a renewal of the lease failed")
        else:
            return RenewalOutcome(sent_s, source.now_s(), renewed)
        return RenewalOutcome(sent_s, source.now_s())

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _end_hung_process(self, now_s: float) -> None:
        source = self._source
        age_s = stall_s(moved_s=source.moved_s(), ran_since_s=self._ran_since_s, now_s=now_s)
        if must_end_itself(age_s, terms=self._terms):
            _log.critical("the event loop has not moved for %.0f s: the process ends itself", age_s)
            faulthandler.dump_traceback(all_threads=True)
            source.end_process()
