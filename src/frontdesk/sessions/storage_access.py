"""What is stored of conversations, as this process owns and reads it, without holding any.

Below `keeping.py`, which holds those that are dormant, and has agents started for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from zlib import crc32

from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.ids import registry_key, split
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Conversations
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.operations import AnyOperation, ConversationErased
from frontdesk.persistence.stored import StoredConversation
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.live import LiveSession
from frontdesk.sessions.resumable import rules_of
from frontdesk.sessions.stored_life import read_life
from frontdesk.sessions.takeover import Takeover

COMMIT_WHOLE_S = 30.0


class StorageAccess:
    """Find, claim, read and store whole conversations. On an event loop."""

    def __init__(
        self,
        commits: CommitQueue,
        *,
        context: ServiceContext,
        blueprints: Callable[[], Blueprints],
        owner: str,
    ) -> None:
        self.commits: CommitQueue = commits
        self._context, self._blueprints = context, blueprints
        self._takeover = Takeover(commits, context=context, owner=owner)

    @property
    def node_number(self) -> int:
        """Return a number below 1024 that other owners of the same storage hardly have."""
        return crc32(self.owner.encode()) % 1024 if self.owner else 0

    @property
    def owner(self) -> str:
        """As what this process owns conversations."""
        return self._takeover.owner

    async def owner_of(self, tenant_id: str, session_id: str) -> str | None:
        """Return who answers for a stored conversation, dead or alive; None where there is none."""
        found = await self.commits.read(
            lambda store: store.find(tenant_id, session_id), asker=tenant_id
        )
        return None if found is None else found.owner

    async def stored_among(self, keys: Collection[str]) -> Collection[str]:
        """See `SessionHost.stored_among`."""

        def ask(store: Conversations) -> frozenset[str]:
            found = {key: store.find(*split(key)) for key in keys}
            return frozenset(
                key for key, each in found.items() if each is not None and each.state != "ended"
            )

        try:
            return await self.commits.read(ask)
        except StorageUnavailable:
            return keys

    async def owned(self, stored: StoredConversation) -> StoredConversation:
        """Return a conversation once it is this process's; `OwnerUnreachable` if that cannot be."""
        return stored if stored.owner == self.owner else await self._takeover.one(stored)

    async def is_taken(self, tenant_id: str, session_id: str) -> bool:
        """Say whether a stored conversation that has not ended has this id."""
        found = await self.commits.read(
            lambda store: store.find(tenant_id, session_id), asker=tenant_id
        )
        return found is not None and found.state != "ended"

    async def commit_whole(self, operations: list[AnyOperation]) -> None:
        """Store a conversation with all that it has in one commit; nothing where that fails.

        Two writes where the storage takes too long: the operations are written as soon as it can
        be done, and their erasure right after them. A crash between leaves a conversation that
        nobody was told of, whole.
        """
        number = operations[0].number
        self.commits.add(*operations)
        try:
            await self.commits.committed(number, wait_s=COMMIT_WHOLE_S)
        except BaseException:
            self.commits.add(ConversationErased(number=number))
            raise

    async def find(self, tenant_id: str, session_id: str) -> StoredConversation | None:
        """Return what is stored of a session, with all that was said of it before."""

        def find(store: Conversations) -> StoredConversation | None:
            return store.find(tenant_id, session_id)

        quiet = not self.commits.backlog()
        stored = await self.commits.read(find, asker=tenant_id)
        if stored is None or quiet:
            return stored
        # What was under way may have been this one's: it is read again after that.
        await self.commits.committed(stored.number)
        return await self.commits.read(find, asker=tenant_id)

    async def read(self, stored: StoredConversation, *, reopened: bool = False) -> LiveSession:
        """Return a stored conversation, dormant or ended, without holding it."""
        limits = self._context.settings
        life = await self.commits.read(
            lambda store: read_life(
                store, stored, messages=limits.max_messages, max_bytes=limits.max_history_bytes
            ),
            asker=stored.tenant_id,
        )
        life = replace(life, reopened=reopened)
        context = life.options.context
        rules = rules_of(self._blueprints(), stored.blueprint)
        conversation = Conversation(
            context,
            service=self._context,
            blueprint=rules,
            api_key=stored.api_key,
            number=stored.number,
            stored=True,
            life=life,
        )
        key = registry_key(stored.tenant_id, stored.session_id)
        return LiveSession(conversation, key=key, minted=False)
