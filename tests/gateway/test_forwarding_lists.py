"""Lists over all nodes: the same on each, in one order, and honest about what is not known."""

import time
from dataclasses import replace

import pytest

from frontdesk.agents.records import CreateSession
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.sessions.conversation import Conversation
from gateway.cluster_running import cluster
from gateway.running import UMBRELLA, create, turn_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    """Three gateways with one registry, whose connections a test can break."""
    with cluster("one", "two", "three", proxied=True) as running:
        yield running


@pytest.fixture(autouse=True)
def emptied(nodes):
    """Every test begins without sessions, and with whole connections."""
    yield
    for node in nodes:
        node.proxy.heal()
    for secret in (None, UMBRELLA):
        with nodes[0].client(*([secret] if secret else [])) as client:
            for each in client.get("/v1/sessions?limit=1000").json()["sessions"]:
                client.delete(f"/v1/sessions/{each['sessionId']}")


@pytest.fixture
def clients(nodes):
    """A client of each node."""
    opened = [node.client() for node in nodes]
    yield opened
    for each in opened:
        each.close()


def ids(answer):
    return [each["sessionId"] for each in answer.json()["sessions"]]


def opened_on(clients, sid, count):
    """Open sessions on the nodes in turn; return their ids in that order."""
    names = [f"{sid}-{number}" for number in range(count)]
    for number, name in enumerate(names):
        create(clients[number % len(clients)], name)
    return names


def test_every_node_lists_all_in_the_order_in_which_they_were_opened(clients, sid):
    names = opened_on(clients, sid, 7)
    for client in clients:
        answer = client.get("/v1/sessions")
        assert ids(answer) == names
        assert (answer.json()["next"], answer.json()["partial"]) == (None, False)


def test_a_list_says_how_each_is_doing_wherever_it_is(clients, sid):
    [name] = opened_on(clients, sid, 1)
    turn_of(clients[2], name, "one two")
    rows = [client.get("/v1/sessions").json()["sessions"][0] for client in clients]
    own = clients[0].get(f"/v1/sessions/{name}").json()
    for row in rows:
        assert {**row, "uptimeMs": 0} == {**own, "uptimeMs": 0}
        assert row["turns"] == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_have_each_session_once_whichever_nodes_are_asked(clients, sid, limit):
    names = opened_on(clients, sid, 7)
    seen, after, asked = [], None, 0
    while asked == 0 or after:
        query = {"limit": limit} | ({"after": after} if after else {})
        answer = clients[asked % 3].get("/v1/sessions", params=query)
        seen, after, asked = [*seen, *ids(answer)], answer.json()["next"], asked + 1
    assert seen == names


def test_what_is_opened_and_ended_between_pages_moves_no_other(clients, sid):
    names = opened_on(clients, sid, 6)
    first = clients[1].get("/v1/sessions?limit=3").json()
    clients[0].delete(f"/v1/sessions/{names[1]}")
    clients[0].delete(f"/v1/sessions/{names[4]}")
    create(clients[2], f"{sid}-new")
    second = clients[2].get(f"/v1/sessions?limit=10&after={first['next']}")
    assert ids(second) == [names[3], names[5], f"{sid}-new"]


def test_another_tenants_sessions_are_in_no_list_and_its_cursor_continues_none(nodes, clients, sid):
    opened_on(clients, sid, 4)
    with nodes[1].client(UMBRELLA) as umbrella:
        assert ids(umbrella.get("/v1/sessions")) == []
        cursor = clients[0].get("/v1/sessions?limit=2").json()["next"]
        refused = umbrella.get(f"/v1/sessions?after={cursor}")
        assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")


def test_a_cursor_says_nothing_of_how_much_happens_elsewhere(nodes, clients, sid):
    opened_on(clients, sid, 3)
    cursor = clients[0].get("/v1/sessions?limit=1").json()["next"]
    fence = nodes[0].gateway.node.fence(f"acme/{sid}-0")
    assert str(fence) not in cursor
    assert len(cursor) == 22


@pytest.mark.parametrize("after", ["0", "42", "x", "%00", "A" * 22, "A" * 512])
def test_what_is_no_cursor_is_refused(clients, after):
    answer = clients[0].get(f"/v1/sessions?after={after}")
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert "after" in answer.json()["message"]


@pytest.mark.parametrize("fault", ["refuse", "stall"])
def test_a_node_that_does_not_answer_costs_its_numbers_and_not_the_list(nodes, clients, sid, fault):
    names = opened_on(clients, sid, 6)
    getattr(nodes[0].proxy, fault)()
    began = time.monotonic()
    answer = clients[1].get("/v1/sessions")
    assert time.monotonic() - began < 8
    assert ids(answer) == names
    assert answer.json()["partial"] is True
    states = [each["state"] for each in answer.json()["sessions"]]
    assert states == ["suspect", "idle", "idle"] * 2
    suspect = answer.json()["sessions"][0]
    assert (suspect["blueprint"], suspect["model"], suspect["tenantId"]) == (
        "parrot",
        "test",
        "acme",
    )


def test_while_the_index_cannot_be_asked_the_nodes_tell_what_they_have(
    nodes, clients, sid, monkeypatch
):
    names = opened_on(clients, sid, 7)

    async def fail(*_, **__):
        raise EngineUnavailable("it is gone")

    monkeypatch.setattr(nodes[1].gateway.node, "list", fail)
    first = clients[1].get("/v1/sessions?limit=4").json()
    assert first["partial"] is True
    second = clients[1].get(f"/v1/sessions?after={first['next']}").json()
    assert [each["sessionId"] for each in (*first["sessions"], *second["sessions"])] == names
    assert second["next"] is None


def test_a_page_of_many_sessions_is_one_question_for_each_node(nodes, clients, sid):
    async def open_many():
        for number in range(40):
            await nodes[0].gateway.service.tenant("acme", "k-acme").create(made(number))

    def made(number):
        return CreateSession(model="test", session_id=f"{sid}-{number}", blueprint="parrot")

    nodes[0].call(open_many)
    nodes[0].proxy.recorded = []
    answer = clients[1].get("/v1/sessions?limit=1000")
    passed = b"".join(nodes[0].proxy.recorded)
    nodes[0].proxy.recorded = None
    assert len(ids(answer)) == 40
    assert passed.count(b"POST /-/summaries") == 1


def test_a_session_between_two_agents_stays_in_its_place_in_the_list(
    nodes, clients, sid, monkeypatch
):
    names = opened_on(clients, sid, 6)
    node, state = nodes[1].gateway.node, Conversation.state.fget
    listed = node.list

    async def without_restarting(*args, **options):
        # The index has no entry of it: its id is held for the next agent.
        page = await listed(*args, **options)
        entries = tuple(each for each in page.entries if not each.entry.session_id.endswith("-3"))
        return replace(page, entries=entries)

    def restarting(conversation):
        return "restarting" if conversation.session_id == names[3] else state(conversation)

    monkeypatch.setattr(node, "list", without_restarting)
    monkeypatch.setattr(Conversation, "state", property(restarting))
    answer = clients[1].get("/v1/sessions")
    assert ids(answer) == names
    assert [each["state"] for each in answer.json()["sessions"]].count("restarting") == 1
    seen, after = [], None
    for _ in range(4):
        query = {"limit": 2} | ({"after": after} if after else {})
        page = clients[1].get("/v1/sessions", params=query)
        seen, after = [*seen, *ids(page)], page.json()["next"]
        if after is None:
            break
    assert seen == names


def test_the_sessions_of_a_tenant_are_counted_on_all_nodes(clients, sid):
    opened_on(clients, sid, 5)
    for client in clients:
        assert client.get("/healthz").json()["sessions"]["active"] == 5
