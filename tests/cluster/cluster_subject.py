"""A `ClusterStore` as the laws of a store see it: asked for one item of a watch at a time."""

import asyncio

from frontdesk.testing.subject import PATIENCE_S


class ClusterSubject:
    """Hand every verb on. Calls that run together run on one loop, as they do in a node."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, verb):
        return getattr(self.store, verb)

    async def watch(self, *, tenant_id=None, api_key=None):
        return ClusterWatchUnderTest(
            self.store, await self.store.watch(tenant_id=tenant_id, api_key=api_key)
        )

    async def together(self, calls):
        return await asyncio.gather(*(call() for call in calls), return_exceptions=True)

    def next_revision(self, revision):
        return revision + 1


class ClusterWatchUnderTest:
    """One that is read when the node has read what was done before: a slow watch has fallen behind
    by then, and not a moment later.
    """

    def __init__(self, store, watch):
        self._store, self._watch = store, watch

    async def next(self):
        async with asyncio.timeout(PATIENCE_S):
            await self._store.node.read_all()
            return await anext(self._watch)

    async def close(self):
        self._watch.close()
