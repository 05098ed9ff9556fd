"""Programs of the local engine for the benchmark: a supervisor; a worker that has many sessions, or
follows what becomes of them.

`local_engine_scenes` runs them and reads what they print.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from pathlib import Path

from frontdesk import SessionStore
from frontdesk.cluster import Node
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.server import LocalServer
from frontdesk.cluster.records import SCHEMA, IndexLimits, NewEntry, NodeRecord
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.errors import SessionNotFound

_AT_ONCE = 500
_LOOK_S = 0.001


def entry_of(incarnation: str, session_id: str) -> NewEntry:
    """Return a session as a node enters it."""
    token = secrets.token_hex(8)
    return NewEntry(
        session_id, incarnation, token, "tenant-1", "key-1", 1, "writer", "gpt-5", 1, True
    )


async def join(engine: LocalEngine, name: str) -> str:
    """Join as a node; return its incarnation."""
    incarnation = secrets.token_hex(16)
    node = NodeRecord(incarnation, name, f"unix:/{name}", SCHEMA, "1.0", "")
    # Whatever it is busy with meanwhile, its lease holds.
    await engine.join(node, terms=LeaseTerms(lease_s=3600.0))
    return incarnation


async def create_all(engine: LocalEngine, incarnation: str, sessions: int) -> None:
    """Create sessions, as many at a time as a busy node does."""
    for start in range(0, sessions, _AT_ONCE):
        ids = (f"tenant-1/s{n}" for n in range(start, min(start + _AT_ONCE, sessions)))
        entries = (entry_of(incarnation, session_id) for session_id in ids)
        await asyncio.gather(*(engine.create(one, limits=IndexLimits()) for one in entries))


async def serve(path: Path, _: int) -> None:
    """Serve an index, until it is killed."""
    async with LocalServer(path):
        _write("ready")
        await asyncio.Event().wait()


async def live(path: Path, sessions: int) -> None:
    """Have sessions, until it is killed."""
    async with LocalEngine(path) as engine:
        await create_all(engine, await join(engine, "victim"), sessions)
        _write("ready")
        await asyncio.Event().wait()


async def follow(path: Path, sessions: int) -> None:
    """Be another worker's node; say when none of the sessions is found here any more, and when it
    was told how each of them ended, by the machine's monotonic clock.

    The first session is one that it knows, the others are ones that it has to ask for.
    """
    name = f"follower-{secrets.token_hex(4)}"
    known, *others = (f"tenant-1/s{n}" for n in range(sessions))
    asked, last = others[len(others) // 2], others[-1]
    with SessionStore() as store:
        async with LocalEngine(path) as engine, Node(engine, store, name=name, address="") as node:
            await node.find(known)
            _write("ready")
            for session_id in (known, asked):
                while not await _is_gone(node, session_id):
                    await asyncio.sleep(_LOOK_S)
            _write(str(time.monotonic_ns()))
            while not _is_told(node, last):
                await asyncio.sleep(_LOOK_S)
            _write(str(time.monotonic_ns()))


async def _is_gone(node: Node, session_id: str) -> bool:
    try:
        await node.find(session_id)
    except SessionNotFound:
        return True
    return False


def _is_told(node: Node, session_id: str) -> bool:
    try:
        node.ended(session_id)
    except SessionNotFound:
        return False
    return True


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    role = {"serve": serve, "live": live, "follow": follow}[sys.argv[1]]
    asyncio.run(role(Path(sys.argv[2]), int(sys.argv[3])))
