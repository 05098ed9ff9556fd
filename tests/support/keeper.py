"""Run something with a keeper: what the tests of the keeper share."""

import asyncio
import contextlib
import os

import pytest

from frontdesk.keeper.client import Keeper
from frontdesk.keeper.errors import SpawnFailed
from support.processes import PATIENCE_S


def with_keeper(scenario, *, loop_factory=None):
    """Run a scenario with a keeper, within a bound."""

    async def main():
        async with asyncio.timeout(3 * PATIENCE_S), Keeper() as keeper:
            return await scenario(keeper)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


@contextlib.asynccontextmanager
async def spawned(keeper, request):
    """Spawn a process for the length of a block."""
    process = await keeper.spawn(request)
    try:
        yield process
    finally:
        assert await process.end(0)


def answer_of(request):
    """Spawn, and return the first thing that the process says."""

    async def scenario(keeper):
        async with spawned(keeper, request) as process:
            return (await process.reader.read(65536)).decode()

    return with_keeper(scenario)


def end_of(request):
    """Spawn, and return the code or signal that the process ends with."""

    async def scenario(keeper):
        async with spawned(keeper, request) as process:
            return await process.wait()

    return with_keeper(scenario)


def refusal_of(request):
    """Spawn, and return the refusal, having seen that nothing is left."""

    async def scenario(keeper):
        before = open_now()
        with pytest.raises(SpawnFailed) as refused:
            await keeper.spawn(request)
        await until_open(before)
        assert len(keeper) == 0
        return refused.value

    return with_keeper(scenario)


def open_now():
    """Return the open sockets, pipes and whatever else is no file."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{number}")
            found |= set() if target.startswith("/") else {(number, target)}
    return found


async def until_open(descriptors):
    """Wait until these descriptors are open and no others: a transport closes its own later."""
    async with asyncio.timeout(PATIENCE_S):
        while open_now() != descriptors:
            await asyncio.sleep(0.001)
