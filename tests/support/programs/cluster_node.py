"""A node for the tests to kill, stop and cut off: a `Node`, a store, real agents, commands by pipe.

`python -m support.programs.cluster_node SETTINGS` reads one command a line (`{"n": 7, "do":
"create", ...}`), carries them out side by side, and answers each with a line. What happens is
written as history besides (`cluster/history.py`): what passes the seam of the engine, agents,
lookups, watches. Lines are whole or not there, so that what was written before a kill counts.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time

from cluster.history import (
    AgentEnded,
    AgentStarted,
    Held,
    HistoryFile,
    Listed,
    LookedUp,
    NodeJoined,
    WatchBegan,
    WatchTold,
)
from frontdesk import SessionStore
from frontdesk.cluster.node import Node
from frontdesk.cluster.node_records import NodeHooks
from frontdesk.cluster.records import IndexLimits, Selection
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.errors import FrontdeskError
from frontdesk.records import ExitKind, ExitReason, Snapshot
from support.recorded_engine import RecordedEngine, open_engine

AGENT_STARTS_S = 0.02
"""So long the start of an agent takes, between the reservation and the entry."""

try:
    import uvloop
except ImportError:
    uvloop = None

now = time.monotonic


class Program:
    """One node, and what it is told to do."""

    def __init__(self, settings):
        self.settings = settings
        self.name = settings["name"]
        self.history = HistoryFile(settings["history"])
        self.store = SessionStore()
        self.agents = {}
        self.started = 0
        self.tasks = set()
        self.over = asyncio.Event()
        self.resting = asyncio.Event()

    # -- life ------------------------------------------------------------------------------------

    async def run(self):
        """Join, carry out commands until told to leave, and leave."""
        async with open_engine(self.settings["engine"]) as engine:
            recorded = RecordedEngine(engine, self)
            async with self.new_node(recorded) as self.node:
                self.write(NodeJoined, node=self.name, incarnation=self.node.incarnation)
                tell(event="joined", incarnation=self.node.incarnation)
                loop = asyncio.get_running_loop()
                threading.Thread(target=self.listen, args=(loop,), daemon=True).start()
                following = self.own(self.follow_own_ends())
                await self.over.wait()
                for session_id, fence in list(self.agents):
                    self.stop_agent(session_id, fence, ExitKind.SHUTDOWN)
            self.store.close()
            await following
        for task in self.tasks:
            task.cancel()
        tell(event="left")

    def new_node(self, engine):
        """Return the node, not joined yet."""
        return Node(
            engine,
            self.store,
            name=self.name,
            address=f"unix:/nowhere/{self.name}",
            terms=LeaseTerms(**self.settings["terms"]),
            hooks=NodeHooks(
                on_superseded=self.superseded,
                on_isolated=self.isolated,
                end_process=lambda: os.kill(os.getpid(), signal.SIGKILL),
            ),
        )

    def listen(self, loop):
        """Hand over one command a line; the end of the input is an order to leave."""
        with contextlib.suppress(RuntimeError):  # the loop is over
            for line in sys.stdin:
                loop.call_soon_threadsafe(self.start, json.loads(line))
            loop.call_soon_threadsafe(self.over.set)

    def start(self, command):
        self.own(self.carry_out(**command))

    def own(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def carry_out(self, n, do, **arguments):
        try:
            answer = {"value": await getattr(self, "do_" + do)(**arguments)}
        except Exception as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        tell(n=n, **answer)

    def write(self, kind, /, **facts):
        self.history.write(kind(at=now(), **facts))

    # -- what the node asks for, and what its store tells ----------------------------------------

    def superseded(self, session_id, fence):
        tell(event="superseded", session=session_id)
        self.stop_agent(session_id, fence, ExitKind.SUPERSEDED)

    def isolated(self, session_id, fence):
        tell(event="isolated", session=session_id)
        self.stop_agent(session_id, fence, ExitKind.LOST)

    def stop_agent(self, session_id, fence, kind):
        agent = self.agents.get((session_id, fence))
        if agent is not None:
            agent.end()
            self.ended(session_id, fence)
        self.store.delete(session_id, fence=fence, reason=ExitReason.of(kind))

    def ended(self, session_id, fence):
        """Write that an agent is over; once."""
        agent = self.agents.pop((session_id, fence), None)
        if agent is not None:
            self.write(AgentEnded, node=self.name, agent=agent.name)

    async def follow_own_ends(self):
        async with self.store.watch() as watch:
            async for item in watch:
                if getattr(item, "reason", None) is not None:
                    self.ended(item.session.session_id, item.session.fence)

    def agent_of(self, session_id):
        """Return the name of the agent that runs under an id here."""
        if session_id not in self.store:
            return ""
        agent = self.agents.get((session_id, self.store.get(session_id).fence))
        return agent.name if agent else ""

    # -- commands --------------------------------------------------------------------------------

    async def do_create(
        self, session, kind="task", tenant="acme", key="ci", minted=False, limits=None
    ):
        """Start a session as the gateway does: a place, an agent, an entry here, one there."""
        bounds = IndexLimits(**(limits or {}))
        token = await self.node.reserve(
            session, tenant_id=tenant, api_key=key, blueprint=self.name, model=None, minted=minted,
            limits=bounds,
        )  # fmt: skip
        await asyncio.sleep(AGENT_STARTS_S)
        self.started += 1
        agent = Agent(kind, f"{self.name}/{os.getpid()}/{self.started}")
        try:
            made = self.store.create(
                session, agent.lives, tenant_id=tenant, api_key=key, blueprint=self.name
            )
        except FrontdeskError:
            agent.end()
            await self.node.release(session, token=token)
            raise
        self.agents[session, made.fence] = agent
        self.write(AgentStarted, node=self.name, session_id=session, agent=agent.name)
        try:
            return await self.node.create(made, token=token, minted=minted, limits=bounds)
        except BaseException:
            self.stop_agent(session, made.fence, ExitKind.DELETED)
            await self.node.release(session, token=token)
            raise

    async def do_end(self, session):
        """End the agent of a session that lives here; return when the store has heard of it."""
        made = self.store.get(session)
        agent = self.agents.get((session, made.fence))
        if agent is not None:
            agent.end()
        while session in self.store and self.store.get(session).fence == made.fence:
            await asyncio.sleep(0.001)

    async def do_find(self, session):
        """Find a session as the gateway does: here, else wherever it is."""
        asked_at = now()
        try:
            found = await self.found(session)
        except FrontdeskError as error:
            refused = type(error).__name__
            self.write(
                LookedUp, asked_at=asked_at, node=self.name, session_id=session, refused=refused
            )
            raise
        self.write(
            LookedUp, asked_at=asked_at, node=self.name, session_id=session,
            fence=found["fence"], owner=found["node"],
        )  # fmt: skip
        return found

    async def found(self, session):
        if session in self.store:
            return {"fence": self.node.fence(session), "node": self.name, "state": "here"}
        located = await self.node.find(session)
        return {
            "fence": located.entry.fence,
            "node": located.node.node.name,
            "state": str(located.node.state),
            "confirmed": located.confirmed,
        }

    async def do_list(self, tenant=None, key=None):
        """Return all sessions, over pages: fence and node by id; and what the pages said."""
        asked_at, found, after, partial = now(), [], 0, False
        more = True
        while more:
            selection = Selection(tenant_id=tenant, api_key=key)
            page = await self.node.list(selection, after=after, limit=500)
            found += [self.held(one) for one in page.entries]
            partial, more = partial or page.partial, page.more
            after = page.entries[-1].fence if page.entries else after
        self.write(
            Listed, asked_at=asked_at, node=self.name, entries=tuple(found), tenant_id=tenant,
            api_key=key, partial=partial,
        )  # fmt: skip
        sessions = {one.session_id: [one.fence, one.node] for one in found}
        return {"sessions": sessions, "number": len(found), "partial": partial}

    def held(self, entry):
        """Return an entry as history has it: its blueprint is its node's name."""
        new = entry.entry
        return Held(
            session_id=new.session_id,
            fence=entry.fence,
            node=new.blueprint,
            tenant_id=new.tenant_id,
            api_key=new.api_key,
            token=new.token,
        )

    async def do_count(self, tenant=None, key=None):
        return await self.node.count(Selection(tenant_id=tenant, api_key=key))

    async def do_local(self):
        """Return this node's own sessions, which are the truth, each with the index's fence."""
        return {
            "condition": str(self.node.condition),
            "incarnation": self.node.incarnation,
            "sessions": {one.session_id: self.node.fence(one.session_id) for one in self.store},
        }

    async def do_nodes(self):
        return {one.node.name: [str(one.state), one.sessions] for one in self.node.nodes()}

    async def do_watch(self, watcher):
        """Follow everything from now on."""
        begun = asyncio.Event()
        self.own(self.watching(watcher, begun))
        await begun.wait()

    async def watching(self, watcher, begun):
        async for item in self.node.watch():
            if isinstance(item, Snapshot):
                seen = tuple(
                    Held(one.session_id, one.fence, one.blueprint) for one in item.sessions
                )
                self.write(
                    WatchBegan, watcher=watcher, node=self.name, revision=item.revision,
                    entries=seen, resync=item.resync,
                )  # fmt: skip
                begun.set()
            else:
                self.write(
                    WatchTold,
                    watcher=watcher,
                    revision=item.revision,
                    kind=type(item).__name__.lower(),
                    session_id=item.session.session_id,
                    fence=item.session.fence,
                )

    async def do_block(self, seconds):
        """Do not let the loop move for so long."""
        time.sleep(seconds)

    async def do_drain(self):
        self.node.begin_draining()

    async def do_leave(self):
        self.over.set()

    async def do_load(self, clients, *, chosen=(), pause_s=0.01):
        """Create, find and end sessions by this many clients, until `rest`."""
        self.resting.clear()
        self.steps = {"done": 0, "refused": {}}
        self.clients = [self.own(self.client(chosen, pause_s)) for _ in range(clients)]

    async def do_rest(self):
        """End the load; return what it came to when each of its clients has ended."""
        self.resting.set()
        await asyncio.gather(*self.clients)
        return self.steps

    async def client(self, chosen, pause_s):
        """One client: creates under an id of its own or a contested one, finds it, ends it."""
        turn = 0
        while not self.resting.is_set():
            turn += 1
            contested = bool(chosen) and turn % 2 == 0
            session = chosen[turn // 2 % len(chosen)] if contested else secrets.token_hex(8)
            if await self.step(self.do_create, session, minted=not contested):
                await self.step(self.do_find, session)
                await self.step(self.do_end, session)
            await asyncio.sleep(pause_s)

    async def step(self, do, session, **more):
        try:
            await do(session, **more)
        except FrontdeskError as refusal:
            kind = type(refusal).__name__
            self.steps["refused"][kind] = self.steps["refused"].get(kind, 0) + 1
            return False
        self.steps["done"] += 1
        return True


class Agent:
    """A live agent: a task of this loop, or a process that ends with this one."""

    def __init__(self, kind, name):
        self.name = name
        if kind == "task":
            self.lives = asyncio.ensure_future(asyncio.Event().wait())
        else:
            self.lives = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def end(self):
        """End it; more than once does nothing."""
        if isinstance(self.lives, subprocess.Popen):
            self.lives.stdin.close()
            self.lives.kill()
            self.lives.wait()
        else:
            self.lives.cancel()


def tell(**facts):
    """Write one line of an answer, whole."""
    os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    # Where it is installed gateways run on uvloop, and what breaks raises other errors there.
    run = uvloop.run if uvloop else asyncio.run
    run(Program(json.loads(sys.argv[1])).run())
