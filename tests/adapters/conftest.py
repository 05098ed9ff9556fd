"""What the adapters' tests ask for: the model server's address in the environment of all agents."""

from functools import partial

import pytest

from adapters.frameworks import A2A_LISTENING, tested
from adapters.model_server import VARIABLES
from adapters.scenes import scene
from frontdesk.keeper.client import Keeper


def pytest_generate_tests(metafunc):
    """Run a test over the frameworks, in each of their isolations, or in processes alone."""
    asked = set(metafunc.fixturenames)
    if "framework" not in asked:
        return
    pairs = [
        pytest.param(each, isolation, id=f"{each.kind}-{isolation}")
        for each in tested()
        for isolation in each.isolations
        if "isolation" in asked or isolation == "process"
    ]
    if "isolation" in asked:
        metafunc.parametrize(("framework", "isolation"), pairs)
    else:
        metafunc.parametrize("framework", [pytest.param(p.values[0], id=p.id) for p in pairs])


@pytest.fixture(autouse=True)
def model_server(monkeypatch):
    """Give agents the address of the model: the same in every test, as they are made once."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def anyio_backend():
    """Run the tests of a file on one loop: they share a keeper; a framework is slow to import."""
    return "asyncio"


@pytest.fixture(scope="module")
async def keeper(anyio_backend):
    """One keeper for the tests of a file, with a warm process for each kind of agent."""
    async with Keeper() as keeper:
        yield keeper


@pytest.fixture(scope="module")
async def remote_agent(anyio_backend):
    """Serve the remote agent of the kind `a2a`, which the tests of a file share."""
    from adapters.a2a_server import a2a_server
    from adapters.programs.a2a_agent import Contexts

    async with a2a_server(Contexts().answer, listening=A2A_LISTENING.dup()) as server:
        yield server


@pytest.fixture
def play(framework, keeper, request):
    """Open a session of the framework's agent, whose model does what a script says."""
    if framework.kind == "a2a":
        request.getfixturevalue("remote_agent")
    return partial(scene, framework, keeper=keeper)
