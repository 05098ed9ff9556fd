"""The verbs of `Engine` over the network of the simulation, and what they leave in the history."""

import asyncio

from cluster import history as h
from cluster.simulation.network import Connection
from frontdesk.cluster.errors import EngineUnavailable, LeaseLost
from frontdesk.cluster.records import EntryPage, IndexEntry, Joined, LogPage, Renewed

CALL_S = 0.7
"""So long one try waits: a create fits several into its two seconds."""


class SimulatedEngine:
    """Ask the server. An `Engine`; belongs to one process."""

    def __init__(self, process):
        self._process, self._world = process, process.world
        self.known = 0
        self._connections = {}

    async def ask(self, verb, *arguments, over="calls", wait_s=CALL_S, **options):
        """Ask over one of the connections, and wait for the answer."""

        def work(answer):
            try:
                value = self._world.server.execute(verb, self.known, arguments, options)
            except Exception as error:  # what the index raises is an answer
                answer(None, error)
            else:
                answer(value)

        return await self._call(work, over, wait_s)

    async def _call(self, work, over, wait_s):
        loop = asyncio.get_running_loop()
        connection = self._connections.get(over)
        if connection is None:
            connection = self._connections[over] = Connection(self._process.name, loop)
        future = loop.create_future()

        def done(value, error):
            if future.done():
                return
            if error is None:
                self.known = max(self.known, _revision_of(value))
                future.set_result(value)
            else:
                future.set_exception(error)

        self._world.network.call(connection, work, done)
        # Not `asyncio.timeout`: thousands of calls make a history, thousands of histories a test.
        overdue = loop.call_later(wait_s, done, None, EngineUnavailable("it has not answered"))
        try:
            return await future
        except EngineUnavailable:
            if self._connections.get(over) is connection:
                del self._connections[over]
            raise
        finally:
            overdue.cancel()

    # -- nodes -----------------------------------------------------------------------------------

    async def join(self, node, *, terms, era=None):
        self._world.names[node.incarnation] = node.name
        joined = await self.ask("join", node, terms=terms, era=era)
        self._world.write(h.NodeJoined, node=node.name, incarnation=node.incarnation)
        return joined

    async def leave(self, incarnation):
        while not (await self.ask("leave", incarnation)).done:
            pass

    def lease_connection(self):
        return SimulatedLeaseConnection(self)

    async def renew(self, renewal, wait_s):
        asked_at = self._world.clockwork.now
        renewed = await self.ask("renew", renewal, over="lease", wait_s=wait_s)
        self._world.write(
            h.Renewed,
            node=self._process.name,
            asked_at=asked_at,
            incarnation=renewal.incarnation,
            matches=renewed.matches,
        )
        return renewed

    async def nodes(self):
        return await self.ask("nodes")

    async def bury(self, incarnation, *, proven):
        return await self.ask("bury", incarnation, proven=proven)

    # -- sessions --------------------------------------------------------------------------------

    async def reserve(self, entry, *, limits, ttl_s):
        await self.ask("reserve", entry, limits=limits, ttl_s=ttl_s)

    async def release(self, incarnation, session_id, *, token):
        await self.ask("release", incarnation, session_id, token=token)

    async def create(self, entry, *, limits):
        self._world.create_asked(self._process, entry, limits)
        try:
            fence = await self.ask("create", entry, limits=limits)
        except EngineUnavailable:
            raise
        except Exception as error:
            self._world.write(h.CreateAnswered, token=entry.token, refused=type(error).__name__)
            raise
        self._world.write(h.CreateAnswered, token=entry.token, fence=fence)
        return fence

    async def restore(self, incarnation, entries, *, complete):
        return await self.ask("restore", incarnation, entries, complete=complete)

    async def update(self, incarnation, session_id, **changes):
        return await self.ask("update", incarnation, session_id, **changes)

    async def end(self, incarnation, ends):
        for end in ends:
            told = {"session_id": end.session_id, "fence": end.fence}
            self._world.write(h.EndTold, node=self._process.name, **told)
        await self.ask("end", incarnation, ends)

    async def read(self, session_id):
        return await self.ask("read", session_id)

    async def list(self, selection, *, after=0, limit=1000):
        limit = min(limit, self._world.page_entries)
        return await self.ask("list", selection, after=after, limit=limit)

    async def count(self, selection):
        return await self.ask("count", selection)

    async def follow(self, after, *, era, limit=1000, wait_s):
        def work(answer):
            self._world.server.follow(self.known, after, era, limit, wait_s, answer)

        return await self._call(work, "log", wait_s + CALL_S)

    # -- shared besides sessions -----------------------------------------------------------------

    async def take(self, counted, *, limit, window_s):
        return await self.ask("take", counted, limit=limit, window_s=window_s)

    async def claim(self, incarnation, slot, *, digest, ttl_s):
        return await self.ask("claim", incarnation, slot, digest=digest, ttl_s=ttl_s)

    async def publish(self, name, totals):
        await self.ask("publish", name, totals)

    async def totals(self):
        return await self.ask("totals")


def _revision_of(answer):
    """Return the highest revision that an answer tells of."""
    match answer:
        case bool():
            return 0
        case int():
            return answer
        case Joined() | Renewed() | EntryPage():
            return answer.revision
        case LogPage():
            return answer.head
        case IndexEntry():
            return answer.version
    return 0


class SimulatedLeaseConnection:
    """What the thread of the lease renews over; see `VirtualLease`."""

    def __init__(self, engine):
        self.engine = engine

    def close(self):
        pass


class VirtualLease:
    """Stands in for `LeaseThread`: the same steps, on a loop that stands for the thread.

    It goes on while the process's own loop hangs, and stands still where the process does.
    """

    def __init__(self, source, *, terms):
        self._source, self._terms = source, terms
        self._engine = source.connect().engine
        self._loop = self._engine._process.lease_loop
        self._ending = False
        self._ran_since_s = source.now_s()
        self._soon = asyncio.Event()

    def start(self):
        self._loop.create_task(self._run())

    def renew_soon(self):
        self._loop.call_soon(self._soon.set)

    def end(self):
        self._ending = True
        self.renew_soon()

    def join(self):
        pass

    async def _run(self):
        from frontdesk.cluster import decisions, lease_thread

        source, terms = self._source, self._terms
        while not self._ending:
            began_s = source.now_s()
            age_s = self._stall_s(began_s)
            if decisions.must_end_itself(age_s, terms=terms):
                source.end_process()
            outcome = await self._renew_once(age_s)
            if not self._ending:
                source.report(outcome)
            failed = outcome.renewed is None
            pause_s = terms.renew_s / (lease_thread.RETRIES_IN_A_RENEWAL if failed else 1)
            took_s = 0.0 if failed else outcome.at_s - outcome.sent_s
            waking = self._loop.call_later(max(0.0, pause_s - took_s), self._soon.set)
            await self._soon.wait()
            waking.cancel()
            self._soon.clear()
            if source.now_s() - began_s > terms.lease_s:
                self._ran_since_s = source.now_s()

    def _stall_s(self, now_s):
        from frontdesk.cluster import decisions

        moved_s = self._source.moved_s()
        return decisions.stall_s(moved_s=moved_s, ran_since_s=self._ran_since_s, now_s=now_s)

    async def _renew_once(self, age_s):
        from frontdesk.cluster.decisions import RenewalOutcome

        source = self._source
        sent_s = source.now_s()
        try:
            renewed = await self._engine.renew(source.renewal(age_s), self._terms.renew_s)
        except LeaseLost:
            return RenewalOutcome(sent_s, source.now_s(), lost=True)
        except EngineUnavailable:
            return RenewalOutcome(sent_s, source.now_s())
        return RenewalOutcome(sent_s, source.now_s(), renewed)
