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
RATE = 2
CLAIM_S = 20.0
"""So long a claim lasts: some end in a history, and some outlast most of it."""


class Clients:
    """Draw what is done next, at which node, until the time is over."""

    def __init__(self, world):
        self._world, self._random = world, world.random
        self.ids = list(CHOSEN)
        self._slot = world.draw_name("c")

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
                *(self.list, self.watch),
                *(self.take, self.claim),
            ),
            (7, 3, 1, 2, 3, 4, 1, 1, 3, 2),
        )[0]
        self.begin(process, what(process))

    def begin(self, process, doing):
        """Let something be done in a process, as a task of its own."""
        process.loop.create_task(self._guarded(process.loop, doing))

    async def _guarded(self, loop, doing):
        """Let a refusal be an answer, in the history where it matters. Anything else is a finding.

        A task keeps an error to itself, and nobody asks this one: it is raised outside of it.
        """
        try:
            with suppress(FrontdeskError):
                await doing
        except Exception as error:
            loop.call_soon(self._world.failed, {"exception": error})

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
                self.begin(other, self.look(other, session_id))
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

    async def take(self, process):
        """Do something of which so many may be done in a while."""
        counted = self._random.choice(TENANTS)
        rate = {"limit": RATE, "window_s": self._random.choice((0.5, 4.0))}
        counted = f"{counted} in {rate['window_s']}"
        asked = {"asked_at": self._world.clockwork.now, "node": process.name}
        taken = await process.engine.take(counted, **rate)
        if taken.allowed:
            self._world.write(h.RateTaken, counted=counted, **rate, **asked)

    async def claim(self, process):
        """Claim one of the last slots, or another one."""
        if self._random.random() < 0.3:
            self._slot = self._world.draw_name("c")
        asking = {"slot": self._slot, "incarnation": process.node.incarnation, "ttl_s": CLAIM_S}
        self._world.write(h.ClaimAsked, node=process.name, **asking)
        asked = {"asked_at": self._world.clockwork.now, "node": process.name}
        claim = await process.node.claim(
            self._slot, digest="the same", ttl_s=CLAIM_S, by=asking["incarnation"]
        )
        owner = {"slot": asking["slot"], "owner": claim.incarnation}
        self._world.write(h.ClaimAnswered, **owner, **asked)
