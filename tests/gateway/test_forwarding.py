"""Any node serves any request: sessions answer alike wherever a client asks."""

import pytest

from gateway.cluster_running import cluster
from gateway.running import create, turn_of


@pytest.fixture(scope="module")
def nodes():
    """Two gateways with one registry."""
    with cluster("one", "two") as running:
        yield running


@pytest.fixture
def here(nodes):
    """A client of the node that opens sessions."""
    with nodes[0].client() as client:
        yield client


@pytest.fixture
def there(nodes):
    """A client of the other node."""
    with nodes[1].client() as client:
        yield client


def test_a_session_answers_on_every_node(here, there, sid):
    create(here, sid)
    seen = turn_of(there, sid, "one two")
    assert [each[1] for each in seen][-1] == "agent_end"
    assert there.get(f"/v1/sessions/{sid}").json()["turns"] == 1
