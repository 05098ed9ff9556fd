"""The entries of a service's sessions in the cluster's index: a place first, then the entry.

Between the supervisor and the cluster's node, of which nothing is here without a cluster. The
registry of this process stays the authority on its sessions; what is asked of the index is what the
nodes have to agree on: who has an id, and how many sessions there may be. Their ends are told by
the node itself, which follows the registry.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from frontdesk.cluster.errors import EngineUnavailable, LeaseLost, OwnerSuspect, Recovering
from frontdesk.cluster.records import IndexLimits
from frontdesk.errors import (
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
    StoreClosed,
)
from frontdesk.records import Session
from frontdesk.sessions.live import LiveSession
from frontdesk.store import SessionStore

if TYPE_CHECKING:
    from frontdesk.cluster.node import Node

RETRY_S = 0.5
"""How often a session that lives is entered again while the index cannot take it."""


class ClusterEntries:
    """Reserve, enter and release sessions in the index. Belongs to one event loop."""

    __slots__ = ("_node", "_store")

    def __init__(self, node: Node, store: SessionStore[Any]) -> None:
        self._node, self._store = node, store

    async def reserve(self, live_session: LiveSession) -> str:
        """Hold a session's id and its place under the limits of all nodes; return the token.

        Raises `SessionAlreadyExists`, `SessionLimitExceeded`, and what can be tried again:
        `OwnerSuspect`, `Recovering`, `EngineUnavailable`.
        """
        conversation = live_session.conversation
        with _in_words_of(conversation.session_id):
            return await self._node.reserve(
                live_session.registry_key,
                tenant_id=conversation.tenant_id,
                api_key=conversation.api_key,
                blueprint=conversation.blueprint,
                model=conversation.model,
                minted=live_session.minted,
                limits=self._limits(live_session),
            )

    async def enter(self, live_session: LiveSession, *, token: str) -> None:
        """Enter a session whose agent has just been registered here. Raises as `reserve` does."""
        with _in_words_of(live_session.conversation.session_id):
            fence = await self._node.create(
                self._store.get(live_session.registry_key),
                token=token,
                minted=live_session.minted,
                limits=self._limits(live_session),
            )
        live_session.conversation.bind_fence(fence)

    async def enter_next(self, live_session: LiveSession, entry: Session[Any]) -> bool:
        """Enter a session's next agent, however long that takes; False where another node has it.

        The agent answers meanwhile: its id was held since the last one ended, and a node that is
        cut off ends nobody's work.
        """
        key = live_session.registry_key
        while self._holds(key, entry):
            try:
                fence = await self._node.create(
                    entry,
                    token=self.next_token(live_session) or secrets.token_hex(8),
                    minted=live_session.minted,
                    limits=IndexLimits(),  # it was there before: it exceeds nothing
                )
            except SessionAlreadyExists:
                return not self._holds(key, entry)
            except (EngineUnavailable, LeaseLost, OwnerSuspect, Recovering):
                await asyncio.sleep(RETRY_S)
            else:
                live_session.conversation.bind_fence(fence)
                return True
        return True

    def next_token(self, live_session: LiveSession) -> str | None:
        """Return what a session's id is held under for its next agent, None where it is not."""
        return self._node.next_token(live_session.registry_key)

    async def release(self, live_session: LiveSession, *, token: str) -> None:
        """Give a reservation back; what cannot be told now is told later."""
        await self._node.release(live_session.registry_key, token=token)

    def _holds(self, key: str, entry: Session[Any]) -> bool:
        try:
            return self._store.get(key).fence == entry.fence
        except (SessionNotFound, StoreClosed):
            return False

    def _limits(self, live_session: LiveSession) -> IndexLimits:
        """Return the limits that hold over all nodes; that of a whole store is each node's own."""
        limits = self._store.limits
        return IndexLimits(
            per_tenant=limits.per_tenant,
            per_api_key=limits.per_api_key,
            per_blueprint=live_session.conversation.rules.max_sessions_per_tenant,
        )


@contextmanager
def _in_words_of(session_id: str) -> Iterator[None]:
    """Name session and limit as a client knows them: the index has a session with its tenant."""
    try:
        yield
    except SessionAlreadyExists as error:
        raise SessionAlreadyExists(session_id, holder=error.holder) from None
    except OwnerSuspect as error:
        raise OwnerSuspect(session_id, retry_after_s=error.retry_after_s) from None
    except SessionLimitExceeded as error:
        # A blueprint's limit is one of the tenant, as it is without other nodes.
        scope = "per_tenant" if error.scope == "per_blueprint" else error.scope
        raise SessionLimitExceeded(scope=scope, limit=error.limit) from None
