"""What nodes ask each other for lists that follow: rows as they change, and how sessions ended.

Above the questions between nodes, below the rows, which know nothing of connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from frontdesk.agents.ids import split
from frontdesk.cluster.errors import EngineUnavailable, OwnerUnreachable, Recovering
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import IndexEntry, NodeStatus, Selection
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.forwarding.node_calls import ANSWER_S, NodeCalls
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.rows.last_ends import fence_of_entry, merged
from frontdesk.gateway.rows.row_questions import WAIT_S, RowsAnswer, RowsQuestion, answer_rows
from frontdesk.gateway.rows.row_reader import MOST
from frontdesk.records import ExitKind
from frontdesk.schemas.row_schemas import EndedSession, SessionRow

ROWS, ENDS = "/-/rows", "/-/ends"


class NodeRowQuestions:
    """Ask other nodes for rows and ends, and answer with those of this one."""

    def __init__(self, gateway: Gateway, node: Node, calls: NodeCalls) -> None:
        self._gateway, self._node, self._calls = gateway, node, calls
        calls.answers |= {ROWS: self.answer_rows, ENDS: self.answer_ends}

    def asking(self, node: NodeStatus) -> Callable[[RowsQuestion], Awaitable[RowsAnswer]]:
        """Return what asks a node for its rows; `OwnerUnreachable` where it does not answer."""

        async def ask(question: RowsQuestion) -> RowsAnswer:
            body = msgspec.json.encode(question)
            answer: RowsAnswer = await self._calls.ask(
                node, ROWS, body, kind=RowsAnswer, within_s=WAIT_S + ANSWER_S
            )
            return answer

        return ask

    async def indexed(self, node: NodeStatus, tenant_id: str | None) -> list[SessionRow]:
        """Return what the index knows of a node's sessions; nothing where it does not answer."""
        incarnation = node.node.incarnation
        # By one of both: a tenant has fewer, as a rule.
        selection = Selection(tenant_id=tenant_id)
        if tenant_id is None:
            selection = Selection(incarnation=incarnation)
        rows: list[SessionRow] = []
        after, more = 0, True
        try:
            while more and len(rows) <= MOST:
                page = await self._node.list(selection, after=after)
                rows += [
                    row_of_entry(each, node=node.node.name)
                    for each in page.entries
                    if each.entry.incarnation == incarnation
                ]
                after, more = page.entries[-1].fence if page.entries else 0, page.more
        except (EngineUnavailable, Recovering):
            pass
        return rows

    def reason_of_end(self, key: str) -> str:
        """Return how a session of a dead node ended: as the log has it, else that it is lost."""
        try:
            return self._node.ended(key).ended.reason.public_text
        except SessionNotFound:
            return ExitKind.LOST.value

    async def last_ends(self, tenant_id: str | None) -> tuple[list[EndedSession], bool]:
        """Return the last ends of all nodes, the newest first, and whether some did not answer."""
        body = msgspec.json.encode(tenant_id)
        others = [
            each for each in self._node.nodes() if each.node.incarnation != self._node.incarnation
        ]

        async def asked(each: NodeStatus) -> list[EndedSession] | None:
            with suppress(OwnerUnreachable):
                ends: list[EndedSession] = await self._calls.ask(
                    each, ENDS, body, kind=list[EndedSession]
                )
                return ends
            return None

        answers = await asyncio.gather(*map(asked, others))
        own = self._gateway.rows.ends.newest(tenant_id)
        said = [each for each in answers if each is not None]
        return merged([own, *said]), len(said) < len(answers)

    # -- what other nodes ask --------------------------------------------------------------------

    async def answer_rows(self, body: bytes) -> bytes:
        """Answer with what has changed here, once something has."""
        question = msgspec.json.decode(body, type=RowsQuestion)
        return msgspec.json.encode(await answer_rows(self._gateway.rows, question))

    async def answer_ends(self, body: bytes) -> bytes:
        """Answer with the last ends here, of a tenant or of all."""
        tenant_id = msgspec.json.decode(body, type=str | None)
        return msgspec.json.encode(self._gateway.rows.ends.newest(tenant_id))


def row_of_entry(indexed: IndexEntry, *, node: str) -> SessionRow:
    """Return what the index knows of a session whose node does not say how it is doing."""
    entry = indexed.entry
    tenant_id, session_id = split(entry.session_id)
    return SessionRow(
        tenant_id=tenant_id,
        session_id=session_id,
        fence=fence_of_entry(entry.session_id, indexed.fence),
        state="suspect",
        created_at=entry.created_at,
        last_activity_at=entry.created_at,
        blueprint=entry.blueprint or "",
        model=entry.model or "",
        turns=0,
        tokens=0,
        cost_usd=0.0,
        approvals=0,
        questions=0,
        key_id=entry.api_key,
        node=node,
    )
