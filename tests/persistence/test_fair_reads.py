"""Reads of the storage: a few at a time, tenants by turns, and so many of one that wait."""

import asyncio
import threading

import pytest

from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.fair_reads import FairReads

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Gate:
    """Reads that begin when they are called and end when they are let go, one after another."""

    def __init__(self):
        self.begun = []
        self._free = threading.Semaphore(0)

    def ask(self, name):
        def asked():
            self.begun.append(name)
            assert self._free.acquire(timeout=30)
            return name

        return asked

    def let_go(self, number=1):
        self._free.release(number)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.let_go(1000)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


def start(reads, gate, name):
    """Begin a read whose name begins with its tenant's letter."""
    return asyncio.ensure_future(reads.read(gate.ask(name), asker=name[0]))


async def test_a_tenants_flood_of_reads_leaves_others_the_next_turn(gate):
    reads = FairReads()
    flood = [start(reads, gate, f"a{number}") for number in range(100)]
    await until(lambda: len(gate.begun) == 2)
    others = [start(reads, gate, name) for name in ("b0", "b1", "c0")]
    for number in range(3, 9):
        gate.let_go()
        await until(lambda number=number: len(gate.begun) == number)
    assert gate.begun[2:] == ["a2", "b0", "c0", "a3", "b1", "a4"]
    gate.let_go(1000)
    assert await asyncio.gather(*flood, *others) == [
        *(f"a{n}" for n in range(100)),
        "b0",
        "b1",
        "c0",
    ]
    assert len(reads) == 0


async def test_no_more_is_read_than_those_who_asked_have_taken(gate):
    reads = FairReads(at_once=1)
    first, second = start(reads, gate, "a0"), start(reads, gate, "a1")
    await until(lambda: gate.begun == ["a0"])
    gate.let_go(2)
    # Whatever time the loop takes for other things: it has not come back to the first.
    threading.Event().wait(0.05)
    assert gate.begun == ["a0"]
    assert await first == "a0"
    assert await second == "a1"


async def test_beyond_so_many_of_one_tenant_a_read_is_refused_and_others_are_not(gate):
    reads = FairReads(max_waiting=3)
    asked = [start(reads, gate, f"a{number}") for number in range(5)]
    await until(lambda: len(gate.begun) == 2)
    with pytest.raises(StorageUnavailable, match="3 reads of the same tenant wait already"):
        await reads.read(gate.ask("a5"), asker="a")
    other = start(reads, gate, "b0")
    gate.let_go(1000)
    await asyncio.gather(*asked, other)


async def test_a_read_that_nobody_waits_for_any_more_does_not_begin_and_takes_no_place(gate):
    reads = FairReads(at_once=1)
    first, given_up, last = (start(reads, gate, f"a{number}") for number in range(3))
    await until(lambda: len(reads) == 2)
    given_up.cancel()
    await asyncio.wait({given_up})
    gate.let_go(2)
    assert await asyncio.gather(first, last) == ["a0", "a2"]
    assert gate.begun == ["a0", "a2"]


async def test_a_place_that_came_too_late_for_its_reader_is_the_next_ones(gate):
    reads = FairReads(at_once=1)

    async def first():
        await reads.read(gate.ask("a0"), asker="a")
        given_up.cancel()  # in the step in which it got its place

    reading = asyncio.ensure_future(first())
    await until(lambda: gate.begun == ["a0"])
    given_up, last = start(reads, gate, "a1"), start(reads, gate, "a2")
    await until(lambda: len(reads) == 2)
    gate.let_go(2)
    await reading
    assert await last == "a2"
    assert gate.begun == ["a0", "a2"]


async def test_a_read_that_fails_makes_room_for_the_next(gate):
    reads = FairReads(at_once=1)

    def failing():
        raise StorageUnavailable("x")

    gate.let_go()
    failed = asyncio.ensure_future(reads.read(failing, asker="a"))
    assert await start(reads, gate, "b0") == "b0"
    with pytest.raises(StorageUnavailable):
        await failed


async def test_closing_refuses_what_waits_and_is_over_when_what_is_under_way_is(gate):
    reads = FairReads(at_once=1)
    under_way, waiting = start(reads, gate, "a0"), start(reads, gate, "a1")
    await until(lambda: len(reads) == 1 and gate.begun == ["a0"])
    closing = asyncio.ensure_future(reads.close())
    with pytest.raises(StorageUnavailable):
        await waiting
    assert not closing.done()
    gate.let_go()
    await closing
    assert await under_way == "a0"
    with pytest.raises(StorageUnavailable):
        await reads.read(gate.ask("a2"), asker="a")
