"""The keeper's house: what is done about each order of the gateway and each word of a template.

Runs in the keeper, single-threaded, below the loop in `__main__.py`, above the wards and the
templates. It knows nothing of what agents do.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import assert_never

import msgspec

from frontdesk.keeper.child import Child
from frontdesk.keeper.children import Children
from frontdesk.keeper.confinement import Confinement
from frontdesk.keeper.forkserver import Confined, Forked, ForkRequest, ForkServerEvent, Prepared
from frontdesk.keeper.forkservers import ForkServerProcess, ForkServers
from frontdesk.keeper.journal import Journal
from frontdesk.keeper.messages import (
    Command,
    End,
    ForkServerSpec,
    KeeperEvent,
    KeeperRequest,
    Refused,
    Spawn,
    SpawnRequest,
    Warm,
    Warmed,
)
from frontdesk.keeper.procfs import tag_for
from frontdesk.keeper.seqpacket import SeqPacketChannel, close_all
from frontdesk.keeper.spawn import ExecFailed, Program, start_program

TEMPLATE_WARD = (1 << 32) - 1
"""The number that templates are tagged with: above all wards, as a tag can only be lowered."""


class KeeperServer:
    """Keep the wards of one gateway. Nothing here waits but the start of a program."""

    def __init__(self, gateway: SeqPacketChannel, *, run: int, ledger: Journal) -> None:
        self.templates = ForkServers()
        self.wards = Children(self._tell, run=run, ledger=ledger)
        self._gateway = gateway
        self._run = run

    def obey(self, payload: bytes, descriptors: tuple[int, ...]) -> None:
        """Carry out one order of the gateway."""
        order = msgspec.json.decode(payload, type=KeeperRequest)
        match order:
            case Spawn():
                self._spawn(order, descriptors)
            case Warm():
                self._warm(order)
            case End():
                self.wards.end(order.ward, order.grace_s)
            case _:
                assert_never(order)

    def tidy(self, now: float) -> None:
        """Reap the dead, end what is overdue, and look after the orphans of both."""
        died = self.wards.reap(hear=self.hear_all)
        for running in self.templates:
            if running.pid in died:
                self._bury(running)
        if self.wards.expire(now) or died:
            self.wards.sweep(hear=self.hear_all, known=self._template_pids)

    def hear_all(self) -> None:
        """Take in what every template has said."""
        for running in self.templates:
            self.hear(running)

    def hear(self, running: ForkServerProcess) -> None:
        """Take in what a template has said."""
        for report in self.templates.hear(running):
            self._take_in(running, report)

    # -- orders --------------------------------------------------------------------------------

    def _spawn(self, spawn: Spawn, descriptors: tuple[int, ...]) -> None:
        ward = self.wards.open(spawn.ward)
        if len(descriptors) != 2:
            close_all(descriptors)
            self.wards.refuse(ward.number, "descriptors", "the keeper has no free descriptors")
            return
        try:
            self._run_it(ward, spawn.order, descriptors)
        except ExecFailed as error:
            close_all(descriptors)
            self.wards.refuse(ward.number, error.stage, error.text)

    def _run_it(self, ward: Child, order: SpawnRequest, descriptors: tuple[int, ...]) -> None:
        harness = self._harness(order, ward.tag)
        if isinstance(order.run, Command):
            self._launch(ward, order.run, harness, descriptors)
        else:
            self._fork(ForkRequest(ward.number, harness), order.run.template, descriptors)

    def _launch(
        self, ward: Child, command: Command, harness: Confinement, descriptors: tuple[int, ...]
    ) -> None:
        channel, stderr = descriptors
        standard = {0: channel, 1: channel, 2: stderr}
        pid = start_program(Program(command.argv, command.env, harness, standard))
        close_all(descriptors)
        self.wards.forked(ward.number, pid)
        self.wards.begin(ward.number)

    def _fork(
        self, order: ForkRequest, template: ForkServerSpec, descriptors: tuple[int, ...]
    ) -> None:
        running = self._template(template)
        # A template that has just ended is heard of as the end of its connection.
        with suppress(OSError):
            self.templates.order(running, order, descriptors)

    def _template(self, template: ForkServerSpec) -> ForkServerProcess:
        tag = tag_for(self._run, TEMPLATE_WARD)
        harness = Confinement(tag=tag, keeper_pid=os.getpid(), account=template.account)
        return self.templates.get(template, harness)

    def _harness(self, order: SpawnRequest, tag: int) -> Confinement:
        # A fork has its template's account already, and could not ask for it again.
        account = order.run.account if isinstance(order.run, Command) else None
        return Confinement(
            tag=tag,
            keeper_pid=os.getpid(),
            limits=order.limits,
            account=account,
            cwd=order.cwd,
        )

    def _warm(self, warm: Warm) -> None:
        try:
            running = self._template(warm.template)
        except ExecFailed as error:
            self._tell(Warmed(warm.errand, f"{error.stage}: {error.text}"))
            return
        if running.prepared:
            self._tell(Warmed(warm.errand, None))
        else:
            running.errands.append(warm.errand)

    # -- what templates say --------------------------------------------------------------------

    def _take_in(self, running: ForkServerProcess, report: ForkServerEvent) -> None:
        match report:
            case Prepared():
                self._prepared(running, report)
            case Forked():
                running.forking.discard(report.ward)
                self.wards.forked(report.ward, report.pid)
            case Confined():
                self.wards.begin(report.ward)
            case Refused():
                running.forking.discard(report.ward)
                self.wards.refuse(report.ward, report.stage, report.text)
            case _:
                assert_never(report)

    def _prepared(self, running: ForkServerProcess, report: Prepared) -> None:
        running.prepared = True
        for errand in running.errands:
            self._tell(Warmed(errand, report.error))
        running.errands.clear()
        if report.error is not None:
            for ward in sorted(running.forking):
                self.wards.refuse(ward, "template", report.error)
            running.forking.clear()
            self.templates.drop(running)

    def _bury(self, running: ForkServerProcess) -> None:
        # Its end of the connection may stay open for a moment, in a fork that is still young.
        self.hear(running)
        for report in self.templates.lose(running):
            self._take_in(running, report)

    def _template_pids(self) -> set[int]:
        return {running.pid for running in self.templates}

    def _tell(self, report: KeeperEvent) -> None:
        # A gateway that is gone is noticed where its orders are read.
        with suppress(OSError):
            self._gateway.send(msgspec.json.encode(report))
