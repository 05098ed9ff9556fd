"""Names for the ends of a conversation's turns, from which it can be forked."""

from __future__ import annotations

import re

import msgspec

from frontdesk.agents.ids import NAME
from frontdesk.errors import InvalidArgument
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.operations import CheckpointMade, CheckpointRemoved
from frontdesk.persistence.stored import StoredCheckpoint
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import CheckpointRefused, NotStored, UnknownCheckpoint
from frontdesk.sessions.forking import latest_end
from frontdesk.sessions.remembered import position_after

MAX_CHECKPOINTS = 100
"""Of one conversation."""

_NAME = re.compile(NAME)


class Checkpoints:
    """The checkpoints of a conversation that is stored; `NotStored` for any other.

    Whether it lives, is dormant or has ended makes no difference.
    """

    def __init__(self, conversation: Conversation) -> None:
        commits = conversation.service.commits
        if conversation.record is None or commits is None:
            raise NotStored(conversation.session_id)
        self._commits: CommitQueue = commits
        self._conversation = conversation

    async def all(self) -> list[StoredCheckpoint]:
        """Return all of them, oldest first: those that are stored."""
        number = self._conversation.number
        return await self._commits.read(
            lambda store: store.checkpoints(number), asker=self._conversation.tenant_id
        )

    async def get(self, name: str) -> StoredCheckpoint:
        """Return one. `UnknownCheckpoint`."""
        for each in await self.all():
            if each.name == name:
                return each
        raise UnknownCheckpoint(name)

    async def make(self, name: str) -> StoredCheckpoint:
        """Name the end of the last turn that has ended. The same again changes nothing.

        `CheckpointRefused` where no turn has ended, where the name is another turn's, and where
        there are too many; `InvalidArgument` for what cannot be a name.
        """
        if not _NAME.fullmatch(name) or name in (".", "..") or name.startswith("req_"):
            expected = f"{NAME}, not beginning with req_, neither . nor .."
            raise InvalidArgument("name", expected=expected, got=repr(name[:80]))
        conversation, number = self._conversation, self._conversation.number
        while True:
            turns = conversation.counters.turns
            await conversation.committed()
            checkpoints, turn = await self._commits.read(
                lambda store: (store.checkpoints(number), latest_end(store, number)),
                asker=conversation.tenant_id,
            )
            if conversation.counters.turns == turns:
                break  # else what a turn left meanwhile may have replaced what this one had
        if turn is None:
            raise CheckpointRefused(name, problem="no turn has ended yet")
        for each in checkpoints:
            if each.name == name and each.request_id == turn.request_id:
                return each
            if each.name == name:
                raise CheckpointRefused(name, problem="it names the end of another turn")
        if len(checkpoints) >= MAX_CHECKPOINTS:
            problem = f"there are {MAX_CHECKPOINTS} already"
            raise CheckpointRefused(name, problem=problem)
        made = StoredCheckpoint(
            name=name,
            request_id=turn.request_id,
            position=position_after(turn),
            at_ms=conversation.service.clock.wall_ms(),
        )
        self._commits.add(CheckpointMade(number=number, **msgspec.structs.asdict(made)))
        await conversation.committed()
        return made

    async def remove(self, name: str) -> None:
        """Remove one; the turn and what was forked from it stay. `UnknownCheckpoint`."""
        await self.get(name)
        self._commits.add(CheckpointRemoved(number=self._conversation.number, name=name))
        await self._conversation.committed()
