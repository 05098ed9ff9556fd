"""The scene of many sessions and many streams in one gateway: held, prompted, and left.

Beside `gateway_scenes`, which `gateway` plays as well; above `talk`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from time import perf_counter_ns

from bench.load import tables
from bench.machine import room_for_descriptors
from bench.scene import Figures
from bench.servers import KEY, Server, gateway, serving
from bench.talk import (
    END,
    SESSIONS,
    close_all,
    deltas,
    events,
    listen_all,
    open_sessions,
    percentiles,
    prompt,
)
from bench.wire import Caller, Listener, request, run

BARE = "bench.bare_server"
WARMING = 50
"""Sessions and streams that are not measured: what is put off until the first is over."""


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
    await open_sessions(server, ids, "parrot")
    opened = await census.take()
    listeners = await listen_all(server, [events(each) for each in ids], marker=END)
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
    close_all(*listeners)
    figures["bare_stream_bytes"] = await _bare_stream_bytes(bare, held)
    return figures


class Census:
    """Asks an agent in the gateway's process how many tasks there are, itself included."""

    def __init__(self, server: Server, caller: Caller, listener: Listener) -> None:
        self._server, self._caller, self._listener = server, caller, listener

    @classmethod
    async def open(cls, server: Server) -> Census:
        """Open its session and stream."""
        await open_sessions(server, ["census"], "census")
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
    close_all(*callers)
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
    close_all(*await listen_all(bare, [asked] * WARMING))
    before = bare.resident_bytes
    listeners = await listen_all(bare, [asked] * held)
    after = bare.resident_bytes
    close_all(*listeners)
    return (after - before) / held


async def _warm(server: Server) -> None:
    ids = [f"warm-{number}" for number in range(WARMING)]
    await open_sessions(server, ids, "parrot")
    close_all(*await listen_all(server, [events(each) for each in ids]))
    caller = await Caller.connect(server.port)
    for session_id in ids:
        await caller.call(request("DELETE", f"{SESSIONS}/{session_id}", headers=KEY))
    caller.close()
