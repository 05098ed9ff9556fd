"""The scenes of the registry: what is timed, each in an interpreter of its own (`scene.play`).

Above: `registry` makes rows of the figures. Below: `subjects` has the loops. Agents are asyncio
tasks that all wait on one gate; they are made before anything is measured and are nobody's cost.

`frozen` calls `gc.freeze()` once the agents are there and again once the sessions are; otherwise
the collector has its default settings. Figures are nanoseconds an operation.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from bench.machine import resident_bytes
from bench.scene import Figures
from bench.subjects import SUBJECTS, BareSubject, StoreSubject, Subject, TimeoutSubject

TURNS = 3
"""How often the lookups that a plan asks for are done."""

LISTED_TENANTS = 200
"""A round of listings goes over at most this many tenants: more than any cache holds."""


def costs(*, subject: str, sessions: int, tenants: int, frozen: bool, lookups: int) -> Figures:
    """Time create, get, list and delete of one subject, beside a bare dict of the same keys."""
    passes = max(1, lookups // sessions)
    return asyncio.run(_costs(SUBJECTS[subject](), sessions, tenants, frozen, passes))


async def _costs(
    subject: Subject, sessions: int, tenants: int, frozen: bool, passes: int
) -> Figures:
    ids = [f"session-{i}" for i in range(sessions)]
    agents = await waiting_tasks(sessions, _gate())
    _settle(frozen)
    resident = resident_bytes()
    figures: Figures = {
        "create_ns": _ns_each(lambda: subject.create_all(ids, agents, tenants=tenants), sessions)
    }
    figures["resident_bytes"] = _growth_each(resident, sessions)
    _settle(frozen)
    bare = BareSubject()
    filling = _ns_each(lambda: bare.create_all(ids, agents, tenants=tenants), sessions)
    figures["bare_create_ns"] = filling
    figures |= _lookups(subject, bare, ids, passes) | _listings(subject, tenants)
    if isinstance(subject, TimeoutSubject):
        figures["sweep_ns"] = min(_ns(subject.sessions.sweep) for _ in range(3))
    half = ids[: sessions // 2]
    figures["delete_ns"] = _ns_each(lambda: subject.delete_all(half), len(half))
    figures["bare_delete_ns"] = _ns_each(lambda: bare.delete_all(half), len(half))
    return figures


def _lookups(subject: Subject, bare: BareSubject, ids: list[str], passes: int) -> Figures:
    shuffled = random.Random(2026).sample(ids, len(ids))
    figures: Figures = {}
    for order, keys in (("in_order", ids), ("random", shuffled)):
        ours, limit = _alternately(subject, bare, keys, passes)
        figures |= {f"get_{order}_ns": ours, f"bare_get_{order}_ns": limit}
    return figures


def _alternately(
    subject: Subject, bare: BareSubject, keys: list[str], passes: int
) -> tuple[float, float]:
    """Take turns pass by pass: a disturbance hits both, and both find the other's in the caches."""
    ours, limit = [], []
    for _ in range(TURNS * passes):
        limit.append(_ns_each(lambda: bare.get_all(keys), len(keys)))
        ours.append(_ns_each(lambda: subject.get_all(keys), len(keys)))
    return min(ours), min(limit)


def _listings(subject: Subject, tenants: int) -> Figures:
    """List one tenant over and over, as the baseline does, and then all tenants in turn.

    The second finds the entries in no cache, and so shows what the other sessions cost.
    """
    one = [f"tenant-{min(7, tenants - 1)}"]
    if not subject.list_each(one):
        return {}
    repeats = 20 if isinstance(subject, StoreSubject) else 3
    every = [f"tenant-{i}" for i in range(min(tenants, LISTED_TENANTS))]
    figures: Figures = {"list_ns": min(_ns(lambda: subject.list_each(one)) for _ in range(repeats))}
    if isinstance(subject, StoreSubject):
        listed = subject.list_each(every)
        figures["list_cold_ns"] = min(
            _ns_each(lambda: subject.list_each(every), listed) for _ in range(3)
        )
    return figures


def memory(*, subject: str, sessions: int, tenants: int) -> Figures:
    """Trace what creating the sessions allocates and keeps, in bytes a session."""
    return asyncio.run(_memory(SUBJECTS[subject](), sessions, tenants))


async def _memory(subject: Subject, sessions: int, tenants: int) -> Figures:
    ids = [f"session-{i}" for i in range(sessions)]
    agents = await waiting_tasks(sessions, _gate())
    gc.collect()
    gc.disable()  # nothing is timed here, and looking through what is traced takes long
    # Only what is allocated from here on is traced: the agents and their ids are not in it.
    tracemalloc.start()
    subject.create_all(ids, agents, tenants=tenants)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"memory_bytes": kept / sessions}


def exits(*, sessions: int, tenants: int, frozen: bool, repeats: int) -> Figures:
    """Time so many tasks that end at once, with a bare callback each and with a session each."""
    return asyncio.run(_exits(sessions, tenants, frozen, repeats))


async def _exits(sessions: int, tenants: int, frozen: bool, repeats: int) -> Figures:
    bare, stored = [], []
    for _ in range(repeats):
        bare.append(await _bare_exits(sessions, frozen))
        stored.append(await _stored_exits(sessions, tenants, frozen))
    return {"bare_exit_ns": min(bare), "stored_exit_ns": min(stored)}


async def _bare_exits(sessions: int, frozen: bool) -> float:
    gate, last = _gate(), asyncio.Event()
    agents = await waiting_tasks(sessions, gate)
    for agent in agents:
        agent.add_done_callback(_bare_callback)
    agents[-1].add_done_callback(lambda _: last.set())
    _settle(frozen)
    return await _until(lambda: last.is_set(), gate) / sessions


async def _stored_exits(sessions: int, tenants: int, frozen: bool) -> float:
    gate, subject = _gate(), StoreSubject()
    with subject.store as store:
        agents = await waiting_tasks(sessions, gate)
        ids = [f"session-{i}" for i in range(sessions)]
        subject.create_all(ids, agents, tenants=tenants)
        _settle(frozen)
        return await _until(lambda: not store.count(), gate) / sessions


async def _until(gone: Callable[[], bool], gate: asyncio.Future[None]) -> float:
    start = perf_counter_ns()
    gate.set_result(None)
    while not gone():
        await asyncio.sleep(0)
    return perf_counter_ns() - start


def _bare_callback(_: asyncio.Task[None]) -> None:
    """Do nothing: what any done-callback costs, and not more."""


def _gate() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def waiting_tasks(count: int, gate: asyncio.Future[None]) -> list[asyncio.Task[None]]:
    """Return so many real tasks that have begun and wait until the gate opens."""

    async def agent() -> None:
        await gate

    tasks = [asyncio.create_task(agent(), name="agent") for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def _settle(frozen: bool) -> None:
    gc.collect()
    if frozen:
        gc.freeze()


def _growth_each(before: int | None, sessions: int) -> float | None:
    after = resident_bytes()
    return None if before is None or after is None else (after - before) / sessions


def _ns(work: Callable[[], Any]) -> int:
    start = perf_counter_ns()
    work()
    return perf_counter_ns() - start


def _ns_each(work: Callable[[], Any], count: int) -> float:
    return _ns(work) / max(1, count)
