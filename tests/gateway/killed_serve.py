"""`frontdesk serve` that kills itself at one commit, before it or after it.


With `PLANTED=order` it has a fault: events of one commit are written in the wrong order.

`KILLED` is `before:<what>` or `after:<what>`; what is the name of an operation (of the session that
is opened too: `ConversationOpened s-1`), or the type of an event that is among those of the commit.
"""

import os
import signal

from msgspec import structs

from frontdesk.cli import main
from frontdesk.persistence.frames import decode_frame
from frontdesk.persistence.operations import ConversationOpened, FramesAppended
from frontdesk.persistence.sqlite_database import SqliteDatabase

WHEN, _, WHAT = os.environ["KILLED"].partition(":")
COMMIT = SqliteDatabase.apply_together


def names_in(operations):
    """Return what a commit has: operations by their names, events by their types."""
    for each in operations:
        yield type(each).__name__
        if isinstance(each, ConversationOpened):
            yield f"ConversationOpened {each.session_id}"
        if isinstance(each, FramesAppended):
            yield from (decode_frame(frame).name for frame in each.frames)


def disordered(operations):
    """Return operations, with the events of each reversed."""
    return [
        structs.replace(each, frames=each.frames[::-1]) if hasattr(each, "frames") else each
        for each in operations
    ]


def commit_or_die(store, batches):
    """Commit, and die before or after that where it is the commit that is meant."""
    meant = any(WHAT in names_in(batch.operations) for batch in batches)
    if "PLANTED" in os.environ:
        batches = [each._replace(operations=disordered(each.operations)) for each in batches]
    if meant and WHEN == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    applied = COMMIT(store, batches)
    if meant:
        os.kill(os.getpid(), signal.SIGKILL)
    return applied


SqliteDatabase.apply_together = commit_or_die

if __name__ == "__main__":
    main()
