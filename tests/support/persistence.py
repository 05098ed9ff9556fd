"""Conversations for tests of what keeps them: stores in a directory, and what is written there."""

from contextlib import contextmanager

from frontdesk.persistence import operations as ops
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations

SECRET = b"the master secret of these tests"


@contextmanager
def store_in(directory, *, owner="n1", secret=SECRET, encrypt=False, **options):
    sealing = Sealing(secret, directory / "keys", encrypt=encrypt)
    place = directory / "conversations.sqlite3"
    store = SqliteConversations(
        place, owner=owner, sealing=sealing, **{"wall_ms": lambda: 0, **options}
    )
    try:
        yield store
    finally:
        store.close()


def opened(number, *, tenant_id="t", **others):
    """A conversation begins; its fence follows from its number."""
    values = {
        "session_id": f"s{number}",
        "blueprint": "echo",
        "model": "m",
        "api_key": "k",
        "created_at_ms": number,
        "fence": number * 1001,
        "options": b"{}",
        **others,
    }
    return ops.ConversationOpened(number=number, tenant_id=tenant_id, **values)


def turn(number, request_id, *, first, frames, text="hi", position=1):
    """A whole turn, as it is written in one batch."""
    fence = number * 1001
    last = first + len(frames) - 1
    return [
        ops.TurnQueued(number=number, request_id=request_id, text=text, api_key="k", at_ms=1),
        ops.TurnBegun(number=number, request_id=request_id, first_index=first, at_ms=2),
        ops.FramesAppended(number=number, fence=fence, first_index=first, frames=tuple(frames)),
        ops.MessageAdded(
            number=number, position=position, message=f"message of {request_id}".encode()
        ),
        ops.MemoryAdded(
            number=number,
            position=position,
            request_id=request_id,
            kind="history",
            version=1,
            content=f"memory of {request_id}".encode(),
            replaces=False,
        ),
        ops.TurnFinished(
            number=number,
            request_id=request_id,
            state="completed",
            last_index=last,
            end=b"end",
            usage=b"usage",
            totals=b"totals",
            at_ms=3,
        ),
    ]


def begun(number, request_id):
    """A turn that has begun."""
    return [
        ops.TurnQueued(number=number, request_id=request_id, text="x", api_key=None, at_ms=5),
        ops.TurnBegun(number=number, request_id=request_id, first_index=1, at_ms=6),
    ]
