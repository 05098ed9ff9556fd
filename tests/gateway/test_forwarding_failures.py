"""An owner that is hung, dead, stalled or moved: answered soon, and with what is true."""

import asyncio
import random
import threading
import time
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from frontdesk.cluster.errors import EngineUnavailable, Recovering
from frontdesk.cluster.node_records import EndedElsewhere
from frontdesk.cluster.records import NodeState
from frontdesk.errors import SessionNotFound
from frontdesk.gateway.forwarding.owner_application import OwnerApplication
from frontdesk.records import Ended, ExitReason, Metadata
from gateway.cluster_running import cluster
from gateway.running import OPERATOR, create, events, turn_of, until
from gateway.test_websocket import opened, said
from gateway.test_websocket import until as until_on
from support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    """Two gateways with one registry, whose connections a test can break."""
    with cluster("one", "two", proxied=True) as running:
        yield running


@pytest.fixture(autouse=True)
def healed(nodes):
    """Whatever a test breaks is whole for the next."""
    yield
    nodes[0].proxy.heal()


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


def is_unavailable(answer):
    """Say whether a client is told to come again."""
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable"), answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    return True


# -- no answer -----------------------------------------------------------------------------------


def test_a_request_for_an_owner_that_hangs_is_answered_soon(nodes, here, there, sid):
    create(here, sid)
    assert there.get(f"/v1/sessions/{sid}").status_code == 200
    nodes[0].proxy.stall()
    for asked in (("GET", "", None), ("POST", "/prompt", {"text": "x", "wait": 60})):
        began = time.monotonic()
        answer = there.request(asked[0], f"/v1/sessions/{sid}{asked[1]}", json=asked[2])
        assert is_unavailable(answer)
        assert time.monotonic() - began < 15, "a few seconds, on a busy machine too"
    assert nodes[1].call(lambda: len(nodes[1].gateway.streams)) == 0


def test_a_request_for_an_owner_that_nobody_reaches_is_answered_at_once(nodes, here, there, sid):
    create(here, sid)
    nodes[0].proxy.refuse()
    began = time.monotonic()
    for _ in range(3):
        answer = there.get(f"/v1/sessions/{sid}")
        assert is_unavailable(answer)
        assert sid in answer.json()["message"]
    assert time.monotonic() - began < 10
    with pytest.raises(InvalidStatus) as refused, opened(nodes[1], sid):
        pass
    assert refused.value.response.status_code == 503
    nodes[0].proxy.heal()
    assert there.get(f"/v1/sessions/{sid}").status_code == 200


def test_what_waits_on_an_owner_ends_with_it_at_once(nodes, here, sid):
    create(here, sid, blueprint="patient")
    waiting = []

    async def wait():
        async with httpx.AsyncClient(base_url=nodes[1].url, timeout=30, trust_env=False) as client:
            headers = {"X-API-Key": "acme-secret-0123456789abcdef"}
            asked = {"json": {"text": "x", "wait": 25}, "headers": headers}
            task = asyncio.create_task(client.post(f"/v1/sessions/{sid}/prompt", **asked))
            while here.get(f"/v1/sessions/{sid}").json()["state"] != "working":
                await asyncio.sleep(0.01)
            await asyncio.to_thread(nodes[0].proxy.reset)
            began = time.monotonic()
            waiting.append(await task)
            return time.monotonic() - began

    assert asyncio.run(wait()) < 5
    assert is_unavailable(waiting[0])
    here.post(f"/v1/sessions/{sid}/abort")


def test_a_connection_that_was_closed_while_idle_costs_no_request(nodes, here, there, sid):
    create(here, sid)
    for _ in range(5):
        assert there.get(f"/v1/sessions/{sid}").status_code == 200
        nodes[0].proxy.reset()
        assert there.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"}).status_code == 202
    assert here.get(f"/v1/sessions/{sid}/stats").json()["promptCount"] == 5


def test_a_request_whose_answer_is_lost_is_carried_out_once(nodes, here, there, sid):
    create(here, sid)
    there.get(f"/v1/sessions/{sid}")
    nodes[0].proxy.cut_after(0)
    assert is_unavailable(there.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"}))
    nodes[0].proxy.heal()
    assert here.get(f"/v1/sessions/{sid}/stats").json()["promptCount"] <= 1


def test_an_answer_that_is_cut_in_the_middle_is_not_taken_for_whole(nodes, here, there, sid):
    create(here, sid)
    there.post(f"/v1/sessions/{sid}/prompt", json={"text": "x " * 50_000, "wait": 20})
    nodes[0].proxy.reset()
    nodes[0].proxy.cut_after(50_000)
    with pytest.raises(httpx.HTTPError):
        there.get(f"/v1/sessions/{sid}/messages")


# -- streams -------------------------------------------------------------------------------------


def broken(nodes, monkeypatch, sid, kind):
    """Break everything with the first node, of which the second one hears how a session ended."""
    node = nodes[1].gateway.node
    known = node.ended

    def ended(key):
        if kind is None or not key.endswith(f"/{sid}"):
            return known(key)
        metadata = Metadata(key, 1, "k-acme", "acme", 0, "parrot", "test", 1)
        return EndedElsewhere(Ended(1, metadata, ExitReason.of(kind), 0), nodes[0].incarnation)

    monkeypatch.setattr(node, "ended", ended)
    nodes[0].proxy.refuse()


@pytest.mark.parametrize("envelope", [False, True])
def test_the_stream_of_a_dead_owner_ends_with_its_session(
    nodes, here, there, sid, monkeypatch, envelope
):
    create(here, sid)
    query = {"envelope": "1"} if envelope else {}
    with there.stream("GET", f"/v1/sessions/{sid}/events", params=query) as response:
        lines = response.iter_lines()
        next(lines)
        broken(nodes, monkeypatch, sid, "lost")
        rest = "\n".join(lines)
    if envelope:
        assert rest == '\ndata: {"event":"session_end","data":{"reason":"lost"}}\n'
    else:
        assert rest == '\nevent: session_end\ndata: {"reason":"lost"}\n'


def test_a_stream_without_ends_of_sessions_gets_none(nodes, here, there, sid, monkeypatch):
    create(here, sid)
    with there.stream("GET", f"/v1/sessions/{sid}/events?types=agent_end") as response:
        lines = response.iter_lines()
        next(lines)
        broken(nodes, monkeypatch, sid, "lost")
        assert [line for line in lines if line] == []


def test_the_stream_of_an_owner_that_may_live_ends_and_can_be_resumed(
    nodes, here, there, sid, monkeypatch
):
    create(here, sid)
    with events(there, sid, since="0") as stream:
        broken(nodes, monkeypatch, sid, None)
        assert list(stream) == []
    nodes[0].proxy.heal()
    whole = turn_of(here, sid, "hello")
    with events(there, sid, since="0") as stream:
        assert until(stream, "agent_end") == whole


def test_the_socket_of_a_dead_owner_ends_with_its_session(nodes, here, sid, monkeypatch):
    create(here, sid)
    with opened(nodes[1], sid) as ws:
        said(ws, action="abort")
        broken(nodes, monkeypatch, sid, "lost")
        last = until_on(ws, "session_end")[-1]
        assert last == {"event": "session_end", "data": {"reason": "lost"}}
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=20)
    assert closed.value.rcvd.code == 1000


def test_the_socket_of_an_owner_that_may_live_says_to_come_again(nodes, here, sid, monkeypatch):
    create(here, sid)
    with opened(nodes[1], sid) as ws:
        said(ws, action="abort")
        broken(nodes, monkeypatch, sid, None)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=20)
    assert closed.value.rcvd.code == 1012


def test_a_failure_of_the_node_that_passes_a_socket_on_is_told_as_one(
    nodes, here, sid, monkeypatch
):
    create(here, sid)
    with opened(nodes[1], sid) as ws:
        said(ws, action="abort")
        monkeypatch.setattr(nodes[1].gateway, "count", None)
        ws.send("{}")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=20)
    assert closed.value.rcvd.code == 1011


def test_a_stalled_node_is_not_asked_and_its_streams_through_others_end(
    nodes, here, there, sid, monkeypatch
):
    create(here, sid)
    node = nodes[1].gateway.node
    seen, found = node.node, node.find

    def stalled(incarnation):
        status = seen(incarnation)
        return status and replace(status, state=NodeState.STALLED)

    async def find(key):
        located = await found(key)
        return replace(located, node=stalled(located.node.node.incarnation))

    with events(there, sid, since="0") as stream, opened(nodes[1], sid) as ws:
        said(ws, action="abort")
        monkeypatch.setattr(node, "node", stalled)
        monkeypatch.setattr(node, "find", find)
        began = time.monotonic()
        assert list(stream) == []
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=20)
        assert time.monotonic() - began < 15
    began = time.monotonic()
    assert is_unavailable(there.get(f"/v1/sessions/{sid}"))
    assert time.monotonic() - began < 10


# -- moved, gone, unknown ------------------------------------------------------------------------


def test_what_has_moved_is_looked_up_once_more(nodes, here, there, sid, monkeypatch):
    create(here, sid)
    node = nodes[1].gateway.node
    old = nodes[1].call(node.find, f"acme/{sid}")
    here.delete(f"/v1/sessions/{sid}")
    create(here, sid)
    found, forgotten, asked = node.find, [], []

    async def find(key):
        asked.append(key)
        return await found(key) if forgotten else old

    monkeypatch.setattr(node, "find", find)
    monkeypatch.setattr(node, "forget", forgotten.append)
    answer = there.post(f"/v1/sessions/{sid}/prompt", json={"text": "for the new one", "wait": 20})
    assert answer.status_code == 200, answer.text
    assert (forgotten, asked) == ([f"acme/{sid}"], [f"acme/{sid}"] * 2)
    with opened(nodes[1], sid) as ws:
        assert said(ws, action="abort") == {"action": "abort", "status": "aborting"}


def test_what_moves_again_and_again_is_not_followed_for_ever(nodes, here, there, sid, monkeypatch):
    create(here, sid)
    node = nodes[1].gateway.node
    old = nodes[1].call(node.find, f"acme/{sid}")
    here.delete(f"/v1/sessions/{sid}")
    create(here, sid)
    asked = []

    async def find(key):
        asked.append(key)
        return old

    monkeypatch.setattr(node, "find", find)
    assert is_unavailable(there.get(f"/v1/sessions/{sid}"))
    assert len(asked) == 2


def test_what_has_ended_since_it_was_found_is_told_as_ended(nodes, here, there, sid, monkeypatch):
    create(here, sid)
    node = nodes[1].gateway.node
    old = nodes[1].call(node.find, f"acme/{sid}")
    turn_of(here, sid, "hi")
    here.delete(f"/v1/sessions/{sid}")
    found, forgotten = node.find, []

    async def find(key):
        return await found(key) if forgotten else old

    monkeypatch.setattr(node, "find", find)
    monkeypatch.setattr(node, "forget", forgotten.append)
    answer = there.get(f"/v1/sessions/{sid}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "deleted")
    with events(there, sid, since="0") as stream:
        assert list(stream)[-1][1] == "session_end"


def test_of_a_session_whose_node_is_dead_it_is_told_how_it_ended(nodes, there, sid, monkeypatch):
    node = nodes[1].gateway.node
    metadata = Metadata(f"acme/{sid}", 1, "k-acme", "acme", 0, "parrot", "test", 1)
    ended = EndedElsewhere(Ended(1, metadata, ExitReason.of("lost"), 0), "0" * 32)
    monkeypatch.setattr(node, "ended", lambda key: ended)
    for path in ("", "/events", "/status"):
        answer = there.get(f"/v1/sessions/{sid}{path}")
        assert (answer.status_code, answer.json()["error"]) == (404, "session_dead")
        assert answer.json()["reason"] == "lost"


def test_a_session_between_two_agents_is_asked_about_where_it_restarts(
    nodes, here, there, sid, monkeypatch
):
    create(here, sid)
    node = nodes[1].gateway.node

    async def find(key):
        raise SessionNotFound(key)

    metadata = Metadata(f"acme/{sid}", 1, "k-acme", "acme", 0, "parrot", "test", 1)
    ended = EndedElsewhere(Ended(1, metadata, ExitReason.of("restarted"), 0), nodes[0].incarnation)
    monkeypatch.setattr(node, "find", find)
    monkeypatch.setattr(node, "ended", lambda key: ended)
    assert there.get(f"/v1/sessions/{sid}").json()["state"] == "idle"


@pytest.mark.parametrize(
    "error", [EngineUnavailable("secret-host is down"), Recovering(retry_after_s=7)]
)
def test_while_the_index_does_not_know_nobody_is_said_to_be_gone(
    nodes, here, there, sid, monkeypatch, error
):
    create(here, sid)
    node = nodes[1].gateway.node

    async def find(key):
        raise error

    monkeypatch.setattr(node, "find", find)
    answer = there.get(f"/v1/sessions/{sid}")
    assert is_unavailable(answer)
    assert "secret-host" not in answer.text
    # What is here, or ended here, needs no index.
    create(there, f"{sid}-own")
    assert there.get(f"/v1/sessions/{sid}-own").status_code == 200
    there.delete(f"/v1/sessions/{sid}-own")
    assert there.get(f"/v1/sessions/{sid}-own").json()["error"] == "session_dead"


def test_an_owner_is_asked_itself_where_the_index_cannot_be(nodes, here, sid):
    create(here, sid)
    status = nodes[1].gateway.node.node(nodes[0].incarnation)
    ask = nodes[1].forwarding.ask_owner
    entry = nodes[1].call(ask, f"acme/{sid}", status)
    assert (entry.entry.session_id, entry.entry.incarnation) == (
        f"acme/{sid}",
        nodes[0].incarnation,
    )
    assert entry.fence == nodes[0].gateway.node.fence(f"acme/{sid}")
    assert nodes[1].call(ask, f"acme/none-{sid}", status) is None


@pytest.mark.parametrize("answer", [b"{}", b"[1]", b"no JSON"])
def test_an_answer_by_the_rules_of_another_version_is_none(nodes, monkeypatch, answer):
    async def answer_otherwise(_):
        return answer

    other = nodes[0].forwarding
    for path in [path for path in other.calls.answers if path != "/-/rows"]:
        monkeypatch.setitem(other.calls.answers, path, answer_otherwise)
    with nodes[1].client() as client, nodes[1].client(OPERATOR) as operator:
        assert client.get("/v1/sessions").status_code == 200
        assert operator.get("/ops/sessions").json()["partial"] is True
        assert operator.get("/ops/ends").json()["partial"] is True
        assert operator.get("/ops/status").status_code == 200


def test_the_listener_ages_while_nothing_answers_on_it(nodes, monkeypatch):
    async def never(self, scope, receive, send):
        await asyncio.Event().wait()

    monkeypatch.setattr(OwnerApplication, "__call__", never)
    eventually(lambda: nodes[0].forwarding.listener_age_s() > 5)
    monkeypatch.undo()
    eventually(lambda: nodes[0].forwarding.listener_age_s() < 3)


def test_while_the_engine_is_gone_every_session_is_served_on_every_node(sid):
    with (
        cluster("one", "two") as (one, two),
        one.client() as here,
        two.client() as there,
    ):
        create(here, f"{sid}-known")
        assert there.get(f"/v1/sessions/{sid}-known").status_code == 200
        create(here, f"{sid}-new")
        # Everybody has heard of everybody: a node that nobody knows cannot be asked.
        eventually(lambda: two.gateway.node.node(one.incarnation) is not None)
        one.index.__exit__()
        for name in (f"{sid}-known", f"{sid}-new"):
            for _ in range(2):
                assert there.get(f"/v1/sessions/{name}").status_code == 200, name
            assert turn_of(there, name, "hello")[-1][1] == "agent_end"
            with opened(two, name) as ws:
                assert said(ws, action="abort")["status"] == "aborting"
        listed = there.get("/v1/sessions").json()
        assert [each["sessionId"] for each in listed["sessions"]] == [f"{sid}-known", f"{sid}-new"]
        assert listed["partial"]
        assert is_unavailable(there.get(f"/v1/sessions/{sid}-none"))
        here.delete(f"/v1/sessions/{sid}-new")
        assert there.get(f"/v1/sessions/{sid}-new").status_code in (404, 503)


def test_whatever_breaks_nothing_is_left_open_and_no_answer_is_wrong(nodes, here, sid):
    names = [f"{sid}-{number}" for number in range(4)]
    for name in names:
        create(here, name)
    wrong, until_s = [], time.monotonic() + 6

    def use(number):
        chances = random.Random(number)
        while time.monotonic() < until_s:
            name = chances.choice(names)
            with nodes[1].client() as client, suppress(httpx.HTTPError, InvalidStatus, OSError):
                kind = chances.randrange(4)
                if kind == 0:
                    answer = client.get(f"/v1/sessions/{name}/stats")
                    if answer.status_code not in (200, 503) or (
                        answer.status_code == 200 and answer.json()["sessionId"] != name
                    ):
                        wrong.append(answer.text)
                elif kind == 1:
                    asked = {"text": f"{name} {number}", "wait": 5}
                    answer = client.post(f"/v1/sessions/{name}/prompt", json=asked)
                    # Others abort what they find under way.
                    ended = answer.status_code == 200 and answer.json()["status"] == "ended"
                    if ended and answer.json()["text"] != f"{name} {number} ":
                        wrong.append(answer.text)
                elif kind == 2:
                    url = f"/v1/sessions/{name}/events?since=0"
                    with client.stream("GET", url) as stream:
                        count = range(chances.randrange(1, 30))
                        for _, line in zip(count, stream.iter_lines(), strict=False):
                            if line.startswith("event: session_end"):
                                wrong.append(line)
                else:
                    with (
                        opened(nodes[1], name, close_timeout=0.1) as ws,
                        suppress(ConnectionClosed, TimeoutError),
                    ):
                        said(ws, action="abort")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    while time.monotonic() < until_s:
        nodes[0].proxy.lossy(0.05)
        nodes[0].proxy.reset()
        threading.Event().wait(0.05)
    nodes[0].proxy.heal()
    for each in threads:
        each.join(60)
    assert wrong == []

    def left():
        connections = nodes[1].forwarding.hops._by_incarnation.values()
        return (
            sum(len(each._busy) for each in connections)
            + len(nodes[1].forwarding.hops.streams)
            + sum(len(node.gateway.streams) for node in nodes)
        )

    eventually(lambda: nodes[1].call(left) == 0, within_s=60)
    for name in names:
        assert here.get(f"/v1/sessions/{name}").status_code == 200
