"""Death of an operating-system process: how long until a watch delivers its `ended` change.

Beside `registry`. Real processes (`sleep`), killed with SIGKILL; the clock starts before the kill,
so the kernel's own work at the death is part of every figure. The scenes run in an interpreter of
their own (`scene.play`) and reap what they started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from time import perf_counter_ns

from bench.machine import room_for_descriptors
from bench.plan import Plan
from bench.scene import Figures, controls_of, play
from bench.table import Bound, Row, Section
from frontdesk import Change, ProcessRef, SessionStore, Watch

LONGEST_S = 60
"""No change takes this long: the scene fails instead of waiting for ever."""

POLL = "a bare poll of one pidfd"
"""The limit: what the kernel takes to end a process and to wake whoever waits for that."""

MEDIAN_NS = 250_000

REST_S = 0.002
"""Between two deaths everything goes to sleep, as on an idle machine."""

SETTLE_S = 0.5
"""After the start of thousands of processes the kernel has work left; idle is what is measured."""


def measure(plan: Plan) -> Section:
    """Measure single deaths on an idle store and among a crowd, and the death of the crowd."""
    idle = play(deaths, count=plan.deaths)
    bare = play(bare_deaths, count=plan.deaths)
    crowd = play(crowd_of, count=plan.crowd, singly=plan.crowd_deaths)
    watched = int(crowd["watched"])
    among = f"death of one of {watched:,} processes to its ended change"
    rows = (
        Row(
            "death of a process to its ended change, median",
            idle["p50_ns"],
            bare["p50_ns"],
            POLL,
            Bound("within", MEDIAN_NS),
        ),
        Row(
            "death of a process to its ended change, 99th percentile",
            idle["p99_ns"],
            bare["p99_ns"],
            POLL,
        ),
        Row(f"{among}, median", crowd["p50_ns"], bare["p50_ns"], POLL, Bound("within", MEDIAN_NS)),
        Row(f"{among}, 99th percentile", crowd["p99_ns"], bare["p99_ns"], POLL),
        Row(f"death of {int(crowd['at_once']):,} processes at once, each", crowd["each_ns"]),
    )
    return Section("processes", rows, (), _notes(plan, crowd), controls_of([idle, bare, crowd]))


def _notes(plan: Plan, crowd: Figures) -> tuple[str, ...]:
    watched, threads = int(crowd["watched"]), int(crowd["threads"])
    notes = [
        f"Deaths of processes: from before the kill to the change in the hands of a thread that "
        f"waits in `watch.next()`; {plan.deaths} and {plan.crowd_deaths} kills, "
        f"{REST_S * 1000:g} ms apart.",
        f"{watched:,} processes were watched by {threads} thread{'' if threads == 1 else 's'}.",
    ]
    if watched < plan.crowd:
        notes.append(f"Not {plan.crowd:,}: the limit of open descriptors allows {watched:,} here.")
    return tuple(notes)


def deaths(*, count: int) -> Figures:
    """Start, register and kill one process after another."""
    with SessionStore() as store, store.watch() as watch:
        taken = []
        for i in range(count):
            with sleepers(1) as pids:
                store.create(f"session-{i}", ProcessRef.of(pids[0]))
                taken.append(_death_ns(watch, f"session-{i}", pids[0]))
    return _percentiles(taken)


def bare_deaths(*, count: int) -> Figures:
    """Kill one process after another and wait for each with nothing but its pidfd."""
    taken = []
    for _ in range(count):
        with sleepers(1) as pids:
            taken.append(_bare_death_ns(pids[0]))
    return _percentiles(taken)


def crowd_of(*, count: int, singly: int) -> Figures:
    """Register a crowd, kill some of it one by one and the rest at once."""
    count = min(count, room_for_descriptors(count))
    before = threading.active_count()
    with sleepers(count) as pids, SessionStore(feed_capacity=4 * count) as store:
        for pid in pids:
            store.create(f"session-{pid}", ProcessRef.of(pid))
        threads = threading.active_count() - before
        time.sleep(SETTLE_S)
        with store.watch() as watch:
            taken = [_death_ns(watch, f"session-{pid}", pid) for pid in pids[:singly]]
            rest = pids[singly:]
            each_ns = _deaths_at_once_ns(watch, rest) / max(1, len(rest))
    figures = {"watched": count, "threads": threads, "at_once": len(rest), "each_ns": each_ns}
    return figures | _percentiles(taken)


def _death_ns(watch: Watch, session_id: str, pid: int) -> int:
    time.sleep(REST_S)
    start = perf_counter_ns()
    os.kill(pid, signal.SIGKILL)
    _until_ended(watch, {session_id})
    return perf_counter_ns() - start


def _bare_death_ns(pid: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        time.sleep(REST_S)
        start = perf_counter_ns()
        os.kill(pid, signal.SIGKILL)
        if not poll.poll(LONGEST_S * 1000):
            raise TimeoutError(f"process {pid} outlived SIGKILL")
        return perf_counter_ns() - start
    finally:
        os.close(pidfd)


def _deaths_at_once_ns(watch: Watch, pids: list[int]) -> int:
    start = perf_counter_ns()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    _until_ended(watch, {f"session-{pid}" for pid in pids})
    return perf_counter_ns() - start


def _until_ended(watch: Watch, awaited: set[str]) -> None:
    while awaited:
        item = watch.next(timeout_s=LONGEST_S)
        if isinstance(item, Change) and item.kind == "ended":
            awaited.discard(item.session.session_id)


def _percentiles(taken: list[int]) -> Figures:
    ordered = sorted(taken)
    return {"p50_ns": statistics.median(ordered), "p99_ns": ordered[len(ordered) * 99 // 100]}


@contextlib.contextmanager
def sleepers(count: int) -> Iterator[list[int]]:
    """Start so many processes that sleep, and leave none of them behind."""
    pids: list[int] = []
    try:
        # Extended from a generator, so that a failure in the middle still ends the first ones.
        pids.extend(os.posix_spawnp("sleep", ["sleep", "600"], os.environ) for _ in range(count))
        yield pids
    finally:
        for pid in pids:
            _end(pid)


def _end(pid: int) -> None:
    # Not reaped yet, so the number is still this child's, dead or alive.
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
