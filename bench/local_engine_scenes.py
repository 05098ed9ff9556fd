"""The scenes of the local engine: calls of a worker to its supervisor, and a worker's death.

Above: `local_engine` makes rows of the figures. Supervisors and workers are programs
(`local_engine_worker`), but for the deaths: there the scene's own interpreter is the supervisor,
since only a parent is told.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic_ns, perf_counter_ns

from bench import local_engine_worker as worker
from bench.scene import Figures
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.server import LocalServer
from frontdesk.cluster.records import IndexLimits, Selection

NOBODY = Selection(tenant_id="nobody")
NO_LIMITS = IndexLimits()
PATIENCE_S = 60.0
REST_S = 0.05
"""Before a death everything goes to sleep, as on an idle machine."""


@asynccontextmanager
async def program(role: str, path: Path, number: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program that is ready, and end it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", worker.__name__, role, str(path), str(number)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await line_of(process)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    """Return the next line that a program prints."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


# -- calls -----------------------------------------------------------------------------------------


def calls(*, rounds: int, each: int) -> Figures:
    """Time creates one after another, and all at a time, beside empty calls, in turns."""
    return asyncio.run(_calls(rounds, each))


async def _calls(rounds: int, each: int) -> Figures:
    takes: dict[str, list[float]] = {"empty_ns": [], "create_ns": [], "together_ns": []}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "engine")
        async with program("serve", path, 0), LocalEngine(path) as engine:
            for turn in range(rounds):
                # A node of each round: its lease outlasts it.
                incarnation = await worker.join(engine, f"h/{turn}")
                ids = [f"{incarnation}/s{n}" for n in range(2 * each)]
                entries = [worker.entry_of(incarnation, one) for one in ids]
                creates = [partial(engine.create, one, limits=NO_LIMITS) for one in entries]
                empty = [partial(engine.count, NOBODY)] * each
                takes["empty_ns"].append(await _in_turn(empty))
                takes["create_ns"].append(await _in_turn(creates[:each]))
                began = perf_counter_ns()
                await asyncio.gather(*(create() for create in creates[each:]))
                takes["together_ns"].append((perf_counter_ns() - began) / each)
    return {name: min(values) for name, values in takes.items()}


async def _in_turn(asked: Sequence[Callable[[], Awaitable[object]]]) -> float:
    began = perf_counter_ns()
    for call in asked:
        await call()
    return (perf_counter_ns() - began) / len(asked)


def changes(*, count: int) -> Figures:
    """Time a change on one node until another has been told of it."""
    return asyncio.run(_changes(count))


async def _changes(count: int) -> Figures:
    taken = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "engine")
        async with program("serve", path, 0), LocalEngine(path) as one, LocalEngine(path) as other:
            joined = await worker.join(one, "h/1")
            page = await other.list(Selection(), limit=1)
            after = page.revision
            for n in range(count):
                entry = worker.entry_of(joined, f"s{n}")
                told = asyncio.ensure_future(other.follow(after, era=page.era, wait_s=PATIENCE_S))
                await asyncio.sleep(0.001)
                began = perf_counter_ns()
                after = await one.create(entry, limits=NO_LIMITS)
                await told
                taken.append(perf_counter_ns() - began)
    return {"p50_ns": sorted(taken)[count // 2]}


# -- deaths ----------------------------------------------------------------------------------------


def deaths(*, kills: int, sessions: int, followers: int) -> Figures:
    """Kill a worker with many sessions; time from before that until every other one finds none of
    them, and until every other one was told how each ended.
    """
    return asyncio.run(_deaths(kills, sessions, followers))


async def _deaths(kills: int, sessions: int, followers: int) -> Figures:
    taken = [await death(sessions, followers) for _ in range(kills)]
    gone, told = (sorted(column) for column in zip(*taken, strict=True))
    return {
        "p50_ns": gone[kills // 2],
        "p99_ns": gone[kills * 99 // 100],
        "told_p50_ns": told[kills // 2],
        "told_p99_ns": told[kills * 99 // 100],
    }


async def death(sessions: int, followers: int) -> tuple[int, int]:
    """Return the nanoseconds until all were gone at the last of the other nodes, and until it was
    told of the last end.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "engine")
        async with LocalServer(path) as server, program("live", path, sessions) as victim:
            others = [program("follow", path, sessions) for _ in range(followers)]
            hearing = [await each.__aenter__() for each in others]
            await asyncio.sleep(REST_S)
            began = monotonic_ns()
            victim.kill()
            await victim.wait()
            server.process_died(victim.pid)
            gone = [int(await line_of(each)) for each in hearing]
            told = [int(await line_of(each)) for each in hearing]
            for each in others:
                await each.__aexit__(None, None, None)
    return max(gone) - began, max(told) - began


def burial(*, sessions: int) -> Figures:
    """Time calls of another worker while a node with very many sessions is buried."""
    return asyncio.run(_burial(sessions))


async def _burial(sessions: int) -> Figures:
    taken: list[int] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "engine")
        async with (
            LocalServer(path) as server,
            program("live", path, sessions) as victim,
            LocalEngine(path) as engine,
        ):
            victim.kill()
            await victim.wait()
            server.process_died(victim.pid)
            while not taken or await engine.count(Selection()):
                began = perf_counter_ns()
                await engine.count(NOBODY)
                taken.append(perf_counter_ns() - began)
    return {"p99_ns": sorted(taken)[len(taken) * 99 // 100], "calls": len(taken)}
