"""What tests of the gateway share: a clock, a state directory."""

import itertools

import pytest

from frontdesk.gateway.state_dir import StateDir
from frontdesk.testing import ManualClock
from gateway.running import UMBRELLA, RunningGateway

NUMBERS = itertools.count(1)


@pytest.fixture
def clock():
    """Time that moves when the test moves it."""
    return ManualClock()


@pytest.fixture
def state(tmp_path):
    """A state directory."""
    return StateDir.make(tmp_path / "state")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that the tests of a module share; each uses session ids of its own."""
    with RunningGateway(tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture
def acme(gateway):
    """A client with a key of the tenant acme."""
    with gateway.client() as client:
        yield client


@pytest.fixture
def umbrella(gateway):
    """A client with a key of another tenant."""
    with gateway.client(UMBRELLA) as client:
        yield client


@pytest.fixture
def sid():
    """A session id that no other test uses."""
    return f"s{next(NUMBERS)}"
