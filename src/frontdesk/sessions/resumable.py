"""Whether a dormant session can have an agent, as far as is known untried, and what that gets."""

from __future__ import annotations

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.protocol import RunningAgent
from frontdesk.agents.records import Restored, SessionContext
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.remembered import restored


def rules_of(blueprints: Blueprints, name: str) -> Blueprint:
    """Return the blueprint of a name, or one that makes no agents where there is none."""
    found = blueprints.get(name)
    return Blueprint(name=name, kind="gone", factory=NoFactory(name)) if found is None else found


def problem_of(blueprints: Blueprints, conversation: Conversation) -> str | None:
    """Return why a session can have no agent; None where nothing is known of that."""
    if conversation.unreadable is not None:
        return conversation.unreadable
    rules = blueprints.get(conversation.blueprint)
    if rules is None:
        return f"there is no blueprint {conversation.blueprint!r} any more"
    if not rules.allows(conversation.model):
        return f"blueprint {rules.name!r} allows model {conversation.model!r} no more"
    return None


class NoFactory:
    """In place of what a blueprint made that there is no more."""

    def __init__(self, blueprint: str) -> None:
        self._problem = f"there is no blueprint {blueprint!r} any more"

    def check(self, context: SessionContext) -> None:  # noqa: ARG002
        raise CreateFailed(self._problem)

    async def start(self, context: SessionContext) -> RunningAgent:  # noqa: ARG002
        raise CreateFailed(self._problem)


async def read_restored(commits: CommitQueue, conversation: Conversation) -> Restored:
    """Return what the next agent of a stored conversation gets, once all that was said is stored.

    `StorageUnavailable` where the storage does not take that in time, `ConversationUnreadable`.
    """
    await conversation.committed()
    number = conversation.number
    messages, newest = conversation.history.all(), conversation.history.last_position
    if (own := conversation.turn_messages) > 0:
        # What is of a turn that waits is not of the turns before.
        messages, newest = messages[:-own], newest - own
    return await commits.read(
        lambda store: restored(store, number, history=messages, newest=newest),
        asker=conversation.tenant_id,
    )
