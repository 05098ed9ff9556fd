"""The limits that the gateway is measured against: a bare FastAPI route and raw ASGI streams.

Runs as a server of its own, `python -m bench.bare_server PORT`, under uvicorn with the settings
that the gateway has and none of its bounds. It has no keys, limits, log or sessions.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI

from bench.load import FRAME, PACE_S

api = FastAPI()


@api.get("/v1/sessions/{session_id}")
async def get(session_id: str) -> dict[str, object]:
    """Answer what the gateway answers; typed, which FastAPI encodes fastest."""
    return {
        "sessionId": session_id,
        "state": "idle",
        "turns": 0,
        "toolCalls": 0,
        "totalTokens": 0,
        "uptimeMs": 61000,
        "model": "none",
        "blueprint": "parrot",
        "createdAt": 1795339800000,
        "tenantId": "acme",
        "restarts": 0,
    }


class Streams:
    """Raw streams: each request waits for `/go`, then sends the frames; `paced` one by one."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._next = asyncio.Event()
        self._pacing: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/go":
            await self._start(scope, send)
        elif path == "/stream":
            await self._stream(scope, send)
        else:
            await api(scope, receive, send)

    async def _start(self, scope: dict[str, Any], send: Any) -> None:
        self._go.set()
        self._go = asyncio.Event()
        if paced := _number(scope, "paced"):
            self._pacing = asyncio.create_task(self._pace(paced))
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _pace(self, events: int) -> None:
        for _ in range(events):
            await asyncio.sleep(PACE_S)
            self._next.set()
            self._next = asyncio.Event()

    async def _stream(self, scope: dict[str, Any], send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b": welcome\n\n", "more_body": True})
        paced, events = _number(scope, "paced"), _number(scope, "events")
        while True:
            await self._go.wait()
            for _ in range(paced):
                await self._next.wait()
                await send({"type": "http.response.body", "body": FRAME, "more_body": True})
            for _ in range(events):
                await send({"type": "http.response.body", "body": FRAME, "more_body": True})


LENGTH = (b"content-length", b"2")
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


def _number(scope: dict[str, Any], name: str) -> int:
    return int(parse_qs(scope["query_string"].decode()).get(name, ["0"])[0])


def main(port: int) -> None:
    """Serve until a signal."""
    streams = Streams()
    config = uvicorn.Config(
        streams,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=2048,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
