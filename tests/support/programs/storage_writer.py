"""Writes conversations through a commit queue, and says on its standard output what is committed.

Each round is one batch: a turn of one conversation, with events, a message and memory. Now and
then a conversation is erased, and a tenant.
"""

import asyncio
import os
import sys
from pathlib import Path

from frontdesk.persistence import operations as ops
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from support.persistence import SECRET, opened, turn

EVENTS = 3
BROKEN = 70
"""The exit code once the storage has failed."""
ROOM = 1000


def numbered(number, round_number):
    """Return the events of a round, large enough to become segments soon."""
    return [b"event %d of %d, " % (round_number * EVENTS + i, number) * 60 for i in range(EVENTS)]


def batch(number, round_number):
    """Return what is written of one round: all of it, or nothing."""
    first = round_number * EVENTS + 1
    frames = numbered(number, round_number)
    position = round_number + 1
    return turn(number, f"r{round_number}", first=first, frames=frames, position=position)


def parts(operations, *, apart):
    """Return the transactions of a batch: one, or three, with the events in one of their own."""
    return [operations[:2], operations[2:3], operations[3:]] if apart else [operations]


async def write(directory, *, rounds, mutated, sync):
    """Write rounds of two conversations, and others that come and go."""
    sealing = Sealing(SECRET, directory / "keys")
    path = directory / "conversations.sqlite3"
    store = SqliteConversations(path, owner="n1", sealing=sealing, sync=sync, erase_within_s=0)
    writer = store._database._writer._connection
    writer.execute("PRAGMA wal_autocheckpoint=40")  # so that checkpoints are cut too
    if mutated:
        writer.execute("PRAGMA synchronous=NORMAL")
    async with CommitQueue(store, on_broken=lambda error: os._exit(BROKEN)) as commits:
        first = next_round(store, 1)
        for round_number in range(first, first + rounds):
            number = 1 + round_number % 2
            if store.find("t", f"s{number}") is None:
                commits.add(opened(number))
            for part in parts(batch(number, round_number // 2), apart=sync == "edges"):
                commits.add(*part)
                await commits.committed(number)
            os.write(1, b"committed %d %d\n" % (number, round_number // 2))
            if round_number % 7 == 3:
                await come_and_go(commits, ROOM + round_number)


async def come_and_go(commits, number):
    """Store and erase a conversation of another tenant, one way or the other."""
    commits.add(opened(number, tenant_id=f"tenant-{number}"), *batch(number, 0))
    await commits.committed(number)
    if number % 2:
        commits.add(ops.ConversationErased(number=number))
        await commits.committed(number)
    else:
        commits.add(ops.TenantErased(number=0, tenant_id=f"tenant-{number}"))
        await commits.committed(0)
    os.write(1, b"erased %d\n" % number)


def next_round(store, number):
    """Return the round to go on with, after those that are stored."""
    numbers = (number, number + 1)
    return sum(len(store.turns(each, states=("completed",), limit=10**6)) for each in numbers)


if __name__ == "__main__":
    asyncio.run(
        write(
            Path(sys.argv[1]),
            rounds=int(sys.argv[2]),
            mutated="mutated" in sys.argv,
            sync="edges" if "edges" in sys.argv else "always",
        )
    )
