"""This version beside others: a node joins a cluster of its own schema, or of the one before."""

import asyncio
import secrets

import pytest

from cluster.faults.kinds import EITHER, on
from cluster.faults.steps import ids
from frontdesk.cluster.errors import SchemaRefused
from frontdesk.cluster.records import SCHEMA, NodeRecord
from frontdesk.cluster.terms import LeaseTerms
from support.recorded_engine import open_engine

pytestmark = pytest.mark.slow


def of_schema(schema):
    """Return the record of a node of a version with another schema."""
    return NodeRecord(
        secrets.token_hex(16), f"schema{schema}", "unix:/nowhere", schema, f"0.{schema}", ""
    )


def joins(nodes, schema):
    """Tell whether a node of that schema may join; it stays."""

    async def join():
        async with open_engine(nodes.engine.url_at(nodes.engine.address)) as engine:
            await engine.join(of_schema(schema), terms=LeaseTerms(lease_s=60))

    try:
        asyncio.run(join())
    except SchemaRefused:
        return False
    return True


@on(EITHER)
def test_a_cluster_of_this_version_takes_the_next_one_in_and_no_other(nodes):
    one = nodes.start("one")
    one.create(*ids("one", 5))
    assert not joins(nodes, SCHEMA - 1), "the version before does not know these records"
    assert joins(nodes, SCHEMA + 1), "a rolling upgrade goes one step"
    assert not joins(nodes, SCHEMA + 2)
    # Neither the guests nor those that were refused have changed anything for who is here.
    two = nodes.start("two")
    two.create(*ids("two", 5))
    assert set(nodes.settled()) == {*ids("one", 5), *ids("two", 5)}


@on(EITHER)
def test_this_version_is_refused_by_a_cluster_of_the_next_one(nodes):
    assert joins(nodes, SCHEMA + 1)
    refused = nodes.start("refused", wait=False)
    assert refused.process.wait(60) != 0
    refused.gone()
    assert "SchemaRefused" in nodes.told()
    assert f"the cluster has schema {SCHEMA + 1}" in nodes.told()


@on(EITHER)
def test_this_version_joins_a_cluster_of_the_one_before(nodes):
    assert joins(nodes, SCHEMA - 1)
    one = nodes.start("one")
    one.create(*ids("one", 5))
    assert set(nodes.settled()) == set(ids("one", 5))
