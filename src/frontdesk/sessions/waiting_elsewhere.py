"""What waits at a node that is gone: found by those that are left, and resumed there unasked.

    a node left or was buried    it is looked for at once
    nothing of that kind         now and then: who was cut off may have stopped since

Each of several nodes finds the same, and loads what it finds as if somebody had asked for it: who
claims it resumes it, and to all others it has an owner that lives. What was found and not resumed,
because this process died in between, is found by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import random

from frontdesk.errors import FrontdeskError
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.keeping_settings import WaitingFound
from frontdesk.sessions.resuming import Resumer, WaitingSession

SEARCH_S = 60.0
PAGE = 100

_log = logging.getLogger("frontdesk.sessions")


class WaitingElsewhere:
    """Look for sessions with turns to end whose node is gone. On one event loop."""

    def __init__(self, context: ServiceContext, find: WaitingFound, resumer: Resumer) -> None:
        assert context.node is not None
        assert context.commits is not None
        self._context, self._node, self._commits = context, context.node, context.commits
        self._find, self._resumer = find, resumer

    async def run(self) -> None:
        """Search again and again, until it is cancelled."""
        nodes, waited_s = self._incarnations, 0.0
        while True:
            await asyncio.sleep(self._node.terms.renew_s)
            waited_s += self._node.terms.renew_s
            now = self._incarnations
            if nodes <= now and waited_s < SEARCH_S:
                nodes = now
                continue
            # Who is gone, nobody can say now; or nothing is to be begun here. It is due still.
            if self._context.draining or not self._node.knows_all_nodes:
                continue
            try:
                await self.search()
            except FrontdeskError as error:
                _log.warning("what waits at other nodes could not be looked for: %s", error)
            else:
                nodes, waited_s = now, 0.0

    async def search(self) -> None:
        """Resume what waits at nodes that are gone, a page at a time."""
        after = 0
        while True:
            page = await self._commits.read(
                lambda _, after=after: self._find(after=after, limit=PAGE)  # type: ignore[misc]
            )
            names = [WaitingSession(each.tenant_id, each.session_id) for each in page]
            # Each node in another order: two that begin at once share what there is.
            random.shuffle(names)
            await self._resumer.resume_all(names)
            if len(page) < PAGE:
                return
            after = page[-1].number

    @property
    def _incarnations(self) -> frozenset[str]:
        return frozenset(each.node.incarnation for each in self._node.nodes())
