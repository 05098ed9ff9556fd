"""A cluster of real processes for each test; its history is checked when the test is over."""

import pytest

from cluster.faults.engines import running
from support.cluster_nodes import Nodes


@pytest.fixture
def engine(request):
    """The engine of the kind that the test is for; `@on(...)` says which."""
    with running(request.param) as engine:
        yield engine


@pytest.fixture
def nodes(engine, tmp_path):
    """Nodes on the engine: started by the test, and their history checked when it is over."""
    with Nodes(engine, tmp_path) as nodes:
        yield nodes
        nodes.check()
