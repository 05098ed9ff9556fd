"""A node's process: the real `Node` and store, its sessions, and what can become of it."""

import asyncio
from dataclasses import dataclass

from cluster import history as h
from cluster.simulation.clockwork import VirtualLoop
from cluster.simulation.engine import SimulatedEngine
from frontdesk import SessionStore
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost, OwnerUnreachable
from frontdesk.cluster.node import Node
from frontdesk.cluster.node_records import NodeHooks
from frontdesk.cluster.records import IndexLimits, NodeState
from frontdesk.records import ExitKind, ExitReason

NO_LIMITS = IndexLimits()
HOP_S = 1.0
SUPERSEDED, RESTARTED = (ExitReason.of(k) for k in (ExitKind.SUPERSEDED, ExitKind.RESTARTED))


@dataclass
class Running:
    """An agent that runs, as the process has it."""

    name: str
    future: asyncio.Future
    minted: bool


class Process:
    """One process of a cluster. `boot` starts it, `kill` ends it, and it can be booted again."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.alive = self.joined = False
        world.network.add(name)

    # -- its life --------------------------------------------------------------------------------

    def boot(self):
        """Start: join, and serve until it is killed or told to leave."""
        clockwork, failed = self.world.clockwork, self.world.failed
        self.loop = VirtualLoop(clockwork, on_error=failed)
        self.lease_loop = VirtualLoop(clockwork, on_error=failed)
        self.alive, self.joined = True, False
        self.agents = {}
        self.last_agents = {}
        """The name of the agent that was started last for each id, also where it is over."""
        self.watches = set()
        self.loop.call_soon(self._begin)

    def _begin(self):
        self.engine = SimulatedEngine(self)
        self.store = SessionStore(clock=self.world, watcher=self.world.watcher)
        self._leaving = asyncio.Event()
        self.loop.create_task(self._serve()).add_done_callback(self._served)

    async def _serve(self):
        hooks = NodeHooks(
            on_superseded=self._on_superseded,
            on_isolated=self._on_isolated,
            ask_owner=self._ask_owner,
            end_process=self.kill,
            now_s=self.world.monotonic,
        )
        while True:
            node = Node(
                self.engine,
                self.store,
                name=self.name,
                address=f"sim:{self.name}",
                terms=self.world.terms,
                clock=self.world,
                hooks=hooks,
                feed_capacity=self.world.feed_capacity,
            )
            try:
                await node.__aenter__()
            except (EngineUnavailable, LeaseLost):
                await asyncio.sleep(0.5)
                continue
            # Not `async with`: what a kill leaves of this coroutine has nothing to do at its end.
            self.node, self.joined = node, True
            await self._leaving.wait()
            self.joined = False
            self._end_all()
            await node.__aexit__(None, None, None)
            return

    def _served(self, task):
        if self.alive:
            if task.exception() is not None:
                self.world.failed({"exception": task.exception()})
            self._gone("left")

    def leave(self):
        """End all its sessions, and leave the cluster."""
        if self.joined:
            self.loop.call_soon(self._leaving.set)

    def kill(self):
        """End at once, with all that it has."""
        if self.alive:
            self._gone("killed")

    def _gone(self, how):
        self.alive = self.joined = False
        self.loop.kill()
        self.lease_loop.kill()
        self.world.write(h.NodeGone, node=self.name, how=how)

    def pause(self):
        """Stand still."""
        self.loop.pause()
        self.lease_loop.pause()
        self.world.write(h.Paused, node=self.name)

    def resume(self):
        """Go on."""
        self.world.write(h.Resumed, node=self.name)
        self.loop.resume()
        self.lease_loop.resume()

    def hang(self):
        """Let the event loop stand still, but not the thread of the lease."""
        self.loop.pause()
        self.world.write(h.Paused, node=self.name)

    # -- its agents ------------------------------------------------------------------------------

    def start_agent(self, session_id, *, minted):
        """Start an agent; its name is used once."""
        running = Running(self.world.draw_name("a"), self.loop.create_future(), minted)
        self.agents[session_id] = running
        self.last_agents[session_id] = running.name
        self.world.write(h.AgentStarted, node=self.name, session_id=session_id, agent=running.name)
        return running

    def end_agent(self, session_id, running):
        """End an agent; the store hears of it from its future."""
        if not running.future.done():
            self.world.write(h.AgentEnded, node=self.name, agent=running.name)
            running.future.set_result(None)
        if self.agents.get(session_id) is running:
            del self.agents[session_id]

    def _end_all(self):
        for session_id, running in list(self.agents.items()):
            self.end_agent(session_id, running)

    def _on_superseded(self, session_id, local_fence):
        self._stop(session_id, local_fence)

    def _on_isolated(self, session_id, local_fence):
        if (running := self._stop(session_id, local_fence)) is not None:
            self.world.write(h.AgentStopping, node=self.name, agent=running.name)

    def _stop(self, session_id, local_fence):
        """Stop an agent, which may take as long as it is given; return it if it is stopped."""
        running = self.agents.get(session_id)
        session = self._local(session_id)
        if running is None or session is None or session.fence != local_fence:
            return None
        self.store.delete(session_id, fence=local_fence, reason=SUPERSEDED)
        grace_s = self.world.terms.kill_grace_s * self.world.random.random()
        self.loop.call_later(grace_s, self.end_agent, session_id, running)
        return running

    def _local(self, session_id):
        return self.store.get(session_id) if session_id in self.store else None

    # -- what is asked of it ---------------------------------------------------------------------

    async def open(self, session_id, *, tenant_id, api_key, minted):
        """Open a session, as the session service does; whatever is refused leaves nothing."""
        options = {"minted": minted, "limits": self.world.limits}
        token = await self.node.reserve(
            session_id, tenant_id=tenant_id, api_key=api_key, blueprint=None, model=None, **options
        )
        try:
            await asyncio.sleep(self.world.random.uniform(0.001, 0.2))
            await self._enter(session_id, tenant_id, api_key, token, options)
        except BaseException:
            await self.node.release(session_id, token=token)
            raise

    async def _enter(self, session_id, tenant_id, api_key, token, options):
        running = self.start_agent(session_id, minted=options["minted"])
        try:
            session = self.store.create(
                session_id, running.future, tenant_id=tenant_id, api_key=api_key
            )
            await self.node.create(session, token=token, **options)
        except BaseException:
            self.end_agent(session_id, running)
            raise

    async def restart(self, session_id):
        """Let another agent take over a session that lives here, and is entered."""
        session, running = self._local(session_id), self.agents.get(session_id)
        if session is None or running is None or self.node.entry(session_id) is None:
            return
        self.store.delete(session_id, fence=session.fence, reason=RESTARTED)
        self.end_agent(session_id, running)
        token = self.node.next_token(session_id)
        await asyncio.sleep(self.world.random.uniform(0.001, 0.2))
        options = {"minted": running.minted, "limits": NO_LIMITS}
        if token is not None:
            metadata = session.metadata
            await self._enter(session_id, metadata.tenant_id, metadata.api_key, token, options)

    def update(self, session_id, model):
        """Let a session that lives here have another model."""
        session, running = self._local(session_id), self.agents.get(session_id)
        if session is not None and running is not None and session.agent is running.future:
            self.store.update(session_id, model=model)
            self.world.write(h.AgentUpdated, node=self.name, agent=running.name, model=model)

    def serves(self, session_id):
        """Tell whether a session's agent runs here; what an owner says of itself."""
        return self._local(session_id) is not None

    def answers_for(self, session_id, entry):
        """Tell whether this node speaks for an entry: it is that incarnation, and that fence."""
        own = self.own_entry(session_id)
        return (
            own is not None
            and entry.entry.incarnation == self.node.incarnation
            and own.fence == entry.fence
        )

    async def request(self, session_id):
        """Ask something of a session wherever it is, as the gateway does; return the outcome."""
        for _ in range(2):
            if self.serves(session_id):
                return "answered"
            located = await self.node.find(session_id)
            if located.node.node.incarnation == self.node.incarnation:
                return "missing"
            if located.node.state is NodeState.STALLED:
                raise OwnerUnreachable(session_id, problem="it has stalled")
            owner = self.world.processes[located.node.node.name]
            entry = located.entry

            def ask(owner, session_id, entry=entry):
                return owner.answers_for(session_id, entry)

            if await self._hop(owner, session_id, ask):
                return "answered"
            self.node.forget(session_id)
        raise OwnerUnreachable(session_id, problem="it moves")

    async def _ask_owner(self, session_id, status):
        """Ask a node itself for one of its sessions."""
        return await self._hop(
            self.world.processes[status.node.name], session_id, Process.own_entry
        )

    def own_entry(self, session_id):
        """Return the entry of a session that lives here, as its owner knows it."""
        return self.node.entry(session_id) if self.joined else None

    async def _hop(self, owner, session_id, asked):
        if not owner.joined:
            raise OwnerUnreachable(session_id, problem="the connection was refused")
        answer = self.loop.create_future()

        def done(value):
            if not answer.done():
                answer.set_result(value)

        self.world.network.hop(self, owner, lambda: asked(owner, session_id), done)
        try:
            async with asyncio.timeout(HOP_S):
                return await answer
        except TimeoutError:
            raise OwnerUnreachable(session_id, problem="no answer") from None
