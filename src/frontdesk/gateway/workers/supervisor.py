"""The supervisor: the parent of all workers, which runs no gateway and no agent.

It starts one process for each number, hears from the kernel when one has died and starts another in
its place; when too many die, it ends the service and says why. Signals come to it, and orders go
from it to the workers. In a rolling restart each worker's successor is there, has read everything
and waits for the lock, before the worker drains.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from frontdesk.gateway.log_events import LogEvent
from frontdesk.gateway.notify_socket import NotifySocket
from frontdesk.gateway.watchdog import LOOKS
from frontdesk.gateway.workers.channel import Order, Report, WorkerChannel
from frontdesk.gateway.workers.child_processes import ChildProcesses
from frontdesk.gateway.workers.death_limit import MAX_DEATHS, WITHIN_S, DeathLimit

START_S = 120.0
"""For a worker's successor to be ready; then a rolling restart is given up."""
ENDED, FAILED, WRONG_USE, NO_ENGINE = 0, 1, 2, 5
"""Exit codes of the service: as it was told; too many deaths; it could not start; nor now."""

logger: logging.Logger = logging.getLogger("frontdesk.workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the supervisor supervises, and what it asks of whoever runs it.

    Attributes:
        workers (int): How many.
        spawn (Callable): Starts the process of a worker of this number, which is told whether it
            takes the place of another; returns its id and the channel to it. Its end is told to
            the function that it is given.
        check (Callable): Says what is wrong with the configuration as it is now, None if nothing.
        on_death (Callable): Told the process id of each worker that has ended.
        on_crash (Callable): Told the number of each that nobody had told to, before another one
            is started in its place.
        on_serving (Callable): Called once, when all of them serve.
        drain_s (Callable): How long a worker that drains may take, as configured now.
        notify (NotifySocket): Who is told how the service does.
    """

    workers: int
    spawn: Callable[[int, Callable[[int], None]], tuple[int, WorkerChannel]]
    check: Callable[[], asyncio.Future[str | None]]
    on_death: Callable[[int], None]
    on_crash: Callable[[int], None]
    on_serving: Callable[[], None]
    drain_s: Callable[[], float]
    notify: NotifySocket = field(default_factory=lambda: NotifySocket(None))


class Stage(Enum):
    """How far a worker is."""

    STARTING = "starting"
    WAITING = "waiting"
    SERVING = "serving"
    DRAINING = "draining"
    ENDED = "ended"


@dataclass(eq=False, slots=True)
class WorkerProcess:
    """One process of a worker."""

    number: int
    pid: int
    channel: WorkerChannel
    stage: Stage = Stage.STARTING
    code: int | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    alive_s: float = 0.0
    """When it last said that it moves, or began to serve."""

    def move(self, stage: Stage) -> None:
        """Take note of how far it is, and wake who waits for that."""
        self.stage = stage
        self.changed.set()
        self.changed = asyncio.Event()

    async def reached(self, *stages: Stage, within_s: float) -> bool:
        """Wait until it is at one of these, or has ended; False where it is not in time."""

        async def follow() -> None:
            while self.stage not in (*stages, Stage.ENDED):
                await self.changed.wait()

        try:
            await asyncio.wait_for(follow(), within_s)
        except TimeoutError:
            return False
        return self.stage in stages


class ServiceSupervisor:
    """Supervise the workers of a service; `run` returns its exit code. On one event loop."""

    def __init__(self, service: Service, *, children: ChildProcesses) -> None:
        self._service, self._children = service, children
        self._workers: dict[int, WorkerProcess] = {}
        self._successors: dict[int, WorkerProcess] = {}
        self._deaths = DeathLimit()
        self._served = False
        self._code: int | None = None
        self._all_ended = asyncio.Event()
        self._wanted: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._changing: asyncio.Task[None] | None = None
        self._killing: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None

    async def run(self) -> int:
        """Start the workers, and supervise them until the service ends."""
        with self._children.followed():
            self._watch_workers()
            for number in range(1, self._service.workers + 1):
                self._workers[number] = self._start(number)
            await self._all_ended.wait()
        for timer in (self._killing, self._watching):
            if timer is not None:
                timer.cancel()
        if self._changing is not None:
            self._changing.cancel()
            await asyncio.wait([self._changing])
        assert self._code is not None
        return self._code

    # -- what it is told -------------------------------------------------------------------------

    @property
    def ending(self) -> bool:
        """Whether the service ends."""
        return self._code is not None

    def end(self, code: int = ENDED) -> None:
        """Have all workers drain, within one grace, and end."""
        if self.ending:
            return
        self._code = code
        self._service.notify.stopping(within_s=self._service.drain_s())
        if self._changing is not None:
            self._changing.cancel()
        for successor in self._successors.values():
            self._children.kill(successor.pid)
        for worker in self._workers.values():
            self._drain(worker)
        loop = asyncio.get_running_loop()
        self._killing = loop.call_later(self._service.drain_s(), self._children.kill_all)
        self._end_if_nobody_is_left()

    def reload(self) -> None:
        """Have all workers follow the configuration, if nothing is wrong with it."""
        if not self.ending:
            self._service.notify.reloading()
        self._change(self._reload)

    def restart(self) -> None:
        """Replace one worker after the other, if nothing is wrong with the configuration."""
        self._change(self._restart)

    # -- the workers -----------------------------------------------------------------------------

    def _start(self, number: int) -> WorkerProcess:
        worker: WorkerProcess

        def exited(code: int) -> None:
            self._exited(worker, code)

        pid, channel = self._service.spawn(number, exited)
        worker = WorkerProcess(number, pid, channel)
        asyncio.get_running_loop().add_reader(channel, self._listen, worker)
        return worker

    def _listen(self, worker: WorkerProcess) -> None:
        for report in worker.channel.reports():
            worker.alive_s = time.monotonic()
            if report is Report.ALIVE:
                continue
            worker.move({Report.WAITING: Stage.WAITING, Report.SERVING: Stage.SERVING}[report])
            if report is Report.SERVING:
                logger.info(
                    "worker %d serves, as process %d",
                    worker.number,
                    worker.pid,
                    extra=_changed(worker, "serves"),
                )
            if report is Report.SERVING and self.ending:
                self._drain(worker)
            elif not self._served and self.all_serve:
                self._served = True
                self._service.on_serving()
        if worker.channel.closed:
            # That it has ended is told by the kernel; nothing more is read here.
            asyncio.get_running_loop().remove_reader(worker.channel)

    def _watch_workers(self) -> None:
        """Tell that this loop moves, and kill each worker that has not told so of its own."""
        if (within_s := self._service.notify.watchdog_s) is None:
            return
        self._service.notify.alive()
        for worker in self._workers.values():
            silent_s = time.monotonic() - worker.alive_s
            if worker.stage is Stage.SERVING and silent_s > within_s:
                logger.error(
                    "worker %d (process %d) has not moved for %.0f s: it is killed",
                    worker.number,
                    worker.pid,
                    silent_s,
                )
                self._children.kill(worker.pid)
        loop = asyncio.get_running_loop()
        self._watching = loop.call_later(within_s / LOOKS, self._watch_workers)

    @property
    def all_serve(self) -> bool:
        """Whether every worker serves."""
        return all(each.stage is Stage.SERVING for each in self._workers.values())

    def _drain(self, worker: WorkerProcess) -> None:
        if worker.stage is Stage.SERVING:
            worker.move(Stage.DRAINING)
        worker.channel.send(Order.DRAIN)

    def _exited(self, worker: WorkerProcess, code: int) -> None:
        asyncio.get_running_loop().remove_reader(worker.channel)
        worker.channel.close()
        drained, was = worker.stage is Stage.DRAINING, worker.stage
        worker.code = code
        self._service.on_death(worker.pid)
        successor = self._successors.pop(worker.number, None)
        worker.move(Stage.ENDED)
        if successor is not None and successor is not worker:
            self._workers[worker.number] = successor  # it has the lock by now
        elif successor is None:
            del self._workers[worker.number]
        if self.ending:
            self._end_if_nobody_is_left()
        elif successor is worker:
            return  # whoever restarts sees it, and the worker that it was to replace goes on
        elif code == 0 or drained:
            self._replace(worker)
        else:
            self._died(worker, was)

    def _died(self, worker: WorkerProcess, was: Stage) -> None:
        how = f"ended with code {worker.code}"
        if worker.code is not None and worker.code < 0:
            how = f"was ended by {signal.Signals(-worker.code).name}"
        logger.error(
            "worker %d (process %d) %s",
            worker.number,
            worker.pid,
            how,
            extra=_changed(worker, "died"),
        )
        never = not self._served and was is not Stage.SERVING
        if never and worker.code is not None and worker.code in (WRONG_USE, NO_ENGINE):
            # It has said why, and would say so again.
            self.end(worker.code)
        elif self._deaths.add(time.monotonic()):
            logger.error(
                "%d deaths of workers in %g s: the service ends; why they died is told above",
                MAX_DEATHS,
                WITHIN_S,
            )
            self.end(FAILED)
        else:
            self._replace(worker)

    def _replace(self, worker: WorkerProcess) -> None:
        if worker.number not in self._workers:
            self._service.on_crash(worker.number)
            self._workers[worker.number] = self._start(worker.number)

    def _end_if_nobody_is_left(self) -> None:
        if not self._workers and not self._successors:
            self._all_ended.set()

    # -- changes of all --------------------------------------------------------------------------

    def _change(self, change: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if change not in self._wanted:
            self._wanted.append(change)
        if self._changing is None or self._changing.done():
            self._changing = asyncio.create_task(self._make_changes())

    async def _make_changes(self) -> None:
        while self._wanted and not self.ending:
            await self._wanted.pop(0)()

    async def _reload(self) -> None:
        status = "not reloaded, as the log says; all stays as it was"
        if await self._nothing_is_wrong("not reloaded, all stays as it was"):
            for worker in self._workers.values():
                worker.channel.send(Order.RELOAD)
            status = "reloaded"
        self._service.notify.ready(status)

    async def _restart(self) -> None:
        if not await self._nothing_is_wrong("not restarted, all stays as it was"):
            return
        logger.info("restarting the workers, one after the other")
        for number in range(1, self._service.workers + 1):
            if not await self._restart_one(number):
                logger.error("the restart goes no further: worker %d did not come up", number)
                return
        logger.info("all workers are restarted")

    async def _restart_one(self, number: int) -> bool:
        successor = self._successors[number] = self._start(number)
        if not await successor.reached(Stage.WAITING, Stage.SERVING, within_s=START_S):
            self._children.kill(successor.pid)
            return False
        worker = self._workers.get(number, successor)
        if worker is not successor:
            self._drain(worker)
            if not await worker.reached(Stage.ENDED, within_s=self._service.drain_s()):
                self._children.kill(worker.pid)
        return await successor.reached(Stage.SERVING, within_s=START_S)

    async def _nothing_is_wrong(self, otherwise: str) -> bool:
        problem = await self._service.check()
        if problem is not None:
            logger.error("%s: %s", otherwise, problem)
        return problem is None


def _changed(worker: WorkerProcess, state: str) -> dict[str, object]:
    """Return what the log says of a worker, beside the words."""
    event = LogEvent.WORKER_CHANGED.value
    return {"event": event, "worker": worker.number, "pid": worker.pid, "state": state}
