"""A node that writes into PostgreSQL, and stops itself in the middle of a batch: each time later.

It writes to one conversation until that is another node's, then to the next. What it was told is
one JSON line a batch.
"""

import json
import os
import signal
import sys
from pathlib import Path

from frontdesk.persistence import operations as ops
from frontdesk.persistence.postgres_connections import BoundedConnection, DatabaseAddress
from frontdesk.persistence.postgres_conversations import PostgresConversations
from frontdesk.persistence.sealing import Sealing
from support.persistence import opened

SECRET = b"the master secret of these tests"
BATCHES_BEFORE = 2


class Steps:
    """Whatever a connection does is a step; at one of them the process stops itself."""

    def __init__(self):
        self.left = None

    def count(self):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.left = None
                os.kill(os.getpid(), signal.SIGSTOP)

    def counted(self, method):
        def step(*args, **options):
            self.count()
            return method(*args, **options)

        return step


def main(url, schema, keys, conversations):
    steps = Steps()
    BoundedConnection.execute = steps.counted(BoundedConnection.execute)
    BoundedConnection.wait = steps.counted(BoundedConnection.wait)
    address = DatabaseAddress.parse(url)
    store = PostgresConversations(
        address, owner="stopped", sealing=lambda _: Sealing(SECRET, Path(keys)), schema=schema
    )
    for number in range(1, int(conversations) + 1):
        store.apply([opened(number)])
        for batch in range(1, 1000):
            if batch == BATCHES_BEFORE + 1:
                steps.left = number
            lost = store.apply(written_by("stopped", number, batch)).lost
            told = {"number": number, "batch": batch, "lost": bool(lost)}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            if lost:
                break
    sys.stdin.read()


def written_by(node, number, batch):
    """Two events and a message, which only go together."""
    frames = tuple(f"{node} {batch} {part}".encode() for part in "ab")
    first, fence = 2 * batch - 1, number * 1001
    return [
        ops.FramesAppended(number=number, fence=fence, first_index=first, frames=frames),
        ops.MessageAdded(number=number, position=batch, message=f"{node} {batch}".encode()),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
