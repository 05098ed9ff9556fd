"""The scenes of agents: opening sessions with a task and with a process; many processes at once.

Above: `agents` makes rows of the figures. Below: `servers` runs the real gateway, whose keeper
forks the agents; the client is a process of its own. A cold interpreter does the same imports for
comparison.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from time import perf_counter_ns

import psutil

from bench.load import tables
from bench.scene import ROOT, Figures, environment
from bench.servers import KEY, Server, gateway
from bench.talk import END, SESSIONS, create, events, percentiles, prompt
from bench.wire import Caller, Listener, request, run

WARMING = 3
AT_A_TIME = 8
"""Sessions that are opened at the same time: what a pool of clients does."""

ASSISTANT = """
[blueprints.assistant]
kind = "process"
unused_timeout_s = 86400
"""
"""The agent that comes built in, on Pydantic AI, in a process of its own for each session."""

COLD = """
from frontdesk.agents.process.worker import prepare
prepare('{"target": "frontdesk.agents.pydantic_ai:PydanticAIProgram", "options": {}}')
"""
"""What a process of the assistant's has imported; without the rehearsal of its first turn."""


def task_sessions(*, count: int) -> Figures:
    """Open sessions whose agent is a task, one after another."""
    with gateway(tables("parrot")) as server:
        return run(_open_in_turn(server, "parrot", count, ended=False))


def process_sessions(*, count: int) -> Figures:
    """Open and end sessions whose agent is a process, one after another; two kinds of agent."""
    figures: Figures = {}
    for kind, table in (
        ("parrot", tables("parrot", isolation="process")),
        ("assistant", ASSISTANT),
    ):
        with gateway(table) as server:
            taken = run(_open_in_turn(server, kind, count, ended=True))
        figures |= {f"{kind}_{name}": figure for name, figure in taken.items()}
    return figures


async def _open_in_turn(server: Server, blueprint: str, count: int, *, ended: bool) -> Figures:
    caller, taken = await Caller.connect(server.port), []
    for number in range(count + WARMING):
        session_id = f"session-{number}"
        asked = create(session_id, blueprint, model="test")
        start = perf_counter_ns()
        await caller.call(asked, expected=201)
        if number >= WARMING:
            taken.append(perf_counter_ns() - start)
        if ended:
            await caller.call(request("DELETE", f"{SESSIONS}/{session_id}", headers=KEY))
    caller.close()
    return percentiles(taken)


def cold_interpreters(*, count: int) -> Figures:
    """Start an interpreter that does the assistant's imports, and wait for it to exit."""
    taken = []
    for number in range(count + 1):
        start = perf_counter_ns()
        subprocess.run([sys.executable, "-c", COLD], cwd=ROOT, env=environment(), check=True)
        if number:  # the first may have compiled
            taken.append(perf_counter_ns() - start)
    return {"cold_ns": statistics.median(taken)}


def at_once(*, count: int) -> Figures:
    """Open many sessions of the assistant in processes, and prompt all at once."""
    with gateway(ASSISTANT) as server:
        figures = run(_at_once(server, count))
        agents = psutil.Process(server.pid).children(recursive=True)
    figures["left"] = sum(_lives(each) for each in agents)
    return figures


async def _at_once(server: Server, count: int) -> Figures:
    callers = [await Caller.connect(server.port) for _ in range(min(AT_A_TIME, count))]
    await callers[0].call(create("warm", "assistant", model="test"), expected=201)
    before = _memory(server)
    ids = [f"session-{number}" for number in range(count)]
    start = perf_counter_ns()
    await asyncio.gather(*(_open_some(it, ids[at::AT_A_TIME]) for at, it in enumerate(callers)))
    opened = perf_counter_ns() - start
    memory = _memory(server)
    listeners = [await Listener.connect(server.port, events(each), marker=END) for each in ids]
    start = perf_counter_ns()
    await asyncio.gather(*(_prompt_some(it, ids[at::AT_A_TIME]) for at, it in enumerate(callers)))
    last = max(await asyncio.gather(*(listener.until() for listener in listeners)))
    for listener in listeners:
        listener.close()
    for caller in callers:
        caller.close()
    shared = None if memory is None or before is None else (memory - before) / count
    return {
        "open_ns": opened / count,
        "answers_ns": last - start,
        "agent_bytes": shared,
    }


async def _open_some(caller: Caller, ids: list[str]) -> None:
    for session_id in ids:
        await caller.call(create(session_id, "assistant", model="test"), expected=201)


async def _prompt_some(caller: Caller, ids: list[str]) -> None:
    for session_id in ids:
        await caller.call(prompt(session_id, "Who is in the building?"), expected=202)


def _memory(server: Server) -> int | None:
    """Return what the gateway and all its processes take, pages that they share counted once."""
    processes = [psutil.Process(server.pid)]
    processes += processes[0].children(recursive=True)
    try:
        return sum(int(each.memory_full_info().pss) for each in processes)
    except psutil.AccessDenied:
        return None


def _lives(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
