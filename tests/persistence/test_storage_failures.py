"""A storage that fails: full, it heals by itself; broken, it ends the process and is left alone."""

import contextlib
import os
import sqlite3
import subprocess
import sys

import pytest

from frontdesk.persistence import operations as ops
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.disk_reserve import DiskReserve
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable
from frontdesk.persistence.sqlite_salvage import salvage
from persistence.checked_stores import problem_of
from support import small_disks
from support.persistence import opened, store_in, turn
from support.programs.storage_writer import BROKEN
from support.synced_images import strace

MIB = 1024 * 1024


@pytest.fixture
def anyio_backend():
    return "asyncio"


def large(number, *, first, position):
    frames = [os.urandom(64 * 1024) for _ in range(4)]
    return turn(number, f"r{position}", first=first, frames=frames, position=position)


def test_a_batch_for_which_there_is_no_room_is_left_out_whole_and_can_be_carried_out_later(
    tmp_path,
):
    with store_in(tmp_path) as store:
        store.apply([opened(7)])
        connection = store._database._writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        batch = [opened(8, tenant_id="new"), *large(7, first=1, position=1)]
        keys = set((tmp_path / "keys").iterdir())
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="full"):
                store.apply(batch)
            assert store.turns(7) == []
            assert store.frames(7, after=0, limit=9, max_bytes=MIB) == []
            assert store.find("new", "s8") is None
            assert set((tmp_path / "keys").iterdir()) == keys
        connection.execute("PRAGMA max_page_count=1000000")
        store.apply(batch)
        assert len(store.frames(7, after=0, limit=9, max_bytes=MIB)) == 4
        assert store.find("new", "s8").options == b"{}"


@pytest.fixture
def small_disk(tmp_path):
    with small_disks.small_disk(tmp_path / "small", mib=3) as place:
        yield place


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_disk_that_is_full_is_said_and_what_waited_is_stored_once_there_is_room(small_disk):
    filler = small_disk / "filler"
    filler.write_bytes(bytes(MIB))
    with store_in(small_disk) as store:
        async with CommitQueue(store, retry_s=0.01) as commits:
            commits.add(opened(7))
            await commits.committed(7)
            rounds = 0
            with pytest.raises(StorageUnavailable, match="full"):  # noqa: PT012
                while rounds < 100:
                    first = rounds * 4 + 1
                    commits.add(*large(7, first=first, position=rounds + 1))
                    rounds += 1
                    await commits.committed(7, wait_s=0.5)
            assert commits.unavailable
            assert commits.backlog(7) > 0
            stored = await commits.read(lambda store: len(store.turns(7)))
            assert stored == rounds - 1
            filler.unlink()
            await commits.committed(7, wait_s=None)
            assert commits.unavailable is None
        frames = [len(store.frames(7, after=0, limit=1000, max_bytes=10 * MIB))]
        assert frames == [rounds * 4]


@pytest.mark.slow
@pytest.mark.parametrize(("call", "when"), [("fdatasync", 20), ("pwrite64", 200)])
def test_an_error_of_the_disk_ends_the_process_and_nothing_is_tried_again(tmp_path, call, when):
    log, state = tmp_path / "strace", tmp_path / "state"
    state.mkdir()
    path = os.pathsep.join(each for each in sys.path if each)
    injected = f"inject={call}:error=EIO:when={when}"
    writer = [sys.executable, "-m", "support.programs.storage_writer", str(state), "1000"]
    ended = subprocess.run(
        [*strace(), "-y", "-o", log, "-e", f"trace={call},exit_group", "-e", injected, *writer],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == BROKEN
    lines = log.read_text().splitlines()
    failed = next(place for place, line in enumerate(lines) if "(INJECTED)" in line)
    assert [line for line in lines[failed + 1 :] if call in line] == []
    said = ended.stdout.splitlines(keepends=True)
    assert said
    assert problem_of(state, said) is None


def damage(path, table):
    """Overwrite the first page of a table, or of an index."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        root = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = connection.execute(root, (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("table", ["conversation", "message", "turn", "turn_by_request"])
def test_a_file_with_a_damaged_page_is_not_opened(tmp_path, table):
    with store_in(tmp_path) as store:
        store.apply([opened(7), *turn(7, "r", first=1, frames=[b"a"])])
    damage(tmp_path / "conversations.sqlite3", table)
    with pytest.raises(StorageRefused, match=r"damaged.*recover"), store_in(tmp_path):
        pytest.fail("it was opened")


def test_a_read_of_a_damaged_file_ends_the_process_and_the_next_start_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("frontdesk.persistence.sqlite_database.CHECKED_BYTES", 0)
    with store_in(tmp_path) as store:
        store.apply([opened(7), *turn(7, "r", first=1, frames=[b"a"])])
    damage(tmp_path / "conversations.sqlite3", "message")
    with store_in(tmp_path) as store:
        with pytest.raises(StorageBroken):
            store.messages(7)
        with pytest.raises(StorageBroken):
            store.apply([ops.MessageAdded(number=7, position=2, message=b"more")])
    with pytest.raises(StorageRefused, match=r"damaged.*recover"), store_in(tmp_path):
        pytest.fail("a large file is looked through once something of it has failed")


@pytest.mark.slow
def test_a_reserve_is_freed_when_nothing_could_be_stored_for_a_while_and_made_anew(small_disk):
    clock = [0.0]
    reserve = DiskReserve(
        small_disk / "reserve", size=MIB, after_s=30.0, monotonic=lambda: clock[0]
    )
    assert reserve.made
    with store_in(small_disk, reserve=reserve) as store:
        store.apply([opened(7)])
        filler = small_disk / "filler"
        descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(descriptor, bytes(4096)):
                pass
        os.close(descriptor)
        batch = large(7, first=1, position=1)
        for clock[0] in (1.0, 30.9):
            with pytest.raises(StorageUnavailable, match="full"):
                store.apply(batch)
            assert reserve.made
        clock[0] = 31.0
        with pytest.raises(StorageUnavailable, match="full"):
            store.apply(batch)
        assert not reserve.made
        store.apply(batch)
        assert len(store.turns(7)) == 1
        filler.unlink()
        clock[0] = 200.0
        store.apply([opened(8)])
        assert reserve.made


def test_a_copy_has_nothing_of_conversations_whose_own_row_is_lost(tmp_path):
    with store_in(tmp_path) as store:
        store.apply([opened(7), *turn(7, "r", first=1, frames=[b"a"])])
    damage(tmp_path / "conversations.sqlite3", "conversation")
    outcomes = salvage(tmp_path / "conversations.sqlite3", tmp_path / "copy.sqlite3")
    lost = {each.name: (each.rows, each.lost) for each in outcomes}
    assert lost["turn"] == lost["message"] == (0, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as copy:
        for table in ("turn", "message", "memory", "journal", "epoch"):
            assert copy.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
