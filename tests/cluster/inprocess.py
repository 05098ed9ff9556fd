"""An engine in this very process: the index of all verbs behind the seam, with faults on demand.

For tests of nodes: what they see is what the local engine serves, without its socket.
"""

import asyncio
import threading
import time

from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.index import ClusterIndex, Moment


class InProcessServer:
    """What several engines share: the index, its clock, its run; `down` and `wipe` are faults."""

    def __init__(self):
        self.index = ClusterIndex(recovers=False)
        self.run = 1
        self.down = False
        self.skew_s = 0.0
        self.changed = asyncio.Event()
        self.calls = []
        self._lock = threading.Lock()  # renewals come from threads

    def moment(self, known):
        return Moment(int((time.time() + self.skew_s) * 1_000_000), f"run {self.run}", known)

    def call(self, verb, known, *args, **kwargs):
        if self.down:
            raise EngineUnavailable("it is down")
        with self._lock:
            before, changed = self.head(), self.changed
            try:
                return getattr(self.index, verb)(self.moment(known), *args, **kwargs)
            finally:
                self.calls.append(verb)
                if self.head() != before:
                    self.changed = asyncio.Event()
                    changed.set()

    def head(self):
        contents = self.index._contents
        return 0 if contents is None else contents.epoch.revision

    def wipe(self):
        """Lose everything, as a server without a disk does when it is started again."""
        self.index.wipe()
        self.index._recovers = True
        self.run += 1
        self.changed.set()
        self.changed = asyncio.Event()


class InProcessLease:
    def __init__(self, engine):
        self.engine, self.closed = engine, False

    def renew(self, renewal):
        if self.closed or self.engine.cut:
            raise EngineUnavailable("closed")
        answer = self.engine.server.call("renew", self.engine.known, renewal)
        self.engine.known = max(self.engine.known, answer.revision)
        return answer

    def close(self):
        self.closed = True


class InProcessEngine:
    """One node's way to the server. `cut` is its own network, `hangs` an engine that says nothing.

    `lose_replies` does it, and says that it does not.
    """

    def __init__(self, server):
        self.server = server
        self.known = 0
        self.cut = False
        self.hangs = False
        self.lose_replies = 0

    async def call(self, verb, *args, **kwargs):
        await asyncio.sleep(0)
        if self.cut:
            raise EngineUnavailable("the network is cut")
        if self.hangs:
            await asyncio.sleep(0.5)
            raise EngineUnavailable("it has not answered")
        answer = self.server.call(verb, self.known, *args, **kwargs)
        if self.lose_replies:
            self.lose_replies -= 1
            raise EngineUnavailable("the answer was lost")
        self.known = max(self.known, self.server.head())
        await asyncio.sleep(0)
        return answer

    def __getattr__(self, verb):
        async def call(*args, **kwargs):
            return await self.call(verb, *args, **kwargs)

        return call

    def lease_connection(self):
        return InProcessLease(self)

    async def leave(self, incarnation):
        while not (await self.call("leave", incarnation)).done:
            pass

    async def follow(self, after, *, era, limit=1000, wait_s):
        changed = self.server.changed
        page = await self.call("follow", after, era=era, limit=limit)
        if page.changes or page.gap:
            return page
        try:
            async with asyncio.timeout(wait_s):
                await changed.wait()
        except TimeoutError:
            return page
        return await self.call("follow", after, era=era, limit=limit)
