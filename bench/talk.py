"""Talking to the gateway: its requests, what its streams say, and many of both at a time.

Below the scenes of `gateway`, `agents` and `others`, above `wire` and `servers`.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
from collections.abc import Awaitable, Callable
from typing import Any

from bench.scene import Figures
from bench.servers import KEY, Server
from bench.wire import Caller, Listener, request

SESSIONS = "/v1/sessions"
END = b"event: agent_end"
SAID = b"event: message_delta"
DELTA = re.compile(rb"event: message_delta\ndata: (\{[^\n]*\})\n")

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


async def open_sessions(server: Server, ids: list[str], blueprint: str) -> None:
    """Open so many sessions, one after another."""
    caller = await Caller.connect(server.port)
    for session_id in ids:
        await caller.call(create(session_id, blueprint), expected=201)
    caller.close()


async def listen_all(
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
        await all_of(opened, lambda listener: listener.until())
        listeners += opened
    for listener in listeners:
        listener.follow(marker)
    return listeners


async def all_of(
    listeners: list[Listener], wait: Callable[[Listener], Awaitable[int]]
) -> list[int]:
    """Wait for each; return when."""
    return list(await asyncio.gather(*(wait(each) for each in listeners)))


def percentiles(taken: list[int]) -> Figures:
    """Return the median, the 99th percentile and the greatest."""
    ordered = sorted(taken)
    return {
        "p50_ns": statistics.median(ordered),
        "p99_ns": ordered[len(ordered) * 99 // 100],
        "max_ns": ordered[-1],
    }


def close_all(*connections: Any) -> None:
    """Hang up on each."""
    for connection in connections:
        connection.close()
