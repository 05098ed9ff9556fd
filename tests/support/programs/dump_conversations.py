"""Writes the dump that `tests/persistence/schema_<version>.sql` is: conversations of this version.

`python -m support.programs.dump_conversations DIRECTORY > schema_1.sql`. The dump of a version is
written once, and stays: whatever is newer has to open it.
"""

import sqlite3
import sys
from pathlib import Path

import msgspec

from frontdesk.persistence import operations as ops
from support.persistence import begun, opened, store_in, turn

OPTIONS = b'{"systemPrompt":"be kind"}'


def write(directory):
    """Store two conversations: a dormant one with a segment, and a live one whose turn waits."""
    with store_in(directory) as store:
        frames = [b"event %d, " % index * 4 for index in range(40)]
        store.apply([opened(7, options=OPTIONS, label="first")])
        store.apply(turn(7, "r1", first=1, frames=frames))
        store.apply([ops.CheckpointMade(number=7, name="c", request_id="r1", position=1, at_ms=3)])
        replaced = turn(7, "r2", first=41, frames=[b"more"], position=2)[4]
        store.apply([msgspec.structs.replace(replaced, replaces=True)])
        store.apply([ops.AnswerStored(number=7, slot="s", digest=b"d", answer=b"a", until_ms=9)])
        store.apply([ops.ConversationLeft(number=7, at_ms=4)])
        store.apply([opened(8), *begun(8, "r1")])
        store.apply([ops.FramesAppended(number=8, fence=8008, first_index=1, frames=(b"e",))])
        store.apply(
            [
                ops.TurnSuspended(number=8, request_id="r1", kind="k", version=1, content=b"state"),
                ops.RequestAsked(
                    number=8, request_id="r1", reference="q", kind="approval", event=b"event"
                ),
            ]
        )


def dump(directory):
    """Return the file as statements, with the key's file in comments."""
    (key,) = (directory / "keys").iterdir()
    connection = sqlite3.connect(directory / "conversations.sqlite3")
    try:
        pragmas = [
            f"PRAGMA {name}={connection.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return [f"-- key {key.name} {key.read_bytes().hex()}", *pragmas, *connection.iterdump()]
    finally:
        connection.close()


def restore(text, directory):
    """Make the file and the key that a dump was made of."""
    key, _, statements = text.partition("\n")
    _, _, name, content = key.split(" ")
    (directory / "keys").mkdir()
    (directory / "keys" / name).write_bytes(bytes.fromhex(content))
    connection = sqlite3.connect(directory / "conversations.sqlite3")
    try:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.executescript(statements)
    finally:
        connection.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    sys.stdout.write("\n".join([*dump(Path(sys.argv[1])), ""]))
