"""Conversations in SQLite: what is written is read back, once, by whoever may."""

import os
import sqlite3
from contextlib import closing

import pytest

from frontdesk.persistence import operations as ops
from frontdesk.persistence.errors import ConversationUnreadable, StorageRefused
from gateway.requirements import covers
from support.persistence import begun, opened, store_in, turn

MIB = 1024 * 1024


@covers("durable.no-secret-in-clear")
def test_no_secret_lies_in_clear_and_with_encryption_no_content_does(tmp_path):
    batch = [
        opened(7, options=b"OPTIONS-secret"),
        *turn(7, "r1", first=1, frames=[b"FRAME-secret"], text="TEXT-secret"),
        *begun(7, "r2"),
        ops.TurnSuspended(number=7, request_id="r2", kind="k", version=1, content=b"STATE-secret"),
        ops.AnswerStored(number=7, slot="s", digest=b"d", answer=b"ANSWER-secret", until_ms=9),
    ]
    for encrypt, clear in ((False, {b"FRAME", b"TEXT"}), (True, set())):
        place = tmp_path / str(encrypt)
        place.mkdir()
        with store_in(place, encrypt=encrypt) as store:
            store.apply(batch)
            written = b"".join(each.read_bytes() for each in place.glob("*.sqlite3*"))
        words = (b"OPTIONS", b"FRAME", b"TEXT", b"STATE", b"ANSWER")
        assert {word for word in words if word + b"-secret" in written} == clear


def test_a_row_that_is_moved_to_another_conversation_does_not_open(tmp_path):
    with store_in(tmp_path) as store:
        store.apply([opened(7, options=b"seven"), opened(8, options=b"eight")])
    with closing(sqlite3.connect(tmp_path / "conversations.sqlite3")) as connection, connection:
        connection.execute(
            "UPDATE conversation SET options ="
            " (SELECT options FROM conversation WHERE number = 7) WHERE number = 8"
        )
    connection.close()
    with store_in(tmp_path) as store:
        assert store.find("t", "s7").options == b"seven"
        assert store.find("t", "s8").unreadable


def test_with_edges_a_commit_of_events_alone_is_not_synced_and_every_other_one_is(tmp_path):
    def synced(*operations):
        store.apply(operations)
        return store._database._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)

    def event(index):
        return ops.FramesAppended(number=7, fence=7007, first_index=index, frames=(b"e",))

    with store_in(tmp_path, sync="edges") as store:
        assert synced(opened(7))
        assert not synced(event(1))
        assert synced(event(2), *begun(7, "r1"))
    with store_in(tmp_path) as store:
        assert synced(event(3))


def test_what_cannot_be_decrypted_is_in_nobodys_way_and_is_read_again_with_its_key(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("frontdesk.persistence.sqlite_log.JOURNAL_BYTES", 4096)
    monkeypatch.setattr("frontdesk.persistence.sqlite_log.SLICE_BYTES", 1024)
    frames = [b"%d" % number * 300 for number in range(9)]
    with store_in(tmp_path, encrypt=True) as store:
        store.apply([opened(7)])
        for first, frame in enumerate(frames, 1):
            said = ops.FramesAppended(number=7, fence=7007, first_index=first, frames=(frame,))
            store.apply([said])
    (key,) = (tmp_path / "keys").iterdir()
    key.rename(tmp_path / "away")
    with store_in(tmp_path, encrypt=True) as store:
        store.apply([opened(8, tenant_id="u")])
        for first in range(1, 40):
            said = ops.FramesAppended(
                number=8, fence=8008, first_index=first, frames=(os.urandom(300),)
            )
            assert not store.apply([said]).lost
        assert len(store.frames(8, after=0, limit=99, max_bytes=MIB)) == 39
        with pytest.raises(ConversationUnreadable):
            store.frames(7, after=0, limit=99, max_bytes=MIB)
        connection = store._database._writer._connection
        (rows,) = connection.execute("SELECT count(*) FROM journal WHERE number = 7").fetchone()
        assert rows == 0
    (tmp_path / "away").rename(key)
    with store_in(tmp_path, encrypt=True) as store:
        read = store.frames(7, after=0, limit=99, max_bytes=MIB)
        assert [(each.index, each.frame) for each in read] == list(enumerate(frames, 1))
        assert [each.index for each in store.frames(7, after=4, limit=2, max_bytes=MIB)] == [5, 6]


def test_a_drop_of_nothing_loses_nothing_at_the_next_start(tmp_path):
    with store_in(tmp_path) as store:
        frames = ops.FramesAppended(number=7, fence=7007, first_index=1, frames=(b"a", b"b"))
        store.apply([opened(7), frames, ops.FramesDropped(number=7, before_index=1)])
    with store_in(tmp_path) as store:
        assert len(store.frames(7, after=0, limit=9, max_bytes=99)) == 2


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "conversations.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageRefused, match="not a database"), store_in(tmp_path):
        pass


def test_another_database_is_refused_and_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "conversations.sqlite3")) as connection, connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    with pytest.raises(StorageRefused, match="not one of conversations"), store_in(tmp_path):
        pass
