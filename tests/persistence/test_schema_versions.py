"""Versions of the tables: what an earlier one wrote opens, what a newer one wrote is refused."""

import sqlite3
from pathlib import Path

import pytest

from frontdesk.persistence import schema
from frontdesk.persistence.errors import StorageRefused
from support.persistence import store_in
from support.programs.dump_conversations import OPTIONS, dump, restore, write

HERE = Path(__file__).parent
VERSIONS = range(1, schema.VERSION + 1)


def made_by(statements):
    return {each for each in statements if each.startswith(("CREATE", "PRAGMA"))}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_version_wrote_is_read_by_this_one(tmp_path, version):
    restore((HERE / f"schema_{version}.sql").read_text(), tmp_path)
    with store_in(tmp_path, wall_ms=lambda: 1) as store:
        first, second = store.find("t", "s7"), store.find("t", "s8")
        assert (first.state, first.options, first.label) == ("dormant", OPTIONS, "first")
        assert (first.last_index, first.last_position, first.unreadable) == (40, 1, None)
        frames = store.frames(7, after=0, limit=1000, max_bytes=10**6)
        assert [each.frame for each in frames] == [b"event %d, " % i * 4 for i in range(40)]
        assert [each.state for each in store.turns(7)] == ["completed"]
        assert [each.name for each in store.checkpoints(7)] == ["c"]
        assert [each.content for each in store.memories(7, at=1)] == [b"memory of r1"]
        assert [each.content for each in store.memories(7)] == [b"memory of r2"]
        assert store.answer("s", now_ms=8).answer == b"a"
        assert (second.state, second.waiting, second.last_index) == ("live", 1, 1)
        assert store.turn(8, "r1").suspended.content == b"state"
        assert [each.event for each in store.requests(8)] == [b"event"]


def test_tables_that_are_not_those_of_their_version_need_another_version(tmp_path):
    write(tmp_path)
    stored = (HERE / f"schema_{schema.VERSION}.sql").read_text().splitlines()
    assert made_by(dump(tmp_path)) == made_by(stored)


def test_what_a_newer_version_wrote_is_refused_and_left_alone(tmp_path):
    with store_in(tmp_path):
        pass
    path = tmp_path / "conversations.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    refused = rf"newer Frontdesk has written it \(schema {schema.VERSION + 1}"
    with pytest.raises(StorageRefused, match=refused), store_in(tmp_path):
        pass
    assert path.read_bytes() == before


def test_a_file_that_may_not_be_written_is_refused(tmp_path):
    with store_in(tmp_path):
        pass
    (tmp_path / "conversations.sqlite3").unlink()
    (tmp_path / "conversations.sqlite3").mkdir()
    with pytest.raises(StorageRefused, match="directory"), store_in(tmp_path):
        pass
