"""Stores with one fault each, and the law that is meant to catch it.

Above `plain_store.py`, whose methods they break. Each fault is one that real registries have had;
`tests/laws/test_broken_stores.py` shows that none of them passes.
"""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from contextlib import suppress
from dataclasses import replace

from frontdesk.errors import SessionLimitExceeded
from frontdesk.monitors import monitor
from frontdesk.records import Ended, ExitReason, Metadata, Snapshot
from laws.plain_store import PlainSession, PlainStore, PlainWatch, concerns

IMPATIENT_S = 0.5
"""How long a law waits for what a broken store never tells."""


class LastWriteWins(PlainStore):
    """A second create takes the id from its live holder."""

    def admit(self, asked):
        self.entries.pop(asked.session_id, None)
        self.admit_by_limits(asked)


class CleansUpById(PlainStore):
    """The end of an agent removes whatever is registered under its id now."""

    def on_exit(self, session, reason):
        with self.lock:
            present = self.entries.get(session.session_id)
            if present is not None:
                self.remove(present, reason)
        self.wake()

    def reap(self):
        for session_id, session in list(self.entries.items()):
            if not self.is_alive(session):
                del self.entries[session_id]
                self.record_end(session, session.monitor.exit_reason())


class IndexThatForgets(PlainStore):
    """The whole bucket of a tenant is dropped when one of its sessions goes."""

    def __init__(self, options, **how):
        super().__init__(options, **how)
        self.tenants: dict[str, set[str]] = {}

    def enter(self, asked, agent):
        session = super().enter(asked, agent)
        self.tenants.setdefault(asked.tenant_id, set()).add(asked.session_id)
        return session

    def remove(self, session, reason):
        super().remove(session, reason)
        self.tenants.pop(session.tenant_id, None)

    async def list_by_tenant(self, tenant_id):
        known = self.tenants.get(tenant_id, ())
        return [one for one in self.selected(tenant_id=tenant_id) if one.session_id in known]


class SecondDictionaryNotCleaned(PlainStore):
    """The count of a tenant goes up with every create and never down."""

    def __init__(self, options, **how):
        super().__init__(options, **how)
        self.counts: dict[str, int] = {}

    def enter(self, asked, agent):
        self.counts[asked.tenant_id] = self.counts.get(asked.tenant_id, 0) + 1
        return super().enter(asked, agent)

    async def count_by_tenant(self, tenant_id):
        return self.counts.get(tenant_id, 0)


class FeedWithAGap(PlainStore):
    """Every tenth change is not told."""

    def publish(self, kind, metadata, *of_an_end):
        super().publish(kind if (self.revision + 1) % 10 else Lost, metadata, *of_an_end)

    async def watch(self, *, tenant_id=None, api_key=None):
        return WatchWithAGap(self, tenant_id, api_key)


class Lost:
    """A change that nobody is told of."""

    def __init__(self, revision, metadata, *of_an_end):
        self.revision, self.session = revision, metadata


class WatchWithAGap(PlainWatch):
    async def read(self):
        await super().read()
        self.ready = [one for one in self.ready if not isinstance(one, Lost)]


class SlowWatchLosesSilently(PlainStore):
    """A watch that fell behind goes on with what is still held, as if nothing were missing."""

    async def watch(self, *, tenant_id=None, api_key=None):
        return LosingWatch(self, tenant_id, api_key)


class LosingWatch(PlainWatch):
    def fell_behind(self):
        self.cursor = self.store.feed.oldest - 1


class FilterTooNarrow(PlainStore):
    """A watch with a scope leaves out the snapshot's sessions."""

    async def watch(self, *, tenant_id=None, api_key=None):
        watch = PlainWatch(self, tenant_id, api_key)
        if (tenant_id, api_key) != (None, None):
            watch.ready = [type(one)(one.revision, (), one.resync) for one in watch.ready]
        return watch


class TenantsMixed(PlainStore):
    """A watch of one tenant hears of every other."""

    async def watch(self, *, tenant_id=None, api_key=None):
        return PlainWatch(self, None, None)


class ReturnsTheFinished(PlainStore):
    """A lookup trusts the callback alone, and returns an agent that has finished."""

    def is_alive(self, session):
        return True


class FinishedBlockTheId(PlainStore):
    """A lookup is right, but a create does not reap: the name cannot be taken again."""

    def reap(self):
        pass


class LimitsOutsideTheLock(PlainStore):
    """The limit is checked first and the entry made later, and others come in between."""

    async def create(self, session_id, agent, **attributes):
        if self.limits.total is not None and len(self.entries) >= self.limits.total:
            raise SessionLimitExceeded(scope="total", limit=self.limits.total)
        time.sleep(0.01)  # the fault: long enough for every racer to have looked
        return await super().create(session_id, agent, **attributes)

    def admit_by_limits(self, asked):
        pass


class RacersOverwrite(PlainStore):
    """The id is looked up first and taken later: two racers are both told that they won."""

    async def create(self, session_id, agent, **attributes):
        with suppress(KeyError):
            await self.get(session_id)
            return await super().create(session_id, agent, **attributes)
        time.sleep(0.01)  # the fault: long enough for every racer to have looked
        with self.lock:
            self.entries.pop(session_id, None)
        return await super().create(session_id, agent, **attributes)


class MonitorsBeforeItChecks(PlainStore):
    """A refused create leaves its monitor behind."""

    async def create(self, session_id, agent, **attributes):
        watching = monitor(agent, lambda reason: None)
        session = await super().create(session_id, agent, **attributes)
        watching.cancel()
        return session


class EntersBeforeItChecks(PlainStore):
    """A refused create leaves its index behind."""

    def __init__(self, options, **how):
        super().__init__(options, **how)
        self.keys: list[str] = []

    async def create(self, session_id, agent, **attributes):
        self.keys.append(attributes.get("api_key"))
        return await super().create(session_id, agent, **attributes)

    async def count_by_api_key(self, api_key):
        return self.keys.count(api_key)


class EndsTwice(PlainStore):
    """A delete leaves the monitor armed, and the agent's end is told once more."""

    async def delete(self, session_id, *, fence=None):
        with self.lock:
            session = self.entries.get(session_id)
            if session is not None and fence in (None, session.fence):
                self.remove(session, ExitReason.of("deleted"))
        self.wake()

    def on_exit(self, session, reason):
        with self.lock:
            self.remove(session, reason)
        self.wake()


class EndsOneEntryOnly(PlainStore):
    """Of an agent with many ids only the first is removed when it ends."""

    def __init__(self, options, **how):
        super().__init__(options, **how)
        self.first: dict[object, int] = {}

    def on_exit(self, session, reason):
        if self.first.setdefault(session.agent, session.fence) == session.fence:
            super().on_exit(session, reason)

    def is_alive(self, session):
        return True


class DeletesWithAnyFence(PlainStore):
    """The fence of a delete is not looked at."""

    async def delete(self, session_id, *, fence=None):
        await super().delete(session_id)


class EveryReasonIsNormal(PlainStore):
    """How an agent ended is not looked at."""

    def on_exit(self, session, reason):
        super().on_exit(session, ExitReason.of("normal"))


class DeleteRenamesTheReason(PlainStore):
    """A delete of a finished agent's session says `deleted`, whatever the agent died of."""

    async def delete(self, session_id, *, fence=None):
        with self.lock:
            session = self.entries.get(session_id)
            if session is not None and fence in (None, session.fence):
                self.remove(session, ExitReason.of("deleted"))
                session.monitor.cancel()
        self.wake()


class DeleteKillsTheAgent(PlainStore):
    """A delete ends the agent."""

    async def delete(self, session_id, *, fence=None):
        session = self.entries.get(session_id)
        await super().delete(session_id, fence=fence)
        if session is not None and hasattr(session.agent, "end"):
            session.agent.end()


class EntersTheDead(PlainStore):
    """A dead agent is registered like a live one, and stays."""

    def enter(self, asked, agent):
        session = super().enter(asked, agent)
        self.entries.setdefault(asked.session_id, session)
        return session

    def is_alive(self, session):
        return True


class KeepsEveryAgent(PlainStore):
    """The memory of ends keeps the agents, with all that they hold."""

    def __init__(self, options, **how):
        super().__init__(options, **how)
        self.graveyard: list[PlainSession] = []

    def remove(self, session, reason):
        self.graveyard.append(session)
        super().remove(session, reason)


class HoldsAgentsWeakly(PlainStore):
    """The entry does not keep its agent: what nobody else references is collected."""

    def enter(self, asked, agent):
        session = super().enter(asked, agent)
        if isinstance(agent, asyncio.Future):
            session.agent = weakref.proxy(agent)
            session.monitor = _AlwaysAlive()
            del agent
            gc.collect()
        return session


class _AlwaysAlive:
    alive = True

    def cancel(self):
        pass


class ClosesSilently(PlainStore):
    """Watches are not told what became of the sessions when the store was closed."""

    async def close(self):
        with self.lock:
            for session in self.entries.values():
                session.monitor.cancel()
            self.entries.clear()
            self.is_closed = True
        self.wake()


class ClosesHalf(PlainStore):
    """A closed store goes on answering."""

    def require_open(self):
        pass


class UpdateMakesAnew(PlainStore):
    """An update is a delete and a create: the fence changes, and the place in the list."""

    async def update(self, session_id, **attributes):
        old = await self.get(session_id)
        known = {
            name: getattr(old, name) for name in ("api_key", "tenant_id", "blueprint", "model")
        }
        await self.delete(session_id)
        return await self.create(session_id, old.agent, **{**known, **attributes})


class ListsInAnyOrder(PlainStore):
    """Listings are in the order of the ids."""

    def selected(self, **scope):
        return sorted(super().selected(**scope), key=lambda one: one.session_id)


class FactoryForEveryCaller(PlainStore):
    """Every caller that finds nothing makes an agent."""

    async def get_or_create(self, session_id, factory, **attributes):
        agent = factory()
        with self.lock, suppress(KeyError):
            return await self.get(session_id)
        return await self.create(session_id, agent, **attributes)


class FactoryOfTheFirstCaller(PlainStore):
    """The awaited factory is its first caller's: cancelled with it, for all who wait."""

    async def get_or_create_async(self, session_id, factory, **attributes):
        if session_id not in self.constructions:
            self.begin(session_id, factory, attributes)
            return await self.constructions[session_id][1]
        return await super().get_or_create_async(session_id, factory, **attributes)


class FactoryOutlivesItsCallers(PlainStore):
    """Who is cancelled only goes away; the awaited factory runs on for nobody."""

    async def end_construction(self, task):
        if not task.done():
            self.orphan = task


class WakesNobodyAfterARefusal(PlainStore):
    """A refused create that reaped somebody forgets to wake who waits to be told."""

    creating = False

    async def create(self, session_id, agent, **attributes):
        self.creating = True
        try:
            session = await super().create(session_id, agent, **attributes)
        finally:
            self.creating = False
        self.wake()
        return session

    def wake(self):
        if not self.creating:
            super().wake()

    def on_exit(self, session, reason):
        present = self.entries.get(session.session_id)
        if present is not None and present.fence == session.fence:
            super().on_exit(session, reason)


class ForgetsTheModel(PlainStore):
    """What a session was created with is not all kept."""

    async def create(self, session_id, agent, *, model=None, **attributes):
        return await super().create(session_id, agent, **attributes)


class TenantOfNobody(PlainStore):
    """Without a tenant, a session has that of nobody."""

    async def create(self, session_id, agent, *, tenant_id="nobody", **attributes):
        return await super().create(session_id, agent, tenant_id=tenant_id, **attributes)


class EndsWhatIsNotThere(PlainStore):
    """A delete of a missing id is told as an end."""

    async def delete(self, session_id, *, fence=None):
        if session_id not in self.entries:
            nobody = Metadata(session_id, 0, None, "default", 0, None, None, fence=0)
            self.publish(Ended, nobody, ExitReason.of("deleted"), 0)
        await super().delete(session_id, fence=fence)


class FencesStartAnew(PlainStore):
    """The first session of every id has the same fence as the next one."""

    def enter(self, asked, agent):
        session = super().enter(asked, agent)
        fences = self.__dict__.setdefault("fences", {})
        fence = fences.setdefault(asked.session_id, session.fence)
        session.metadata = replace(session.metadata, fence=fence)
        return session


class ShowsTheKey(PlainStore):
    """A session shows in its repr which key it was created with."""

    def enter(self, asked, agent):
        session = super().enter(asked, agent)
        session.__class__ = _ShowingSession
        return session


class _ShowingSession(PlainSession):
    def __repr__(self):
        return f"PlainSession({self.session_id!r}, api_key={self.api_key!r})"


class TakesAnyId(PlainStore):
    """Any string will do for an id, and anything else."""

    def check(self, **identifiers):
        pass


class CountsLate(PlainStore):
    """Counting says what was there when somebody counted last."""

    counted = 0

    async def count(self):
        before, self.counted = self.counted, await super().count()
        return before


class BeginsWithNothing(PlainStore):
    """A watch begins with an empty snapshot, whoever lives."""

    async def watch(self, *, tenant_id=None, api_key=None):
        watch = PlainWatch(self, tenant_id, api_key)
        watch.ready = [Snapshot(watch.cursor, ())]
        return watch


class OneWatchAtATime(PlainStore):
    """A new watch silences the one before."""

    async def watch(self, *, tenant_id=None, api_key=None):
        self.latest = SilencedWatch(self, tenant_id, api_key)
        return self.latest


class SilencedWatch(PlainWatch):
    async def read(self):
        if self.store.latest is not self:
            await asyncio.Event().wait()
        await super().read()


class MissingIsNone(PlainStore):
    """A lookup of an id that nobody holds returns nothing instead of saying so."""

    async def get(self, session_id):
        with suppress(KeyError):
            return await super().get(session_id)


class NoKeyIsAKey(PlainStore):
    """`None` is a key like any other, limited and listed."""

    def selected(self, *, tenant_id=None, api_key=None):
        sessions = super().selected(tenant_id=tenant_id)
        return [one for one in sessions if api_key in (None, str(one.api_key))]

    def admit_by_limits(self, asked):
        super().admit_by_limits(asked)
        limit = self.limits.per_api_key
        same = [one for one in self.entries.values() if concerns(one, None, asked.api_key)]
        if limit is not None and len(same) >= limit:
            raise SessionLimitExceeded(scope="per_api_key", limit=limit)


CAUGHT_BY = {
    LastWriteWins: "a-live-holder-keeps-its-id",
    CleansUpById: "the-late-end-of-the-old-leaves-the-new-alone",
    IndexThatForgets: "an-index-forgets-nobody-else",
    SecondDictionaryNotCleaned: "a-name-that-moves-leaves-its-former-tenant",
    FeedWithAGap: "revisions-are-contiguous",
    SlowWatchLosesSilently: "a-slow-watch-is-resynchronised",
    FilterTooNarrow: "a-filtered-watch-tells-of-its-own-only",
    TenantsMixed: "a-filtered-watch-tells-of-its-own-only",
    ReturnsTheFinished: "a-finished-agent-is-never-returned",
    FinishedBlockTheId: "the-id-of-a-finished-agent-is-free",
    LimitsOutsideTheLock: "the-limit-of-all-holds-in-a-race",
    RacersOverwrite: "one-racer-wins",
    MonitorsBeforeItChecks: "a-refused-create-leaves-nothing",
    EntersBeforeItChecks: "a-create-refused-by-a-limit-leaves-nothing",
    EndsTwice: "a-session-ends-once",
    EndsOneEntryOnly: "an-end-removes-every-entry-of-the-agent",
    DeletesWithAnyFence: "a-fenced-delete-removes-that-incarnation-only",
    EveryReasonIsNormal: "a-task-ends-with-its-reason",
    DeleteRenamesTheReason: "a-delete-keeps-the-reason-of-the-finished",
    DeleteKillsTheAgent: "deleting-leaves-the-agent-alone",
    EntersTheDead: "a-dead-agent-leaves-nothing-behind",
    KeepsEveryAgent: "a-gone-agent-is-released",
    HoldsAgentsWeakly: "a-registered-agent-is-not-collected",
    ClosesSilently: "closing-tells-the-watches",
    ClosesHalf: "closing-is-final",
    UpdateMakesAnew: "an-update-keeps-the-fence",
    ListsInAnyOrder: "listings-are-oldest-first",
    FactoryForEveryCaller: "a-factory-runs-once",
    FactoryOfTheFirstCaller: "an-awaited-factory-runs-once",
    FactoryOutlivesItsCallers: "the-last-cancellation-ends-the-factory",
    MissingIsNone: "a-missing-session-is-not-found",
    WakesNobodyAfterARefusal: "a-refused-create-tells-the-end-it-found",
    ForgetsTheModel: "a-session-carries-what-it-was-created-with",
    TenantOfNobody: "attributes-have-defaults",
    EndsWhatIsNotThere: "deleting-a-missing-session-does-nothing",
    FencesStartAnew: "a-later-session-has-the-greater-fence",
    ShowsTheKey: "no-repr-shows-the-key",
    TakesAnyId: "impossible-values-are-refused",
    CountsLate: "a-count-is-never-less-than-the-list",
    BeginsWithNothing: "a-watch-begins-with-a-snapshot",
    OneWatchAtATime: "every-watch-hears-everything",
    NoKeyIsAKey: "no-key-is-not-limited",
}
"""Which law is meant to catch which fault."""
