"""Which of a tenant's sessions a list has, in which order, and where its next page begins.

Sessions stand in the order of their numbers, wherever they are: here, with an agent or without, or
in the storage alone. A session keeps its number while it goes from one to the other, so that a list
that is read page by page has it once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from frontdesk.agents.records import State
from frontdesk.errors import InvalidArgument
from frontdesk.persistence.operations import ConversationState
from frontdesk.persistence.stored import ListQuery, StoredConversation
from frontdesk.sessions.conversation import Conversation

T = TypeVar("T")

MAX_CURSOR_DIGITS = 20

ENDED: Literal["ended"] = "ended"
SessionState = State | Literal["ended"]
WITHOUT_AGENT: frozenset[str] = frozenset({"idle", "restarting"})
"""The states that a session without an agent can be in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery:
    """What a list of sessions asks for; None asks for all.

    `after` is the number of the last one before. With `ended` those that have ended are listed as
    well. `from_ms` and `to_ms` bound when a session was opened, the latter not included.
    """

    limit: int = 100
    after: int = 0
    ended: bool = False
    states: frozenset[str] = frozenset()
    blueprint: str | None = None
    label: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    def of_storage(self, tenant_id: str) -> ListQuery | None:
        """Return what the storage is asked for; None where it can have none of it.

        One more than goes on the page, which says whether there is a next one.
        """
        states: list[ConversationState] = []
        if not self.states or self.states & WITHOUT_AGENT:
            states += ["live", "dormant"]
        if self.ended if not self.states else ENDED in self.states:
            states.append("ended")
        if not states:
            return None
        return ListQuery(
            tenant_id=tenant_id,
            after=self.after,
            limit=self.limit + 1,
            states=tuple(states),
            blueprint=self.blueprint,
            label=self.label,
            from_ms=self.from_ms,
            to_ms=self.to_ms,
        )

    def takes(self, conversation: Conversation) -> bool:
        """Say whether a session that is here is asked for."""
        return (
            conversation.number > self.after
            and (not self.states or self.takes_state(state_of(conversation)))
            and self.blueprint in (None, conversation.blueprint)
            and self.label in (None, conversation.label)
            and (self.from_ms is None or conversation.created_at >= self.from_ms)
            and (self.to_ms is None or conversation.created_at < self.to_ms)
        )

    def takes_state(self, state: str) -> bool:
        """Say whether sessions in this state are asked for."""
        return not self.states or state in self.states


@dataclass(frozen=True, slots=True)
class SessionPage(Generic[T]):
    """A part of a list. `next` is where the following part begins after, None where there is none.

    It may have fewer than were asked for, also where more follow.
    """

    sessions: tuple[T, ...]
    next: int | None


def page_of(found: Mapping[int, T], asked: SessionQuery, *, until: int | None) -> SessionPage[T]:
    """Return the first of what was found under its numbers.

    After the number `until` there is more that was not looked at; None where there is not.
    """
    numbers = sorted(number for number in found if until is None or number <= until)
    page = numbers[: asked.limit]
    following = page[-1] if len(numbers) > len(page) else until
    return SessionPage(tuple(found[number] for number in page), following)


def until_of(stored: Sequence[StoredConversation], asked: SessionQuery) -> int | None:
    """Return up to which number the storage was looked at; None where that was all of it."""
    return stored[-1].number if len(stored) > asked.limit else None


def number_after(cursor: str | None) -> int:
    """Return the number that a page begins after; `InvalidArgument` for what is no cursor."""
    cursor = "0" if cursor is None else cursor
    if cursor.isascii() and cursor.isdigit() and len(cursor) < MAX_CURSOR_DIGITS:
        return int(cursor)
    raise InvalidArgument("after", expected="a cursor from `next`", got=repr(cursor[:40]))


def state_of(session: Conversation | StoredConversation) -> SessionState:
    """Return what a session is doing, as a list says it."""
    if isinstance(session, Conversation):
        public = session.public or session.snapshot()
        return ENDED if public.ended else public.state
    if session.state == ENDED:
        return ENDED
    return "restarting" if session.waiting else "idle"
