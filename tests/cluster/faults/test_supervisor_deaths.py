"""Kill -9 of the supervisor of workers, which is their engine too: all end, and a new one is clean.

What clients were answered, over all lives of the service, is one history.
"""

import pytest

from cluster.faults.desks import BLUEPRINTS, IN_MEMORY, IN_PROCESSES, Desk
from cluster.faults.recorded_clients import GONE, RecordedClients
from cluster.history_facts import Bounds
from gateway.worker_processes import workers
from support.cluster_nodes import PATIENCE_S
from support.engines import free_port
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLIENTS, CONTESTED, ISOLATED = 4, 6, 3
CREATES = 25
"""So many sessions are accepted before the kill comes."""

BOUNDS = Bounds(lease_s=0, hold_s=0, end_s=5, rejoin_s=5, recovery_s=0, proven=True)
"""Nobody is suspect here: who is killed is known to be dead, and nothing is left of its engine."""


@pytest.fixture
def clients(tmp_path):
    """Clients of every life of the service; what they were answered is checked at the end."""
    chosen = [f"contested{each}" for each in range(CONTESTED)]
    with RecordedClients(tmp_path, chosen=chosen) as clients:
        yield clients
        clients.check(BOUNDS)


def serving(directory, port):
    """Run the service, each time with the same state and address."""
    return workers(
        directory / "service", 2, "--port", str(port), config=BLUEPRINTS + IN_MEMORY + IN_PROCESSES
    )


def with_agents_in_processes(clients, life):
    """Let sessions run in processes of their own, which a kill could leave behind."""
    ids = [f"{life.name}-isolated{each}" for each in range(ISOLATED)]
    for session in ids:
        eventually(
            lambda session=session: clients.create(life, session, blueprint="isolated"),
            within_s=PATIENCE_S,
        )
    return ids


def killed(clients, service):
    """Kill the supervisor, and it alone; return when all that was below it has ended."""
    below = service.below()
    assert len(below) > 2 + ISOLATED, "supervisor, workers, keepers, agents"
    service.server.process.kill()
    service.server.process.wait()
    clients.gone()
    for each in below:
        each.await_end()


def test_a_supervisor_killed_under_load_leaves_nobody_no_ghost_and_no_create_answered_twice(
    tmp_path, clients
):
    known, port = set(clients.chosen), free_port()
    with serving(tmp_path, port) as service:
        life = clients.begin([service.server], "first")
        with clients.load(CLIENTS):
            known.update(with_agents_in_processes(clients, life))
            clients.have_opened(CREATES)
            killed(clients, service)
    with serving(tmp_path, port) as service:
        life, desk = clients.begin([service.server], "last"), Desk([service.server])
        assert desk.listed() == []
        for session in known:
            eventually(lambda session=session: clients.look(life, session) in GONE)
        fences = [clients.create(life, session) for session in known]
        assert all(fences), "every id is free again"
        assert sorted(desk.listed()) == sorted(known)
        assert {clients.look(life, session) for session in known} == {200}
