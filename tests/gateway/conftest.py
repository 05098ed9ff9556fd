"""What tests of the gateway share: the marker of the requirements, a clock, a state directory."""

import pytest

from frontdesk.gateway.state import StateDir
from frontdesk.testing import ManualClock


def pytest_configure(config):
    config.addinivalue_line("markers", "requirement(*ids): the demands of the contract it proves")


@pytest.fixture
def clock():
    """Time that moves when the test moves it."""
    return ManualClock()


@pytest.fixture
def state(tmp_path):
    """A state directory."""
    return StateDir.make(tmp_path / "state")
