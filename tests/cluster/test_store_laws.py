"""The store over a cluster obeys every law of a store, over every engine."""

from contextlib import asynccontextmanager

import pytest

from cluster.cluster_subject import ClusterSubject
from cluster.inprocess import in_process_engines
from frontdesk.cluster.cluster_store import ClusterStore
from frontdesk.cluster.node import Node
from frontdesk.cluster.records import IndexLimits
from frontdesk.store import Limits, SessionStore
from frontdesk.testing import LAWS, check_law


@asynccontextmanager
async def cluster_store(engine, options, name="one"):
    """Make a node over an engine, and the store over it."""
    limits = options.limits or Limits()
    here = Limits(total=limits.total)
    everywhere = IndexLimits(per_tenant=limits.per_tenant, per_api_key=limits.per_api_key)
    async with (
        SessionStore(limits=here) as store,
        Node(
            engine,
            store,
            name=f"host/{name}",
            address=f"unix:/{name}",
            feed_capacity=options.feed_capacity,
        ) as node,
    ):
        yield ClusterStore(node, limits=everywhere)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_cluster_store_obeys_the_law_on_the_index_itself(law):
    @asynccontextmanager
    async def factory(options):
        async with in_process_engines() as engine, cluster_store(engine(), options) as store:
            yield ClusterSubject(store)

    check_law(law, factory)
