"""A storage that fails: full, it heals by itself; broken, it ends the process and is left alone."""

import contextlib
import os
import subprocess
import sys

import pytest

from frontdesk.persistence import operations as ops
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.disk_reserve import DiskReserve
from frontdesk.persistence.errors import StorageBroken, StorageRefused, StorageUnavailable
from frontdesk.persistence.stored import ListQuery
from persistence.checked_stores import problem_of
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
    """A file system of 3 MiB, where one can be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


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


def test_a_read_of_a_damaged_file_ends_the_process(tmp_path):
    with store_in(tmp_path) as store:
        store.apply([opened(number) for number in range(1, 300)])
    path = tmp_path / "conversations.sqlite3"
    content = bytearray(path.read_bytes())
    content[8 * 4096 :] = os.urandom(len(content) - 8 * 4096)
    path.write_bytes(content)
    with contextlib.suppress(StorageRefused), store_in(tmp_path) as store:
        with pytest.raises(StorageBroken):
            store.page(ListQuery(tenant_id="t", limit=300))
        with pytest.raises(StorageBroken):
            store.apply([ops.ConversationLeft(number=number, at_ms=1) for number in range(1, 300)])


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
