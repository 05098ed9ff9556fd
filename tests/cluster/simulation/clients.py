"""What is done to a cluster: sessions opened and ended, looked up, asked, listed and watched."""

import asyncio
from contextlib import suppress

from cluster import history as h
from frontdesk.cluster.errors import EngineUnavailable, OwnerUnreachable, Recovering
from frontdesk.cluster.records import Selection
from frontdesk.errors import FrontdeskError, SessionNotFound

CHOSEN = ("s1", "s2")
TENANTS = ("acme", "zeta")
EVERYTHING = Selection()


class Clients:
    """Draw what is done next, at which node, until the time is over."""

    def __init__(self, world):
        self._world, self._random = world, world.random
        self.ids = list(CHOSEN)

    def act_until(self, until):
        """Do something now and then until a time."""
        if self._world.clockwork.now < until:
            self.act()
            self._world.clockwork.after(self._random.expovariate(1.6), self.act_until, until)

    def act(self):
        """Do one thing at one node, if it takes any."""
        process = self._random.choice(list(self._world.processes.values()))
        if not process.joined:
            return
        what = self._random.choices(
            (
                *(self.create, self.end, self.restart, self.update),
                *(self.look, self.request),
                self.list,
                self.watch,
            ),
            (7, 3, 1, 2, 3, 4, 1, 1),
        )[0]
        process.loop.create_task(self._guarded(what(process)))

    async def _guarded(self, doing):
        with suppress(FrontdeskError):  # a refusal is an answer, in the history where it matters
            await doing

    def _any_id(self):
        return self._random.choice(self.ids[-12:])

    # -- one thing each --------------------------------------------------------------------------

    async def create(self, process):
        """Open a session under an id that several may choose, or under one of its own."""
        minted = self._random.random() < 0.35
        session_id = self._world.draw_name("m") if minted else self._random.choice(CHOSEN)
        if minted:
            self.ids.append(session_id)
        if process.serves(session_id):
            return
        tenant_id = self._random.choice(TENANTS)
        api_key = self._random.choice((None, f"{tenant_id}-key"))
        await process.open(session_id, tenant_id=tenant_id, api_key=api_key, minted=minted)

    async def end(self, process):
        """Let one of a node's agents die, while somebody elsewhere looks it up."""
        if process.agents:
            session_id = self._random.choice(list(process.agents))
            other = self._random.choice(list(self._world.processes.values()))
            if other.joined:
                other.loop.create_task(self._guarded(self.look(other, session_id)))
            process.end_agent(session_id, process.agents[session_id])

    async def restart(self, process):
        """Let another agent take over one of a node's sessions."""
        if process.agents:
            await process.restart(self._random.choice(list(process.agents)))

    async def update(self, process):
        """Let one of a node's sessions have another model."""
        if process.agents:
            process.update(
                self._random.choice(list(process.agents)), self._world.draw_name("model")
            )

    async def look(self, process, session_id=None):
        """Look an id up."""
        session_id = session_id or self._any_id()
        asked = {"asked_at": self._world.clockwork.now, "node": process.name}
        try:
            located = await process.node.find(session_id)
        except FrontdeskError as error:
            found = {"refused": type(error).__name__}
        else:
            found = {"fence": located.entry.fence, "owner": located.node.node.name}
        if not process.serves(session_id):
            self._world.write(h.LookedUp, session_id=session_id, **asked, **found)

    async def request(self, process, session_id=None):
        """Ask something of a session."""
        session_id = session_id or self._any_id()
        asked = {"asked_at": self._world.clockwork.now, "node": process.name}
        try:
            outcome = await process.request(session_id)
        except (Recovering, EngineUnavailable, OwnerUnreachable):
            outcome = "retry"
        except SessionNotFound:
            outcome = "missing"
        self._world.write(h.Requested, session_id=session_id, outcome=outcome, **asked)

    async def list(self, process):
        """List everything."""
        asked_at = self._world.clockwork.now
        page = await process.node.list(EVERYTHING)
        if not page.more:  # pages are of several moments
            entries = tuple(self._world.held(entry) for entry in page.entries)
            told = {"entries": entries, "partial": page.partial}
            self._world.write(h.Listed, asked_at=asked_at, node=process.name, **told)

    async def watch(self, process):
        """Watch everything, or a tenant, for as long as the node lives."""
        if len(process.watches) >= 2:
            return
        tenant_id = self._random.choice((None, None, *TENANTS))
        watcher = self._world.draw_name("w")
        process.watches.add(watcher)
        watch = process.node.watch(tenant_id=tenant_id)
        while True:
            try:
                async for item in watch:
                    self._world.write_watched(watcher, process.name, tenant_id, item)
                break
            except EngineUnavailable:
                await asyncio.sleep(0.5)
        self._world.write(h.WatchClosed, watcher=watcher)
