"""What waits at a node that is gone is looked for, and resumed where it can be had."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.stored import WaitingConversation
from frontdesk.sessions import waiting_elsewhere
from frontdesk.sessions.resuming import Resumer, WaitingSession
from frontdesk.sessions.waiting_elsewhere import PAGE, WaitingElsewhere

pytestmark = pytest.mark.anyio

WITHIN_S = 30


class Cluster:
    """A node that knows some others, a database in which something waits, and what is resumed."""

    def __init__(self, waiting=1):
        self.waiting = [WaitingConversation(n, "acme", f"s-{n}") for n in range(1, waiting + 1)]
        self.fails, self.searches, self.resumed = 0, 0, []
        terms = SimpleNamespace(renew_s=0.001)
        self.node = SimpleNamespace(nodes=lambda: self.others, knows_all_nodes=True, terms=terms)
        self.have("a", "b")
        self.context = SimpleNamespace(node=self.node, commits=self, draining=False)

    def have(self, *incarnations):
        """Have these nodes live."""
        self.others = [SimpleNamespace(node=SimpleNamespace(incarnation=x)) for x in incarnations]

    async def read(self, ask):
        return ask(None)

    def find(self, *, after, limit):
        self.searches += 1
        if self.fails:
            self.fails -= 1
            raise StorageUnavailable("gone")
        return [each for each in self.waiting if each.number > after][:limit]

    async def resume_all(self, names):
        self.resumed += names

    @contextlib.asynccontextmanager
    async def looking(self):
        """Look, for as long as the block lasts."""
        async with asyncio.timeout(WITHIN_S):
            task = asyncio.create_task(WaitingElsewhere(self.context, self.find, self).run())
            await self.turns()
            yield
            task.cancel()
            await asyncio.wait({task})

    async def turns(self):
        """Let it wake up some times."""
        for _ in range(5):
            await asyncio.sleep(self.node.terms.renew_s)


async def test_once_a_node_is_gone_what_waits_there_is_resumed_a_page_after_the_other():
    cluster = Cluster(waiting=2 * PAGE + 1)
    async with cluster.looking():
        assert cluster.searches == 0
        cluster.have("a", "b", "c")
        await cluster.turns()
        assert cluster.searches == 0
        cluster.have("a", "c")
        while len(cluster.resumed) < len(cluster.waiting):
            await cluster.turns()
        await cluster.turns()
    assert cluster.searches == 3
    assert {each.session_id for each in cluster.resumed} == {f"s-{n}" for n in range(1, 202)}
    assert isinstance(cluster.resumed[0], WaitingSession)


async def test_it_is_looked_for_now_and_then_though_no_node_is_gone(monkeypatch):
    monkeypatch.setattr(waiting_elsewhere, "SEARCH_S", 0.01)
    cluster = Cluster()
    async with cluster.looking():
        while cluster.searches < 2:
            await cluster.turns()


@pytest.mark.parametrize("in_the_way", ["draining", "not_heard", "failed"])
async def test_what_could_not_be_looked_for_is_as_soon_as_that_can_be(in_the_way):
    cluster = Cluster()
    cluster.context.draining = in_the_way == "draining"
    cluster.node.knows_all_nodes = in_the_way != "not_heard"
    cluster.fails = 3 * (in_the_way == "failed")
    async with cluster.looking():
        cluster.have("a")
        await cluster.turns()
        if in_the_way != "failed":
            assert cluster.searches == 0
        cluster.context.draining, cluster.node.knows_all_nodes = False, True
        while not cluster.resumed:
            await cluster.turns()
    assert len(cluster.resumed) == 1


async def test_a_session_that_another_node_has_by_now_is_left_to_it():
    tried = []

    async def loaded(name):
        tried.append(name)
        raise OwnerUnreachable(name.session_id, problem="it was not asked")

    resumer = Resumer(
        supervisor=None,
        reservations=None,
        loaded=loaded,
        prepare=None,
        refuse_over_limit=None,
        at_once=1,
    )
    names = [WaitingSession("acme", "a"), WaitingSession("acme", "b")]
    await resumer.resume_all(names)
    resumer.retry()
    await resumer.close()
    await resumer.resume_all(names)
    assert tried == names
