"""The keeper's house: what is done about each order of the gateway and each word of a template.

Runs in the keeper, single-threaded, below the loop in `__main__.py`, above the wards and the
templates. It knows nothing of what agents do.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import assert_never

import msgspec

from frontdesk.agents.keeper.harness import Harness
from frontdesk.agents.keeper.launch import LaunchFailed, Program, launch
from frontdesk.agents.keeper.ledger import Ledger
from frontdesk.agents.keeper.orders import (
    Command,
    End,
    Order,
    Refused,
    Report,
    Spawn,
    SpawnOrder,
    Template,
    Warm,
    Warmed,
)
from frontdesk.agents.keeper.packets import Packets, close_all
from frontdesk.agents.keeper.procfs import tag_for
from frontdesk.agents.keeper.template import Forked, ForkOrder, Prepared, TemplateReport, Worn
from frontdesk.agents.keeper.templates import TemplateProcess, Templates
from frontdesk.agents.keeper.ward import Ward
from frontdesk.agents.keeper.wards import Wards

TEMPLATE_WARD = (1 << 32) - 1
"""The number that templates are tagged with: above all wards, as a tag can only be lowered."""


class House:
    """Keep the wards of one gateway. Nothing here waits but the start of a program."""

    def __init__(self, gateway: Packets, *, run: int, ledger: Ledger) -> None:
        self.templates = Templates()
        self.wards = Wards(self._tell, run=run, ledger=ledger)
        self._gateway = gateway
        self._run = run

    def obey(self, payload: bytes, descriptors: tuple[int, ...]) -> None:
        """Carry out one order of the gateway."""
        order = msgspec.json.decode(payload, type=Order)
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

    def hear(self, running: TemplateProcess) -> None:
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
        except LaunchFailed as error:
            close_all(descriptors)
            self.wards.refuse(ward.number, error.stage, error.text)

    def _run_it(self, ward: Ward, order: SpawnOrder, descriptors: tuple[int, ...]) -> None:
        harness = self._harness(order, ward.tag)
        if isinstance(order.run, Command):
            self._launch(ward, order.run, harness, descriptors)
        else:
            self._fork(ForkOrder(ward.number, harness), order.run.template, descriptors)

    def _launch(
        self, ward: Ward, command: Command, harness: Harness, descriptors: tuple[int, ...]
    ) -> None:
        channel, stderr = descriptors
        standard = {0: channel, 1: channel, 2: stderr}
        pid = launch(Program(command.argv, command.env, harness, standard))
        close_all(descriptors)
        self.wards.forked(ward.number, pid)
        self.wards.begin(ward.number)

    def _fork(self, order: ForkOrder, template: Template, descriptors: tuple[int, ...]) -> None:
        running = self._template(template)
        # A template that has just ended is heard of as the end of its connection.
        with suppress(OSError):
            self.templates.order(running, order, descriptors)

    def _template(self, template: Template) -> TemplateProcess:
        tag = tag_for(self._run, TEMPLATE_WARD)
        harness = Harness(tag=tag, keeper_pid=os.getpid(), account=template.account)
        return self.templates.get(template, harness)

    def _harness(self, order: SpawnOrder, tag: int) -> Harness:
        # A fork has its template's account already, and could not ask for it again.
        account = order.run.account if isinstance(order.run, Command) else None
        return Harness(
            tag=tag,
            keeper_pid=os.getpid(),
            limits=order.limits,
            account=account,
            cwd=order.cwd,
        )

    def _warm(self, warm: Warm) -> None:
        try:
            running = self._template(warm.template)
        except LaunchFailed as error:
            self._tell(Warmed(warm.errand, f"{error.stage}: {error.text}"))
            return
        if running.prepared:
            self._tell(Warmed(warm.errand, None))
        else:
            running.errands.append(warm.errand)

    # -- what templates say --------------------------------------------------------------------

    def _take_in(self, running: TemplateProcess, report: TemplateReport) -> None:
        match report:
            case Prepared():
                self._prepared(running, report)
            case Forked():
                running.forking.discard(report.ward)
                self.wards.forked(report.ward, report.pid)
            case Worn():
                self.wards.begin(report.ward)
            case Refused():
                running.forking.discard(report.ward)
                self.wards.refuse(report.ward, report.stage, report.text)
            case _:
                assert_never(report)

    def _prepared(self, running: TemplateProcess, report: Prepared) -> None:
        running.prepared = True
        for errand in running.errands:
            self._tell(Warmed(errand, report.error))
        running.errands.clear()
        if report.error is not None:
            for ward in sorted(running.forking):
                self.wards.refuse(ward, "template", report.error)
            running.forking.clear()
            self.templates.drop(running)

    def _bury(self, running: TemplateProcess) -> None:
        # Its end of the connection may stay open for a moment, in a fork that is still young.
        self.hear(running)
        for report in self.templates.lose(running):
            self._take_in(running, report)

    def _template_pids(self) -> set[int]:
        return {running.pid for running in self.templates}

    def _tell(self, report: Report) -> None:
        # A gateway that is gone is noticed where its orders are read.
        with suppress(OSError):
            self._gateway.send(msgspec.json.encode(report))
