"""The commits: what is added is written in order, and who waits is woken once it is on the disk."""

import asyncio
import threading

import pytest

from frontdesk.persistence import operations as ops
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Applied
from frontdesk.persistence.errors import StorageBroken, StorageUnavailable
from frontdesk.persistence.writer import joined
from support.persistence import opened, store_in

pytestmark = pytest.mark.anyio

FOREVER_S = 3600


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Recorded:
    """A store that writes down what it is given, and fails as it is told."""

    def __init__(self):
        self.batches = []
        self.failures = []
        self.lost = frozenset()
        self.closed = False

    def apply(self, operations):
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(list(operations))
        return Applied(self.lost)

    def upkeep(self):
        pass

    def close(self):
        self.closed = True


def left(number, at_ms=0):
    return ops.ConversationLeft(number=number, at_ms=at_ms)


def event(number, index, *, fence=1):
    return ops.FramesAppended(number=number, fence=fence, first_index=index, frames=(b"e",))


async def test_what_is_settled_was_committed_with_all_that_was_added_before():
    store = Recorded()
    async with CommitQueue(store, commit_interval_s=FOREVER_S) as commits:
        for at_ms in range(5):
            commits.add(left(1, at_ms))
        assert commits.backlog(1) == commits.backlog() > 0
        await commits.committed(1)
        assert [each.at_ms for batch in store.batches for each in batch] == [0, 1, 2, 3, 4]
        assert commits.backlog(1) == commits.backlog() == 0


async def test_who_has_nothing_to_be_written_waits_for_nothing():
    store = Recorded()
    async with CommitQueue(store, commit_interval_s=FOREVER_S) as commits:
        commits.add(left(1))
        await commits.committed(2)
        assert store.batches == []


async def test_what_is_added_in_one_go_is_in_one_batch_and_later_ones_are_in_another():
    store = Recorded()
    async with CommitQueue(store, commit_interval_s=0) as commits:
        commits.add(left(1, 1), left(2, 2))
        commits.hasten()
        commits.add(left(3, 3))
        await commits.committed(3)
        commits.add(left(4, 4))
        await commits.committed(4)
    assert [[each.number for each in batch] for batch in store.batches] == [[1, 2, 3], [4]]


async def test_what_nobody_waits_for_is_written_after_the_interval():
    store = Recorded()
    written = asyncio.Event()
    async with CommitQueue(store, commit_interval_s=0.001) as commits:
        commits.follow(1, lambda index: written.set())
        commits.add(event(1, 1))
        await asyncio.wait_for(written.wait(), 30)
    assert len(store.batches) == 1


async def test_what_was_added_is_written_before_the_end_and_the_store_is_closed():
    store = Recorded()
    async with CommitQueue(store, commit_interval_s=FOREVER_S) as commits:
        commits.add(left(1))
    assert store.batches == [[left(1)]]
    assert store.closed


async def test_a_follower_hears_of_the_newest_event_that_is_committed():
    seen = []
    async with CommitQueue(Recorded(), commit_interval_s=FOREVER_S) as commits:
        commits.follow(1, seen.append)
        commits.add(event(1, 1))
        commits.add(event(1, 2))
        commits.add(event(2, 9))
        await commits.committed(1)
        assert seen == [2]
        commits.unfollow(1)
        commits.add(event(1, 3))
        await commits.committed(1)
        assert seen == [2]


async def test_whoever_lost_a_conversation_is_told_and_its_follower_is_not():
    store, lost, seen = Recorded(), [], []
    store.lost = frozenset({1})
    async with CommitQueue(store) as commits:
        commits.on_lost = lost.append
        commits.follow(1, seen.append)
        commits.add(event(1, 1), event(2, 1))
        with pytest.raises(StorageUnavailable, match="another node has the conversation"):
            await commits.committed(1)
        await commits.committed(2)
    assert (lost, seen) == ([1], [])


async def test_what_comes_after_its_own_erasure_is_nobody_elses():
    store = Recorded()
    async with CommitQueue(store) as commits:
        commits.add(ops.ConversationErased(number=1))
        await commits.committed(1)
        store.lost = frozenset({1})
        commits.add(event(1, 2))
        await commits.committed(1)


async def test_a_batch_stays_whole_until_the_storage_takes_it():
    store = Recorded()
    store.failures = [StorageUnavailable("full")] * 3
    async with CommitQueue(store, commit_interval_s=FOREVER_S, retry_s=0.001) as commits:
        commits.add(left(1, 1))
        commits.add(left(2, 2))
        await commits.committed(1)
        assert commits.unavailable is None
    assert store.batches == [[left(1, 1), left(2, 2)]]


async def test_who_waits_while_nothing_can_be_stored_is_told_why():
    store = Recorded()
    store.failures = [StorageUnavailable("full")]
    async with CommitQueue(store, retry_s=FOREVER_S) as commits:
        commits.add(left(1))
        with pytest.raises(StorageUnavailable, match="full"):
            await commits.committed(1, wait_s=0.05)
        assert commits.unavailable == "full"


async def test_a_failed_sync_ends_the_process_and_is_never_tried_again():
    store, broken = Recorded(), []
    error = StorageBroken("a sync failed")
    store.failures = [error]
    async with CommitQueue(store, on_broken=broken.append) as commits:
        commits.add(left(1))
        with pytest.raises(StorageBroken):
            await commits.committed(1)
        commits.add(left(1))
        with pytest.raises(StorageBroken):
            await commits.committed(1)
        assert commits.unavailable
    assert broken == [error]
    assert store.batches == []


async def test_a_read_that_fails_ends_the_process():
    def failing(store):
        raise StorageBroken("a read failed")

    broken = []
    async with CommitQueue(Recorded(), on_broken=broken.append) as commits:
        with pytest.raises(StorageBroken):
            await commits.read(failing)
    assert [str(error) for error in broken] == [str(StorageBroken("a read failed"))]


async def test_reads_are_answered_beside_a_write(tmp_path):
    with store_in(tmp_path) as store:
        async with CommitQueue(store) as commits:
            commits.add(opened(7))
            await commits.committed(7)
            here = threading.get_ident()
            found = await commits.read(lambda store: (store.find("t", "s7"), threading.get_ident()))
            assert found[0].number == 7
            assert found[1] != here


async def test_events_that_follow_each_other_are_joined_and_others_are_not():
    assert joined([event(1, 1), event(2, 1), event(1, 2), left(3), event(1, 3)]) == [
        ops.FramesAppended(number=1, fence=1, first_index=1, frames=(b"e", b"e", b"e")),
        event(2, 1),
        left(3),
    ]
    apart = [event(1, 1), event(1, 3), event(1, 4, fence=2)]
    assert joined(apart) == apart
