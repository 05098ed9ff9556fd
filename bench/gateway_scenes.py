"""The scenes of the gateway: what a client sees of it, from a process of its own (`scene.play`).

Above: `gateway` makes rows of the figures. Below: `servers` runs the real gateway and the bare
server, `talk` and `wire` are the client, `load` has the agents. Where two servers are compared,
both run, the client asks them in turn, and figures are medians of the rounds. `crowd_scene` is
beside it.
"""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter_ns

from bench.load import WORK_S, tables
from bench.scene import Figures
from bench.servers import KEY, Server, gateway, serving
from bench.talk import (
    END,
    SAID,
    SESSIONS,
    all_of,
    close_all,
    deltas,
    events,
    listen_all,
    open_sessions,
    percentiles,
    prompt,
)
from bench.wire import Caller, Listener, Load, request, run

BARE = "bench.bare_server"
WARMING = 50
"""Prompts that are not measured: what is put off until the first is over."""


# -- one GET -------------------------------------------------------------------------------------


def gets(*, rounds: int, seconds: float, connections: int) -> Figures:
    """Ask for one session without pause, the gateway and the bare route in turn."""
    with gateway(tables("parrot")) as ours, serving(BARE) as bare:
        return run(_gets(ours, bare, rounds, seconds, connections))


async def _gets(
    ours: Server, bare: Server, rounds: int, seconds: float, connections: int
) -> Figures:
    await open_sessions(ours, ["one"], "parrot")
    asked = request("GET", f"{SESSIONS}/one", headers=KEY)
    loads = {
        name: (server, await Load.connect(server.port, asked, connections=connections))
        for name, server in (("ours", ours), ("bare", bare))
    }
    taken: dict[str, list[float]] = {}
    answers, spent_s = dict.fromkeys(loads, 0), dict.fromkeys(loads, 0.0)
    for turn in range(rounds + 1):
        for name, (server, load) in loads.items():
            before = server.cpu_s
            count, lasted_s = await load.run(seconds)
            if turn:
                taken.setdefault(f"{name}_ns", []).append(1e9 * lasted_s / count)
                answers[name] += count
                spent_s[name] += server.cpu_s - before
    # The system counts processor time in ticks: too coarse for a round, fine enough for their sum.
    spent = {f"{name}_cpu_ns": 1e9 * spent_s[name] / answers[name] for name in loads}
    return _medians(taken) | spent


# -- events to many streams ----------------------------------------------------------------------


def fan_out(*, rounds: int, streams: int, events: int, paced: int) -> Figures:
    """Send many events to many streams as fast as they go, and few of them one by one."""
    with gateway(tables("flood", "pace")) as ours, serving(BARE) as bare:
        figures = run(_fan_out(ours, bare, rounds, streams, events, "flood", "events"))
        slow = run(_fan_out(ours, bare, rounds, streams, paced, "pace", "paced"))
    return figures | {f"paced_{name}": figure for name, figure in slow.items()}


async def _fan_out(
    ours: Server, bare: Server, rounds: int, streams: int, count: int, agent: str, what: str
) -> Figures:
    await open_sessions(ours, [agent], agent)
    sides = {
        "ours": (ours, events(agent, types="message_delta"), prompt(agent, str(count)), 202),
        "bare": (
            bare,
            request("GET", f"/stream?{what}={count}"),
            request("GET", f"/go?{what}={count}"),
            200,
        ),
    }
    listening = {
        name: await listen_all(server, [asked] * streams, marker=b"data: ")
        for name, (server, asked, _, _) in sides.items()
    }
    callers = {name: await Caller.connect(server.port) for name, (server, *_) in sides.items()}
    taken: dict[str, list[float]] = {}
    sent = count * streams
    for turn in range(rounds + 1):
        for name, (server, _, go, status) in sides.items():
            for listener in listening[name]:
                listener.forget()
            before, start = server.cpu_s, perf_counter_ns()
            await callers[name].call(go, expected=status)
            last = max(await all_of(listening[name], lambda it: it.until(count)))
            if turn:
                taken.setdefault(f"{name}_ns", []).append((last - start) / sent)
                spent = 1e9 * (server.cpu_s - before) / sent
                taken.setdefault(f"{name}_cpu_ns", []).append(spent)
    close_all(*listening["ours"], *listening["bare"], *callers.values())
    return _medians(taken)


# -- a prompt and its first event ----------------------------------------------------------------


def first_events(*, prompts: int) -> Figures:
    """Post a prompt into an open stream and read what the agent says first.

    In between a bare route is asked once, in the same rhythm: a machine takes its time to wake.
    """
    with gateway(tables("worker")) as server, serving(BARE) as bare:
        return run(_first_events(server, bare, prompts))


async def _first_events(server: Server, bare: Server, prompts: int) -> Figures:
    await open_sessions(server, ["one"], "worker")
    caller = await Caller.connect(server.port)
    listener = await Listener.connect(server.port, events("one"), marker=SAID)
    bare_caller, asked = await Caller.connect(bare.port), request("GET", f"{SESSIONS}/one")
    over, gets = list[int](), list[int]()
    for turn in range(prompts + WARMING):
        listener.forget()
        listener.follow(SAID)
        start = perf_counter_ns()
        asking = asyncio.ensure_future(caller.call(prompt("one", "work"), expected=202))
        first = await listener.until()
        await asking
        if turn >= WARMING:
            own = int(deltas(listener.kept)[0])
            over.append(first - start - own)
        listener.follow(END)
        await listener.until()
        await asyncio.sleep(WORK_S)
        start = perf_counter_ns()
        await bare_caller.call(asked)
        gets.append(perf_counter_ns() - start)
    close_all(caller, bare_caller, listener)
    return percentiles(over) | {"bare_p50_ns": statistics.median(gets)}


def _medians(taken: dict[str, list[float]]) -> Figures:
    return {name: statistics.median(figures) for name, figures in taken.items()}
