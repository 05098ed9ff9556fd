"""A tenant's sessions on all nodes, where conversations are stored; and the end of all of them.

Above the questions between nodes, beside `session_lists`, which lists by the index where nothing is
stored. The storage is one for all nodes: it has every session but the ephemeral ones, in one order.
How those are doing that have an agent, their nodes say, each asked once for a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import NodeState, NodeStatus
from frontdesk.gateway.forwarding.node_calls import NodeCalls
from frontdesk.gateway.gateway import Gateway
from frontdesk.persistence.stored import StoredConversation
from frontdesk.schemas.answer_schemas import SessionSummary
from frontdesk.sessions.listing import SessionPage, SessionQuery, page_of, state_of, until_of

HERE, ERASE = "/-/here", "/-/erase"
ERASE_S = 60.0
"""How long a node may take to end a tenant's sessions."""


class HereQuestion(msgspec.Struct, frozen=True):
    """Which of its sessions a node is asked for."""

    tenant_id: str
    asked: SessionQuery


class NumberedSummary(msgspec.Struct, frozen=True):
    """A session as its node has it, with its place in the list."""

    number: int
    summary: SessionSummary


class StoredLists:
    """List, and erase, a tenant's sessions wherever they are. Belongs to one event loop."""

    def __init__(self, gateway: Gateway, node: Node, calls: NodeCalls) -> None:
        self._gateway, self._node, self._calls = gateway, node, calls
        calls.answers |= {HERE: self.answer_here, ERASE: self.answer_erase}

    async def page(
        self, tenant_id: str, asked: SessionQuery
    ) -> tuple[SessionPage[SessionSummary], bool]:
        """Return a page, and whether some node did not answer.

        The storage is asked first: what is dormant by then and gets an agent is on its node's list.
        """
        stored = await self._gateway.service.stored.stored(tenant_id, asked)
        others = self._others()
        body = msgspec.json.encode(HereQuestion(tenant_id, asked))
        asking = [self._answer_of(each, body) for each in others]
        answers = await asyncio.gather(*asking)
        silent = {
            each.node.name for each, answer in zip(others, answers, strict=True) if answer is None
        }
        answering = {each.node.name for each in others} - silent | {_name_of(self._node.owner)}
        found = self._without_agent(stored, asked, answering=answering, silent=silent)
        for answer in (self._here(tenant_id, asked), *answers):
            found |= {each.number: each.summary for each in answer or ()}
        return page_of(found, asked, until=until_of(stored, asked)), bool(silent)

    async def erase_tenant(self, tenant_id: str) -> int:
        """End and erase all sessions of a tenant on all nodes; return how many there were.

        `OwnerUnreachable` where a node does not answer: ask again.
        """
        count = await self._gateway.service.stored.erase_tenant(tenant_id)
        body = msgspec.json.encode(tenant_id)
        for each in self._others():
            count += await self._calls.ask(each, ERASE, body, kind=int, within_s=ERASE_S)
        return count

    # -- what other nodes ask --------------------------------------------------------------------

    async def answer_here(self, body: bytes) -> bytes:
        """Answer which sessions of a tenant are here."""
        question = msgspec.json.decode(body, type=HereQuestion)
        return msgspec.json.encode(self._here(question.tenant_id, question.asked))

    async def answer_erase(self, body: bytes) -> bytes:
        """End and erase a tenant's sessions here, and what is stored of them."""
        tenant_id = msgspec.json.decode(body, type=str)
        return msgspec.json.encode(await self._gateway.service.stored.erase_tenant(tenant_id))

    # -- within ----------------------------------------------------------------------------------

    def _others(self) -> list[NodeStatus]:
        own = self._node.incarnation
        return [each for each in self._node.nodes() if each.node.incarnation != own]

    async def _answer_of(self, node: NodeStatus, body: bytes) -> list[NumberedSummary] | None:
        """Return a node's sessions; None where it does not answer."""
        if node.state is NodeState.STALLED:
            return None
        try:
            answer: list[NumberedSummary] = await self._calls.ask(
                node, HERE, body, kind=list[NumberedSummary]
            )
        except OwnerUnreachable:
            return None
        return answer

    def _here(self, tenant_id: str, asked: SessionQuery) -> list[NumberedSummary]:
        here = [each for each in self._gateway.service.stored.here(tenant_id) if asked.takes(each)]
        here.sort(key=lambda each: each.number)
        return [
            NumberedSummary(each.number, SessionSummary.of(each))
            for each in here[: asked.limit + 1]
        ]

    def _without_agent(
        self,
        stored: Sequence[StoredConversation],
        asked: SessionQuery,
        *,
        answering: Iterable[str],
        silent: Iterable[str],
    ) -> dict[int, SessionSummary]:
        """Return those that no node answers for: without an agent, or of a silent or dead node."""
        found: dict[int, SessionSummary] = {}
        now_ms = self._gateway.clock.wall_ms()
        for each in stored:
            owner = _name_of(each.owner)
            summary = SessionSummary.of_stored(each, now_ms=now_ms)
            if each.state == "live" and owner in silent and not asked.states:
                found[each.number] = msgspec.structs.replace(summary, state="suspect", live=True)
            elif each.state == "live" and (owner in answering or owner in silent):
                # It is among those of its node, or has ended since.
                continue
            elif asked.takes_state(state_of(each)):
                found[each.number] = summary
        return found


def _name_of(owner: str) -> str:
    """Return the name of the node that an owner is a process of."""
    return owner.rpartition("/")[0]
