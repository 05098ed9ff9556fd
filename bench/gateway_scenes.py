"""The scenes of the gateway: what a client sees of it, from a process of its own (`scene.play`).

Above: `gateway` makes rows of the figures. Below: `servers` runs the real gateway and the bare
server, `wire` is the client, `load` has the agents. Where two servers are compared, both run, the
client asks them in turn, and figures are medians of the rounds.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any

from bench.load import WORK_S, tables
from bench.machine import room_for_descriptors
from bench.scene import Figures
from bench.servers import KEY, Server, gateway, serving
from bench.wire import Caller, Listener, Load, request, run

SESSIONS = "/v1/sessions"
END = b"event: agent_end"
SAID = b"event: message_delta"
DELTA = re.compile(rb"event: message_delta\ndata: (\{[^\n]*\})\n")
BARE = "bench.bare_server"

WARMING = 50
"""Requests, sessions and streams that are not measured: what is put off until the first is over."""

CONNECTING = 50
"""Connections that are opened at a time: fewer than the listener has room for."""


def create(session_id: str, blueprint: str, *, model: str = "none") -> bytes:
    """Return the request that opens a session."""
    body = {"sessionId": session_id, "model": model, "blueprint": blueprint}
    return request("POST", SESSIONS, headers=KEY, content=body)


def prompt(session_id: str, text: str) -> bytes:
    """Return the request that posts a prompt."""
    path = f"{SESSIONS}/{session_id}/prompt"
    return request("POST", path, headers=KEY, content={"text": text})


def events(session_id: str, *, types: str = "") -> bytes:
    """Return the request that opens a session's stream."""
    query = f"?types={types}" if types else ""
    return request("GET", f"{SESSIONS}/{session_id}/events{query}", headers=KEY)


def deltas(data: bytes) -> list[str]:
    """Return what an agent has said in a stream."""
    return [json.loads(each)["delta"] for each in DELTA.findall(data)]


# -- one GET -------------------------------------------------------------------------------------


def gets(*, rounds: int, seconds: float, connections: int) -> Figures:
    """Ask for one session without pause, the gateway and the bare route in turn."""
    with gateway(tables("parrot")) as ours, serving(BARE) as bare:
        return run(_gets(ours, bare, rounds, seconds, connections))


async def _gets(
    ours: Server, bare: Server, rounds: int, seconds: float, connections: int
) -> Figures:
    await _open_sessions(ours, ["one"], "parrot")
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
    await _open_sessions(ours, [agent], agent)
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
        name: await _listen_all(server, [asked] * streams, marker=b"data: ")
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
            last = max(await _all(listening[name], lambda it: it.until(count)))
            if turn:
                taken.setdefault(f"{name}_ns", []).append((last - start) / sent)
                spent = 1e9 * (server.cpu_s - before) / sent
                taken.setdefault(f"{name}_cpu_ns", []).append(spent)
    _close(*listening["ours"], *listening["bare"], *callers.values())
    return _medians(taken)


# -- a prompt and its first event ----------------------------------------------------------------


def first_events(*, prompts: int) -> Figures:
    """Post a prompt into an open stream and read what the agent says first.

    In between a bare route is asked once, in the same rhythm: a machine takes its time to wake.
    """
    with gateway(tables("worker")) as server, serving(BARE) as bare:
        return run(_first_events(server, bare, prompts))


async def _first_events(server: Server, bare: Server, prompts: int) -> Figures:
    await _open_sessions(server, ["one"], "worker")
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
    _close(caller, bare_caller, listener)
    return percentiles(over) | {"bare_p50_ns": statistics.median(gets)}


# -- many sessions and many streams --------------------------------------------------------------


def crowd(*, held: int, seconds: int, prompted_each: int, leaves: int) -> Figures:
    """Hold many idle sessions and streams; prompt some of them each second; let some leave."""
    # A descriptor for each stream on this side, and one on the server's.
    held = min(held, room_for_descriptors(held))
    with gateway(tables("parrot", "census")) as server, serving(BARE) as bare:
        return run(_crowd(server, bare, held, seconds, prompted_each, leaves))


async def _crowd(
    server: Server, bare: Server, held: int, seconds: int, prompted_each: int, leaves: int
) -> Figures:
    census = await Census.open(server)
    await _warm(server)
    before = await census.take()
    ids = [f"session-{number}" for number in range(held)]
    await _open_sessions(server, ids, "parrot")
    opened = await census.take()
    listeners = await _listen_all(server, [events(each) for each in ids], marker=END)
    listening = await census.take()
    figures: Figures = {
        "held": held,
        "session_bytes": (opened["resident"] - before["resident"]) / held,
        "session_tasks": (opened["tasks"] - before["tasks"]) / held,
        "stream_bytes": (listening["resident"] - opened["resident"]) / held,
        "stream_tasks": (listening["tasks"] - opened["tasks"]) / held,
    }
    figures |= await _prompt_some(server, ids, listeners, seconds, prompted_each)
    figures["streams_left"] = sum(not each.lost for each in listeners)
    figures |= await _leave(census, listeners, leaves)
    figures["sessions_left"] = await _count_sessions(server)
    _close(*listeners)
    figures["bare_stream_bytes"] = await _bare_stream_bytes(bare, held)
    return figures


class Census:
    """Asks an agent in the gateway's process how many tasks there are, itself included."""

    def __init__(self, server: Server, caller: Caller, listener: Listener) -> None:
        self._server, self._caller, self._listener = server, caller, listener

    @classmethod
    async def open(cls, server: Server) -> Census:
        """Open its session and stream."""
        await _open_sessions(server, ["census"], "census")
        caller = await Caller.connect(server.port)
        return cls(
            server, caller, await Listener.connect(server.port, events("census"), marker=END)
        )

    async def take(self) -> dict[str, int]:
        """Count, after what is garbage was collected."""
        counted = await self._ask("settle")
        return {**counted, "resident": self._server.resident_bytes}

    async def tasks(self) -> int:
        """Count the tasks only."""
        counted = await self._ask("count")
        return counted["tasks"]

    async def _ask(self, text: str) -> dict[str, int]:
        self._listener.forget()
        await self._caller.call(prompt("census", text), expected=202)
        await self._listener.until()
        counted: dict[str, int] = json.loads(deltas(self._listener.kept)[0])
        return counted


async def _prompt_some(
    server: Server, ids: list[str], listeners: list[Listener], seconds: int, each: int
) -> Figures:
    """Prompt every so-many-th session once a second, evenly spread; read each answer whole."""
    chosen = list(zip(ids, listeners, strict=True))[::each]
    callers = [await Caller.connect(server.port) for _ in chosen]
    start = perf_counter_ns()

    async def ask(place: int) -> list[int]:
        (session_id, listener), caller, taken = chosen[place], callers[place], []
        for second in range(seconds):
            due = start + int(1e9 * (second + place / len(chosen)))
            await asyncio.sleep(max(0, due - perf_counter_ns()) / 1e9)
            listener.forget()
            await caller.call(prompt(session_id, "hello"), expected=202)
            await listener.until()
            # Counted from when it was due: a client that waits for its turn has waited.
            taken.append(perf_counter_ns() - due)
        return taken

    taken = await asyncio.gather(*(ask(place) for place in range(len(chosen))))
    _close(*callers)
    answers = percentiles([one for each_taken in taken for one in each_taken])
    return {f"answer_{name}": figure for name, figure in answers.items()} | {"asked": len(chosen)}


async def _leave(census: Census, listeners: list[Listener], leaves: int) -> Figures:
    """Hang up here, and see how long there is still a task for it there."""
    taken = []
    for listener in listeners[1 : leaves + 1]:
        before = await census.tasks()
        start = perf_counter_ns()
        listener.close()
        while await census.tasks() >= before:
            if perf_counter_ns() - start > 30e9:
                raise TimeoutError("a client that left is not noticed")
        taken.append(perf_counter_ns() - start)
    return {"leave_max_ns": max(taken), "leave_p50_ns": statistics.median(taken)}


async def _count_sessions(server: Server) -> int:
    caller = await Caller.connect(server.port)
    counted, after = 0, ""
    while True:
        query = f"?limit=1000{after}"
        page = (await caller.call(request("GET", SESSIONS + query, headers=KEY))).json()
        counted += len([each for each in page["sessions"] if each["blueprint"] == "parrot"])
        if page["next"] is None:
            caller.close()
            return counted
        after = f"&after={page['next']}"


async def _bare_stream_bytes(bare: Server, held: int) -> float:
    asked = request("GET", "/stream?events=1")
    _close(*await _listen_all(bare, [asked] * WARMING))
    before = bare.resident_bytes
    listeners = await _listen_all(bare, [asked] * held)
    after = bare.resident_bytes
    _close(*listeners)
    return (after - before) / held


# -- parts ---------------------------------------------------------------------------------------


async def _open_sessions(server: Server, ids: list[str], blueprint: str) -> None:
    caller = await Caller.connect(server.port)
    for session_id in ids:
        await caller.call(create(session_id, blueprint), expected=201)
    caller.close()


async def _listen_all(
    server: Server, requests: list[bytes], *, marker: bytes = END
) -> list[Listener]:
    """Open so many streams that count a marker, once each has its first bytes."""
    listeners: list[Listener] = []
    for start in range(0, len(requests), CONNECTING):
        some = requests[start : start + CONNECTING]
        opened = await asyncio.gather(
            *(
                Listener.connect(server.port, asked, marker=b": welcome", keeps=False)
                for asked in some
            )
        )
        await _all(opened, lambda listener: listener.until())
        listeners += opened
    for listener in listeners:
        listener.follow(marker)
    return listeners


async def _warm(server: Server) -> None:
    ids = [f"warm-{number}" for number in range(WARMING)]
    await _open_sessions(server, ids, "parrot")
    _close(*await _listen_all(server, [events(each) for each in ids]))
    caller = await Caller.connect(server.port)
    for session_id in ids:
        await caller.call(request("DELETE", f"{SESSIONS}/{session_id}", headers=KEY))
    caller.close()


async def _all(listeners: list[Listener], wait: Callable[[Listener], Awaitable[int]]) -> list[int]:
    return list(await asyncio.gather(*(wait(each) for each in listeners)))


def percentiles(taken: list[int]) -> Figures:
    """Return the median, the 99th percentile and the greatest."""
    ordered = sorted(taken)
    return {
        "p50_ns": statistics.median(ordered),
        "p99_ns": ordered[len(ordered) * 99 // 100],
        "max_ns": ordered[-1],
    }


def _medians(taken: dict[str, list[float]]) -> Figures:
    return {name: statistics.median(figures) for name, figures in taken.items()}


def _close(*connections: Any) -> None:
    for connection in connections:
        connection.close()
