"""Every path is answered where the table says, on whichever node it is asked."""

import re

import pytest

from frontdesk.gateway import forwarding
from frontdesk.gateway.app import ROUTERS
from gateway.cluster_running import cluster
from gateway.running import OPERATOR, create
from support.waiting import eventually

ROW = re.compile(r"^    (?:(GET|POST) )?(/\S*) +(\S.*)$", re.MULTILINE)
TABLE = {(method, path): where for method, path, where in ROW.findall(forwarding.__doc__)}
ROUTES = [
    (method, route.path_format)
    for module in ROUTERS
    for route in module.router.routes
    for method in sorted(route.methods)
]
OF_SESSIONS = "/v1/sessions/{sessionId}"
OF_OPERATORS = "/ops/sessions/{tenant}/{sessionId}"


@pytest.fixture(scope="module")
def nodes():
    """Two gateways with one registry."""
    with cluster("one", "two") as running:
        yield running


def row_of(method, path):
    """Return the row of the table that a route is in."""
    if path.startswith(OF_SESSIONS):
        return ("", OF_SESSIONS)
    if path.startswith(OF_OPERATORS):
        return ("", OF_OPERATORS)
    if path.startswith("/dashboard/"):
        return ("", "/dashboard/")
    return (method, path) if (method, path) in TABLE else ("", path)


def test_the_table_has_every_route_and_no_other():
    assert {row_of(*route) for route in ROUTES} == set(TABLE)


@pytest.mark.parametrize(
    ("method", "path"), [each for each in ROUTES if each[1].startswith(OF_SESSIONS)]
)
def test_every_route_of_a_session_is_answered_by_its_node(nodes, sid, method, path):
    with nodes[0].client() as here, nodes[1].client() as there:
        create(here, sid)
        answers = []
        for client in (here, there):
            url = path.format(sessionId=sid, name="no-such-tool")
            if path.endswith("/events"):
                # A stream has no end: its head is what is compared.
                answers.append(client.head(url))
            else:
                answers.append(client.request(method, url))
            if method == "DELETE" and path == OF_SESSIONS:
                create(client, sid)
        assert answers[0].status_code == answers[1].status_code
        assert answers[0].headers.get("content-type") == answers[1].headers.get("content-type")
        assert "no session" not in answers[1].text


def test_operators_see_all_nodes_on_each(nodes, sid):
    with nodes[0].client() as here:
        create(here, sid)
    # The first one hears of the second with its next renewal.
    eventually(lambda: all(len(each.gateway.node.nodes()) == len(nodes) for each in nodes))
    seen = []
    for node in nodes:
        with node.client(OPERATOR) as operator:
            status = operator.get("/ops/status").json()
            rows = operator.get("/ops/sessions").json()["sessions"]
        assert sid in [each["sessionId"] for each in rows]
        assert status["sessions"] == len(rows)
        seen.append((status["sessions"], [each["sessionId"] for each in rows]))
    assert seen[0] == seen[1]
