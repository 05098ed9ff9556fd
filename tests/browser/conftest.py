"""What tests of the dashboard share: a Chromium and a gateway for a module, tabs for a test."""

import itertools

import pytest

from browser.chromium import SECRETS, Tab, chromium
from gateway.running import RunningGateway

NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def browser():
    """A Chromium for the tests of a module."""
    with chromium() as running:
        yield running


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
def sid():
    """A session id that no other test uses."""
    return f"b{next(NUMBERS)}"


@pytest.fixture
def tab(browser, gateway):
    """Open tabs: by `who` (`tenant`, `operator`, or nobody), at the gateway or another URL.

    No page may complain of anything that its test does not expect.
    """
    tabs = []

    def open_tab(who=None, *, url=None, **look):
        secret = None if who is None else SECRETS[who]
        tabs.append(Tab(browser, url or gateway.url, secret=secret, **look))
        return tabs[-1]

    yield open_tab
    complaints = [each.unexpected() for each in tabs]
    for each in tabs:
        each.close()
    assert complaints == [[]] * len(tabs)
