"""A tenant's sessions on all nodes, a page at a time.

Above the questions between nodes. Which sessions there are, and in which order, the index says; how
each is doing, its node, asked once for all of its own on the page. A node that does not answer in
time costs its numbers, not the list: its sessions are listed with what the index knows, and the
answer says that it is partial. Where the index cannot be asked, every node is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from frontdesk.agents.ids import split
from frontdesk.cluster.errors import EngineUnavailable, OwnerUnreachable, Recovering
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import IndexEntry, NodeState, Selection
from frontdesk.gateway.forwarding.destination import status_of
from frontdesk.gateway.forwarding.list_cursors import ListCursors
from frontdesk.gateway.forwarding.node_calls import NodeCalls
from frontdesk.gateway.forwarding.stored_lists import StoredLists
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.queries import SessionsQuery
from frontdesk.schemas.answer_schemas import SessionList, SessionSummary
from frontdesk.sessions.listing import SessionQuery

SUMMARIES, OWN = "/-/summaries", "/-/own"
MAX_FENCE = 2**53


class OwnSelection(msgspec.Struct, frozen=True):
    """Which of its sessions a node is asked for: of a tenant, after a fence."""

    tenant_id: str
    after: int
    limit: int


class PageQuestion(msgspec.Struct, frozen=True):
    """What a node is asked for a page: sessions by their keys, and those between two agents.

    Of these the index has no entry: they have the place of the entry that they had.
    """

    keys: list[str]
    tenant_id: str
    after: int
    until: int


class PageAnswer(msgspec.Struct, frozen=True):
    """How a node's sessions are doing, null for one that is not there."""

    summaries: list[SessionSummary | None]
    between_agents: list[FencedSummary]


class FencedSummary(msgspec.Struct, frozen=True):
    """A session as its node has it, with its place in the list."""

    fence: int
    summary: SessionSummary


class SessionLists:
    """List a tenant's sessions, wherever they are. Belongs to one event loop."""

    def __init__(
        self,
        gateway: Gateway,
        node: Node,
        calls: NodeCalls,
        *,
        cursors: ListCursors,
        stored: StoredLists,
    ) -> None:
        self._gateway, self._node, self._calls = gateway, node, calls
        self._cursors, self._stored = cursors, stored
        calls.answers |= {SUMMARIES: self.answer_summaries, OWN: self.answer_own}

    async def page(self, tenant_id: str, query: SessionsQuery) -> SessionList:
        """Return a page of sessions after a cursor, oldest first.

        `InvalidArgument` for what is no cursor of this tenant's.
        """
        after = query.after
        place = 0 if after is None else self._cursors.fence(after, tenant_id=tenant_id)
        asked = query.asked(after=place)
        if self._gateway.service.stores:
            page, partial = await self._stored.page(tenant_id, asked)
            return self._list(page.sessions, page.next, tenant_id, partial=partial)
        found = await self._page_by_index(tenant_id, place, limit=asked.limit)
        rows = tuple(each for each in found.sessions if is_asked_for(each, asked))
        return msgspec.structs.replace(found, sessions=rows)

    async def _page_by_index(self, tenant_id: str, fence: int, *, limit: int) -> SessionList:
        try:
            selection = Selection(tenant_id=tenant_id)
            found = await self._node.list(selection, after=fence, limit=limit)
        except (EngineUnavailable, Recovering):
            return await self._page_of_nodes(OwnSelection(tenant_id, fence, limit))
        until = found.entries[-1].fence if found.more else MAX_FENCE
        rows, missing = await self._rows(found.entries, PageQuestion([], tenant_id, fence, until))
        following = until if found.more else None
        return self._list(rows, following, tenant_id, partial=missing or found.partial)

    def _list(
        self,
        rows: Sequence[SessionSummary],
        following: int | None,
        tenant_id: str,
        *,
        partial: bool,
    ) -> SessionList:
        cursor = None if following is None else self._cursors.cursor(following, tenant_id=tenant_id)
        return SessionList(sessions=tuple(rows), next=cursor, partial=partial)

    async def _rows(
        self, entries: Sequence[IndexEntry], question: PageQuestion
    ) -> tuple[list[SessionSummary], bool]:
        """Return how these are doing, and whether some node did not say."""
        by_node: dict[str, list[str]] = {
            each.node.incarnation: []
            for each in self._node.nodes()
            if each.state is NodeState.ALIVE
        }
        for each in entries:
            by_node.setdefault(each.entry.incarnation, []).append(each.entry.session_id)
        asked = [
            self._answer_of(incarnation, msgspec.structs.replace(question, keys=keys))
            for incarnation, keys in by_node.items()
        ]
        found: dict[str, SessionSummary | None] = {}
        rows: list[FencedSummary] = []
        answers = await asyncio.gather(*asked)
        for keys, answer in zip(by_node.values(), answers, strict=True):
            if answer is not None:
                found.update(zip(keys, answer.summaries, strict=True))
                rows += answer.between_agents
        now_ms = self._gateway.clock.wall_ms()
        for each in entries:
            if each.entry.session_id not in found:
                rows.append(FencedSummary(each.fence, summary_of_entry(each, now_ms=now_ms)))
            elif (summary := found[each.entry.session_id]) is not None:
                # One that has ended since is in no list.
                rows.append(FencedSummary(each.fence, summary))
        rows.sort(key=lambda each: each.fence)
        return [each.summary for each in rows], None in answers

    async def _answer_of(self, incarnation: str, question: PageQuestion) -> PageAnswer | None:
        """Return how a node's sessions are doing; None where it does not answer."""
        if incarnation == self._node.incarnation:
            return self._page_answer(question)
        status = await status_of(self._node, incarnation)
        if status is None:
            # Dead: its sessions are gone.
            return PageAnswer([None] * len(question.keys), [])
        body = msgspec.json.encode(question)
        with suppress(OwnerUnreachable):
            answer: PageAnswer = await self._calls.ask(status, SUMMARIES, body, kind=PageAnswer)
            return answer
        return None

    async def _page_of_nodes(self, asked: OwnSelection) -> SessionList:
        """Return a page as the nodes last known tell it, each of its own."""
        body = msgspec.json.encode(asked)
        others = [
            self._calls.ask(each, OWN, body, kind=list[FencedSummary])
            for each in self._node.nodes()
            if each.node.incarnation != self._node.incarnation
        ]
        answers: list[Any] = await asyncio.gather(*others, return_exceptions=True)
        rows = self._own(asked)
        for answer in answers:
            if isinstance(answer, list):
                rows += answer
            elif not isinstance(answer, OwnerUnreachable):
                raise answer
        rows.sort(key=lambda each: each.fence)
        page = rows[: asked.limit]
        following = page[-1].fence if len(rows) > asked.limit else None
        summaries = [each.summary for each in page]
        return self._list(summaries, following, asked.tenant_id, partial=True)

    # -- what other nodes ask --------------------------------------------------------------------

    async def answer_summaries(self, body: bytes) -> bytes:
        """Answer how sessions of this node are doing."""
        question = msgspec.json.decode(body, type=PageQuestion)
        return msgspec.json.encode(self._page_answer(question))

    async def answer_own(self, body: bytes) -> bytes:
        """Answer which sessions of a tenant are here."""
        return msgspec.json.encode(self._own(msgspec.json.decode(body, type=OwnSelection)))

    def _page_answer(self, question: PageQuestion) -> PageAnswer:
        service = self._gateway.service
        living = [service.latest(key) if service.lives(key) else None for key in question.keys]
        summaries = [None if each is None else SessionSummary.of(each) for each in living]
        between = [
            FencedSummary(each.entry_fence, SessionSummary.of(each))
            for each in service.live_of_tenant(question.tenant_id)
            if each.state == "restarting" and question.after < each.entry_fence <= question.until
        ]
        asked = set(question.keys)
        return PageAnswer(
            summaries,
            [
                each
                for each in between
                if f"{question.tenant_id}/{each.summary.session_id}" not in asked
            ],
        )

    def _own(self, asked: OwnSelection) -> list[FencedSummary]:
        live = self._gateway.service.live_of_tenant(asked.tenant_id)
        fenced = [
            FencedSummary(fence, SessionSummary.of(each))
            for each in live
            for fence in [self._node.fence(f"{each.tenant_id}/{each.session_id}")]
            if fence is not None and fence > asked.after
        ]
        return sorted(fenced, key=lambda each: each.fence)[: asked.limit + 1]


def is_asked_for(row: SessionSummary, asked: SessionQuery) -> bool:
    """Say whether a session is asked for, by what its node says of it."""
    return (
        asked.takes_state(row.state)
        and asked.blueprint in (None, row.blueprint)
        and asked.label in (None, row.label)
        and (asked.from_ms is None or row.created_at >= asked.from_ms)
        and (asked.to_ms is None or row.created_at < asked.to_ms)
    )


def summary_of_entry(indexed: IndexEntry, *, now_ms: int) -> SessionSummary:
    """Return what the index knows of a session whose node does not say how it is doing."""
    entry = indexed.entry
    tenant_id, session_id = split(entry.session_id)
    return SessionSummary(
        session_id=session_id,
        state="suspect",
        turns=0,
        tool_calls=0,
        total_tokens=0,
        uptime_ms=max(now_ms - entry.created_at, 0),
        model=entry.model or "",
        blueprint=entry.blueprint or "",
        created_at=entry.created_at,
        tenant_id=tenant_id,
        restarts=0,
        pid=entry.pid,
        live=True,
        stored=None,
        label=None,
        blocked=None,
        last_activity_at=entry.created_at,
        forked_from=None,
        fence=None,
    )
