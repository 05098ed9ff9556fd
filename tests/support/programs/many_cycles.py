"""Create and end sessions many times over in a process of its own, and see what is left.

What other tests of a process hold, or are about to close, would count here too.
"""

import asyncio
import concurrent.futures
import sys

from conftest import new_watcher
from frontdesk import SessionStore
from frontdesk.testing import FakeAgent
from support.agents import end_of
from support.leftovers import collected, descriptors, nothing_left, watcher_threads

SPARE_BLOCKS = 5000
"""What a run may hold in the end: the memory of ends, and caches of the interpreter."""


def cycles_of_tasks(store, number):
    async def main():
        for start in range(0, number, 1000):
            tasks = [asyncio.create_task(brief()) for _ in range(1000)]
            for offset, task in enumerate(tasks):
                count = start + offset
                store.create(
                    f"s{count}", task, tenant_id=f"t{count % 1013}", api_key=f"k{count % 211}"
                )
                if count % 5 == 0:
                    store.delete(f"s{count}")
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    asyncio.run(main())


async def brief():
    await asyncio.sleep(0)


def cycles_of_one_agent(store, number):
    """One agent that outlives all its sessions."""
    agent, future = FakeAgent(), concurrent.futures.Future()
    for count in range(number // 2):
        store.create(f"s{count}", agent, tenant_id=f"t{count % 1013}")
        store.delete(f"s{count}")
        store.create(f"f{count}", future, api_key=f"k{count % 211}")
        store.delete(f"f{count}")
    assert agent.watched_by == 0
    assert len(future._done_callbacks) == 1
    future.set_result(None)


def cycles_of_refusals(store, number):
    agent = FakeAgent()
    store.create("s", agent)
    for count in range(number):
        try:
            store.create("s", FakeAgent(), tenant_id=f"t{count}", api_key=f"k{count}")
        except ValueError:
            continue
    agent.end()


def cycles_of_the_dead(store, number):
    dead = FakeAgent(dead=True)
    for count in range(number):
        store.create(f"s{count}", dead, tenant_id=f"t{count}", api_key=f"k{count}")


def cycles_of_watches(store, number):
    for count in range(number // 5):
        with store.watch() as watch:
            watch.next(timeout_s=0)
            agent = FakeAgent()
            store.create(f"s{count}", agent)
            agent.end()
            assert end_of(watch, f"s{count}")


CYCLES = {
    one.__name__: one
    for one in (
        cycles_of_tasks,
        cycles_of_one_agent,
        cycles_of_refusals,
        cycles_of_the_dead,
        cycles_of_watches,
    )
}


def run_and_measure(store, cycles, number):
    """Fail where something is left after so many cycles that a few thousand did not leave."""
    cycles(store, 5000)  # fills what is bounded
    collected()
    before = descriptors(), len(watcher_threads()), sys.getallocatedblocks()
    cycles(store, number)
    collected()
    assert nothing_left(store)
    after = descriptors(), len(watcher_threads()), sys.getallocatedblocks()
    assert after[:2] == before[:2], (before, after)
    assert len(store._core.changes.ends) <= 2 * 100, len(store._core.changes.ends)
    assert after[2] - before[2] < SPARE_BLOCKS, (before, after)


if __name__ == "__main__":
    with (
        new_watcher() as watcher,
        SessionStore(watcher=watcher, ends_capacity=100, feed_capacity=64) as one_store,
    ):
        run_and_measure(one_store, CYCLES[sys.argv[1]], int(sys.argv[2]))
