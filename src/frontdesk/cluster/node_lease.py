"""A node's lease: what the thread that renews it is told, and what follows from its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from frontdesk.background import in_own_thread
from frontdesk.cluster.cluster_log import ClusterLog
from frontdesk.cluster.decisions import NodeAction, RenewalOutcome, after_renewal
from frontdesk.cluster.engine import Engine
from frontdesk.cluster.lease_thread import LeaseThread, RenewalSource
from frontdesk.cluster.membership import Membership
from frontdesk.cluster.own_sessions import OwnSessions
from frontdesk.cluster.records import Renewal

__all__ = ["NodeLease"]


class NodeLease:
    """Keep a node's lease, and decide what follows. Owned by a `Node`.

    `on_renewed` is called with every renewal that was answered.
    """

    def __init__(
        self,
        engine: Engine,
        membership: Membership,
        own: OwnSessions,
        log: ClusterLog,
        *,
        on_renewed: Callable[[], None],
    ) -> None:
        self._engine, self._membership, self._own, self._log = engine, membership, own, log
        self._on_renewed = on_renewed
        self._thread: LeaseThread | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._head_before = 0

    def start(self) -> None:
        """Begin to renew; on the loop whose ticks are told."""
        self._move()
        source = self._renewal_source(asyncio.get_running_loop())
        self._thread = LeaseThread(source, terms=self._membership.terms)
        self._thread.start()
        self._membership.renew_soon = self._thread.renew_soon

    def renew_soon(self) -> None:
        """Renew now: what is told has changed."""
        if self._thread is not None:
            self._thread.renew_soon()

    async def end(self) -> None:
        """Renew no more, and wait until the thread has ended."""
        if self._tick is not None:
            self._tick.cancel()
        if self._thread is not None:
            self._thread.end()
            await in_own_thread(self._thread.join, name="lease-end", daemon=True)

    def _move(self) -> None:
        """Say that the loop moves; a stalled one does not come here."""
        self._membership.moved_s = self._membership.hooks.now_s()
        pause_s = min(1.0, self._membership.terms.renew_s / 2)
        self._tick = asyncio.get_running_loop().call_later(pause_s, self._move)

    def _renewal_source(self, loop: asyncio.AbstractEventLoop) -> RenewalSource:
        """Return what the thread of the lease sees of this node: plain values, each replaced whole.

        A renewal is quiet if nothing began, ended or was under way between its two ends.
        """
        membership, own = self._membership, self._own
        sent: list[tuple[int, int]] = [(0, 0)]

        def renewal(loop_age_s: float) -> Renewal:
            sent[0] = membership.joins, own.activity
            totals = own.totals
            return Renewal(
                membership.incarnation,
                totals.count,
                totals.tokens,
                loop_age_s,
                membership.hooks.listener_age_s(),
                membership.draining,
            )

        def report(outcome: RenewalOutcome) -> None:
            joins, activity = sent[0]
            quiet = activity == own.activity and not own.under_way
            with suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                loop.call_soon_threadsafe(self._on_renewal, joins, outcome, quiet)

        return RenewalSource(
            connect=self._engine.lease_connection,
            renewal=renewal,
            report=report,
            moved_s=lambda: membership.moved_s,
            now_s=membership.hooks.now_s,
            end_process=membership.hooks.end_process,
        )

    def _on_renewal(self, joins: int, outcome: RenewalOutcome, quiet: bool) -> None:
        membership = self._membership
        if joins != membership.joins:
            return  # it joined meanwhile: this is about the lease before, and may be bad news
        era = membership.standing.era
        membership.hooks.on_renewal(outcome)
        membership.standing, actions = after_renewal(
            membership.standing, outcome, quiet=quiet, terms=membership.terms
        )
        if membership.standing.era != era:
            membership.hooks.on_era()
        if NodeAction.STOP_CHOSEN in actions:
            # Somebody else may soon start what stands under an id that a caller chose.
            own = self._own
            for each in [*own.entries.values(), *own.homeless.values()]:
                if not each.indexed.entry.minted and each.session_id not in own.ending:
                    membership.hooks.on_isolated(each.session_id, each.local_fence)
        membership.do_soon(*(one for one in actions if one is not NodeAction.STOP_CHOSEN))
        if outcome.renewed is not None:
            # What it heard a quarter of a lease ago has been read since, or the log is stuck.
            self._log.distrust(self._head_before)
            self._head_before = outcome.renewed.revision
            self._on_renewed()
            membership.changed.wake_all()
