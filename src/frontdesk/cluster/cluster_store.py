"""ClusterStore: the verbs of `SessionStore`, as coroutines, over all nodes.

A node's own sessions are in its embedded store, and are looked up there; what others have is found
through the node. The laws of a store (`frontdesk.testing`) hold for it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import EllipsisType
from typing import Any

from frontdesk.cluster.cluster_watch import ClusterWatch
from frontdesk.cluster.errors import EngineUnavailable, OwnerUnreachable
from frontdesk.cluster.membership import new_token
from frontdesk.cluster.node import Node
from frontdesk.cluster.pages import all_pages
from frontdesk.cluster.records import IndexEntry, IndexLimits, Selection
from frontdesk.cluster.remote_agent import remote_session
from frontdesk.errors import (
    FrontdeskError,
    InvalidType,
    SessionAlreadyExists,
    SessionBusy,
    SessionNotFound,
)
from frontdesk.records import Ended, ExitKind, ExitReason, Fence, Session, under_fence
from frontdesk.store.get_or_create import PendingCreates

__all__ = ["ClusterStore"]

NO_LIMITS = IndexLimits()
REMOTE_SESSIONS = 32_768
"""So many sessions of other nodes are kept as they were made, and then all are made anew."""
TAKEN_PAUSE_S = 0.05
"""How often an id is asked for again that another node holds for an agent that it starts."""

_DELETED = ExitReason.of(ExitKind.DELETED)

Sessions = list[Session[Any]]
PassDelete = Callable[[Session[Any], ExitReason], Awaitable[None]]


class ClusterStore:
    """Register this node's agents under ids that are unique over all nodes; find everybody's.

    What a `SessionStore` guarantees holds here, with these differences:

    - Fences and revisions are the index's. A session that lives here has its agent; one that lives
      elsewhere a `RemoteAgent`, which says where.
    - An agent's end is known here at once, and elsewhere a moment later. `list` and `count` ask the
      index, after it was told what has ended here.
    - What needs the index raises `EngineUnavailable` while that does not answer; then nothing was
      created. Lookups of this node's sessions, and deletes of them, need it not.
    - A session can be updated only where it lives. Deletes are passed on by `delete_elsewhere`.

    The node is opened and left by whoever made it; `close` closes its store.

    Args:
        node: This process's part in the cluster.
        limits: How many sessions there may be over all nodes; how many on this one in total is its
            own store's limit.
        delete_elsewhere: Passes a delete on to the session's node: its session here and the reason.
            Without it `OwnerUnreachable` is raised instead.
    """

    def __init__(
        self,
        node: Node,
        *,
        limits: IndexLimits = NO_LIMITS,
        delete_elsewhere: PassDelete | None = None,
    ) -> None:
        self.node: Node = node
        self.limits: IndexLimits = limits
        self._store = node.store
        self._delete_elsewhere = delete_elsewhere
        self._pending = PendingCreates()
        self._creating: dict[str, asyncio.Future[None]] = {}
        # By the local store's session, so that nothing here keeps an agent alive.
        self._here: weakref.WeakKeyDictionary[Session[Any], Session[Any]]
        self._here = weakref.WeakKeyDictionary()
        self._elsewhere: dict[str, tuple[IndexEntry, Session[Any]]] = {}
        self._watches: weakref.WeakSet[ClusterWatch] = weakref.WeakSet()

    # -- writes ----------------------------------------------------------------------------------

    async def create(
        self,
        session_id: str,
        agent: Any,
        *,
        api_key: str | None = None,
        tenant_id: str = "default",
        blueprint: str | None = None,
        model: str | None = None,
    ) -> Session[Any]:
        """Register a live agent of this process under an id. One call to the engine.

        As `SessionStore.create`. `SessionAlreadyExists` has for its holder the session, or the
        `Metadata` of one on another node, or None where another node holds the id for an agent that
        it starts. `OwnerSuspect` and `Recovering` where nobody can say yet whether it is free.
        """
        attributes = {
            "api_key": api_key,
            "tenant_id": tenant_id,
            "blueprint": blueprint,
            "model": model,
        }
        return await self._create(session_id, agent, token=new_token(), attributes=attributes)

    async def _create(
        self, session_id: str, agent: Any, *, token: str, attributes: dict[str, Any]
    ) -> Session[Any]:
        """Enter a session here, then in the index; where that refuses, nothing is left here.

        What has ended here before is told before.
        """
        await self.node.flush()
        local = await self._create_here(session_id, agent, attributes)
        done = self._creating[local.session_id] = asyncio.get_running_loop().create_future()
        try:
            fence = await self.node.create(local, token=token, minted=False, limits=self.limits)
        except BaseException:
            self._store.delete(local.session_id, fence=local.fence)
            raise
        finally:
            if self._creating.get(local.session_id) is done:
                del self._creating[local.session_id]
            done.set_result(None)
        session = under_fence(local, fence)
        self._here[local] = session
        return session

    async def _create_here(
        self, session_id: str, agent: Any, attributes: dict[str, Any]
    ) -> Session[Any]:
        while True:
            try:
                return self._store.create(session_id, agent, **attributes)
            except SessionAlreadyExists as taken:
                under_way = self._creating.get(taken.session_id)
                if under_way is None:
                    holder = None if taken.holder is None else self._indexed(taken.holder)
                    raise SessionAlreadyExists(taken.session_id, holder=holder) from None
            # Whether the other one keeps the id is being asked; a second look tells.
            await asyncio.shield(under_way)

    async def delete(
        self, session_id: str, *, fence: Fence | None = None, reason: ExitReason = _DELETED
    ) -> None:
        """Remove a session; **the agent is left alone**. Never fails for an id that is not there.

        One that lives here is gone from here at once, and from the index when the engine answers.
        """
        # Checked as the store does, of which no session has this fence.
        self._store.delete(session_id, fence=-1, reason=reason)
        try:
            local = self._store.get(session_id)
        except SessionNotFound:
            with suppress(SessionNotFound):
                self._store.ended(session_id)  # one that has finished ends now, with its own reason
            await self._delete_there(session_id, fence, reason)
            return
        own = self.node.fence_of(local)
        if own is not None and fence in (None, own):
            self._store.delete(session_id, fence=local.fence, reason=reason)
            with suppress(EngineUnavailable):
                await self.node.flush()

    async def _delete_there(self, session_id: str, fence: Fence | None, reason: ExitReason) -> None:
        try:
            session = await self.get(session_id)
        except SessionNotFound:
            return
        if fence not in (None, session.fence):
            return
        if self._delete_elsewhere is None:
            problem = "it is another node, and nothing here passes a delete on"
            raise OwnerUnreachable(session_id, problem=problem)
        await self._delete_elsewhere(session, reason)

    async def update(
        self,
        session_id: str,
        *,
        model: str | EllipsisType | None = ...,
        blueprint: str | EllipsisType | None = ...,
    ) -> Session[Any]:
        """Replace the metadata of a session that lives here: same agent and fence, new revision.

        In the index when the engine answers. `OwnerUnreachable` for one that lives elsewhere.
        """
        if session_id not in self._store or self.node.fence(session_id) is None:
            await self.get(session_id)
            problem = "it is another node, where alone it can be updated"
            raise OwnerUnreachable(session_id, problem=problem)
        local = self._store.update(session_id, model=model, blueprint=blueprint)
        with suppress(EngineUnavailable):
            await self.node.flush()
        session = self._indexed(local)
        if session is None:
            raise SessionNotFound(session_id)
        return session

    async def get_or_create(
        self,
        session_id: str,
        factory: Callable[[], Any],
        *,
        timeout_s: float = 30,
        **attributes: Any,
    ) -> Session[Any]:
        """Return the live session of an id, or register the agent that `factory()` makes here.

        As `get_or_create_async`, with a plain function, which blocks the loop while it runs.
        """
        if not callable(factory):
            raise InvalidType("factory", expected="callable", got=type(factory).__name__)

        async def made() -> Any:
            return factory()

        return await self.get_or_create_async(session_id, made, timeout_s=timeout_s, **attributes)

    async def get_or_create_async(
        self,
        session_id: str,
        factory: Callable[[], Coroutine[Any, Any, Any]],
        *,
        timeout_s: float = 30,
        **attributes: Any,
    ) -> Session[Any]:
        """Return the live session of an id, or register the agent that `await factory()` makes.

        As `SessionStore.get_or_create_async`; over all nodes one factory runs, since the id is
        reserved before. Who finds it reserved by another node waits for at most `timeout_s`, then
        gets `SessionBusy`. `attributes` are those of `create`.
        """
        make = partial(self._make, session_id, factory, attributes, timeout_s)
        while True:
            session = await self._find(session_id) or await self._pending.share_async(
                session_id, make, timeout_s=timeout_s
            )
            if session is not None:
                return session

    async def _make(
        self,
        session_id: str,
        factory: Callable[[], Coroutine[Any, Any, Any]],
        attributes: dict[str, Any],
        timeout_s: float,
    ) -> Session[Any]:
        """Reserve an id, have the agent made, register it; or find what another node has made."""
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + timeout_s
        reserved = {"api_key": None, "tenant_id": "default", "blueprint": None, "model": None}
        while True:
            found = await self._find(session_id)
            if found is not None:
                return found
            try:
                return await self._make_reserved(
                    session_id,
                    factory,
                    attributes,
                    token=await self.node.reserve(
                        session_id, minted=False, limits=self.limits, **(reserved | attributes)
                    ),
                )
            except SessionAlreadyExists as taken:
                if taken.agent is not None:
                    raise
                if clock() >= deadline_s:
                    raise SessionBusy(session_id, waited_s=timeout_s) from None
            await asyncio.sleep(TAKEN_PAUSE_S)

    async def _make_reserved(
        self,
        session_id: str,
        factory: Callable[[], Coroutine[Any, Any, Any]],
        attributes: dict[str, Any],
        *,
        token: str,
    ) -> Session[Any]:
        agent = None
        try:
            agent = await factory()
            return await self._create(session_id, agent, token=token, attributes=attributes)
        except BaseException as error:
            if isinstance(error, FrontdeskError) and agent is not None:
                error.agent = agent
            await self.node.release(session_id, token=token)
            raise

    # -- reads -----------------------------------------------------------------------------------

    async def get(self, session_id: str) -> Session[Any]:
        """Return the live session of an id, wherever it lives.

        A local lookup where it is here, microseconds where the near cache has it, else a call.

        `SessionNotFound`; `Recovering`, `OwnerUnreachable` and `EngineUnavailable` where nobody can
        say.
        """
        # Not by the error of a lookup that finds nothing: that costs as much as all the rest.
        if session_id in self._store or not isinstance(session_id, str):
            own = self._indexed(self._store.get(session_id))
            if own is not None:
                return own
        located = await self.node.find(session_id)
        entry = located.entry
        known = self._elsewhere.get(session_id)
        if known is not None and known[0] is entry:
            return known[1]
        if entry.entry.incarnation == self.node.incarnation:
            raise SessionNotFound(session_id)
        session: Session[Any] = remote_session(entry, address=located.node.node.address)
        if len(self._elsewhere) >= REMOTE_SESSIONS:
            self._elsewhere.clear()
        self._elsewhere[session_id] = entry, session
        return session

    async def list(self) -> Sessions:
        """Return all live sessions of all nodes, oldest first. Costs as much as it returns."""
        self._store.count()
        return await self._select(Selection())

    async def list_by_tenant(self, tenant_id: str) -> Sessions:
        """Return a tenant's live sessions on all nodes, oldest first."""
        self._store.count_by_tenant(tenant_id)
        return await self._select(Selection(tenant_id=tenant_id))

    async def list_by_api_key(self, api_key: str) -> Sessions:
        """Return the live sessions of a key (its id) on all nodes, oldest first."""
        self._store.count_by_api_key(api_key)
        return await self._select(Selection(api_key=api_key))

    async def count(self) -> int:
        """Return the number of sessions on all nodes; see `SessionStore.count`."""
        self._store.count()
        return await self._count(Selection())

    async def count_by_tenant(self, tenant_id: str) -> int:
        """Return the number of a tenant's sessions on all nodes."""
        self._store.count_by_tenant(tenant_id)
        return await self._count(Selection(tenant_id=tenant_id))

    async def count_by_api_key(self, api_key: str) -> int:
        """Return the number of a key's sessions on all nodes."""
        self._store.count_by_api_key(api_key)
        return await self._count(Selection(api_key=api_key))

    async def ended(self, session_id: str) -> Ended:
        """Return how the last session of an id ended, on whichever node.

        This node's bounded memory of the log, once it has read what the engine has told it of.
        `SessionNotFound` where it is not remembered.
        """
        with suppress(SessionNotFound):
            self._store.ended(session_id)  # what has finished here ends now, if it had not yet
        await self.node.flush()
        await self.node.read_all()
        return self.node.ended(session_id).ended

    async def watch(
        self, *, tenant_id: str | None = None, api_key: str | None = None
    ) -> ClusterWatch:
        """Subscribe: one snapshot, then every later change on all nodes."""
        self._store.count()
        watch = self.node.watch(tenant_id=tenant_id, api_key=api_key)
        self._watches.add(watch)
        return await watch.begin()

    async def close(self) -> None:
        """End this node's sessions with `shutdown`; **the agents are left alone**. Idempotent.

        Watches deliver what is left, as far as the engine says, and end. Every later operation
        raises `StoreClosed`.
        """
        if self._store.closed:
            return
        self._store.close()
        with suppress(EngineUnavailable):
            await self.node.flush()
            await self.node.read_all()
        for watch in self._watches:
            watch.finish()

    # -- within ----------------------------------------------------------------------------------

    async def _find(self, session_id: str) -> Session[Any] | None:
        try:
            return await self.get(session_id)
        except SessionNotFound:
            return None

    async def _count(self, selection: Selection) -> int:
        await self.node.flush()
        return await self.node.count(selection)

    async def _select(self, selection: Selection) -> Sessions:
        await self.node.flush()
        pages = await all_pages(self.node.engine, selection)
        sessions = [self._session_of(entry) for page in pages for entry in page.entries]
        return [one for one in sessions if one is not None]

    def _session_of(self, entry: IndexEntry) -> Session[Any] | None:
        """Return the session of an entry in a list; None where it has ended, as is known here."""
        if entry.entry.incarnation == self.node.incarnation:
            try:
                return self._indexed(self._store.get(entry.entry.session_id))
            except SessionNotFound:
                return None
        if self.node.is_dead(entry.entry.incarnation):
            return None
        node = self.node.node(entry.entry.incarnation)
        return remote_session(entry, address=None if node is None else node.node.address)

    def _indexed(self, local: Session[Any]) -> Session[Any] | None:
        """Return a session of this node as the index has it; None where it is not in there."""
        fence = self.node.fence_of(local)
        if fence is None:
            return None
        session = self._here.get(local)
        if session is None or session.fence != fence:
            session = self._here[local] = under_fence(local, fence)
        return session
