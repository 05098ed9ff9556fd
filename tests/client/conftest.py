"""What tests of the client share: a real gateway, both clients, and waits that are short."""

import itertools

import pytest

from client.both import client_of
from frontdesk.client import retrying
from gateway.running import ACME, RunningGateway

NUMBERS = itertools.count(1)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing of the environment is meant, and what is tried again is tried soon."""
    for name in ("FRONTDESK_URL", "FRONTDESK_KEY", "FRONTDESK_INSECURE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retrying, "FIRST_WAIT_S", 0.002)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that the tests of a module share; each uses session ids of its own."""
    with RunningGateway(tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture
def sid():
    """A session id that no other test uses."""
    return f"s{next(NUMBERS)}"


@pytest.fixture(params=["sync", "asyncio"])
def kind(request):
    """Each of the clients, one after the other."""
    return request.param


@pytest.fixture
def acme(gateway, kind):
    """Each client in turn, with a key of the tenant acme."""
    with client_of(kind, gateway.url, key=ACME) as client:
        yield client
