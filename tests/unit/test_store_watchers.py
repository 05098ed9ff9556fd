"""A watcher that is passed in belongs to who made it: a store neither closes nor occupies it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import weakref

from frontdesk import SessionStore, Watcher


def test_closing_one_store_leaves_a_shared_watcher_to_the_other():
    with Watcher() as watcher, subprocess.Popen(["sleep", "60"]) as agent:
        one, other = SessionStore(watcher=watcher), SessionStore(watcher=watcher)
        one.create("a", agent)
        with other.watch() as watch:
            other.create("a", agent)
            one.close()
            agent.kill()
            kinds = [watch.next(timeout_s=20) for _ in range(3)]
        assert str(kinds[-1].reason) == "signalled: 9 (SIGKILL)"
        other.close()


def test_a_forgotten_store_is_collected_although_a_shared_watcher_lives_on():
    async def main():
        store = SessionStore(watcher=watcher)
        future = asyncio.get_running_loop().create_future()
        store.create("a", future)
        future.cancel()
        return weakref.ref(store)

    with Watcher() as watcher:
        reference = asyncio.run(main())
        gc.collect()
        assert reference() is None
