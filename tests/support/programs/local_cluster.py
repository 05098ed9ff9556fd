"""A supervisor and workers of the local engine, as programs: to be killed, stopped, cut off.

Each prints a line when it is ready, and goes on until it is ended.
"""

import asyncio
import secrets
import sys
from pathlib import Path

from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.cluster.local.server import LocalServer
from frontdesk.cluster.records import SCHEMA, IndexLimits, NewEntry, NodeRecord
from frontdesk.cluster.terms import LeaseTerms

BATCH = 500


def tell(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def supervise(path):
    async with LocalServer(path):
        tell("ready")
        await asyncio.Event().wait()


async def work(path, sessions):
    """Join, create so many sessions, print the incarnation; end when the supervisor is gone."""
    incarnation = secrets.token_hex(16)
    async with LocalEngine(path) as engine:
        node = NodeRecord(incarnation, f"worker/{incarnation}", "unix:/w", SCHEMA, "1.0", "")
        await engine.join(node, terms=LeaseTerms())
        for start in range(0, sessions, BATCH):
            names = [f"acme/{n}" for n in range(start, min(start + BATCH, sessions))]
            await asyncio.gather(*(create(engine, incarnation, name) for name in names))
        tell(incarnation)
        await engine.lost()
    tell("lost")


async def create(engine, incarnation, name):
    token = secrets.token_hex(8)
    entry = NewEntry(name, incarnation, token, "acme", "key", 1, "writer", "m1", 1, True)
    await engine.create(entry, limits=IndexLimits())


if __name__ == "__main__":
    if sys.argv[1] == "supervise":
        asyncio.run(supervise(Path(sys.argv[2])))
    else:
        asyncio.run(work(Path(sys.argv[2]), int(sys.argv[3])))
