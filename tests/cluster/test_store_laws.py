"""The store over a cluster obeys every law of a store, and of a cluster, over every engine."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from cluster.cluster_laws import CLUSTER_LAWS
from cluster.cluster_subject import ClusterSubject
from cluster.clusters import ENGINES, Servers, cluster_store
from frontdesk.testing import LAWS, StoreOptions, check_law


@pytest.fixture(scope="module")
def servers():
    """The real servers of these tests."""
    with Servers() as started:
        yield started


engines = pytest.mark.parametrize("engine", ENGINES)


@engines
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_cluster_store_obeys_the_law(law, engine, servers):
    @asynccontextmanager
    async def factory(options):
        async with engine(servers) as connect, cluster_store(connect, options) as store:
            yield ClusterSubject(store)

    check_law(law, factory)


@engines
@pytest.mark.parametrize("law", CLUSTER_LAWS, ids=str)
def test_two_nodes_obey_the_law_of_a_cluster(law, engine, servers):
    async def main():
        async with (
            asyncio.timeout(60),
            engine(servers) as connect,
            cluster_store(connect, law.options, name="one") as one,
            cluster_store(connect, law.options, name="two") as two,
        ):
            await law.check(ClusterSubject(one), ClusterSubject(two))

    try:
        asyncio.run(main())
    except BaseException as error:
        error.add_note(f"the broken law: {law.sentence}")
        raise


def test_the_ids_of_the_laws_of_a_cluster_are_unique_and_their_sentences_are_sentences():
    assert len({str(law) for law in CLUSTER_LAWS}) == len(CLUSTER_LAWS)
    for law in CLUSTER_LAWS:
        assert law.sentence.endswith(".")
        assert isinstance(law.options, StoreOptions)
