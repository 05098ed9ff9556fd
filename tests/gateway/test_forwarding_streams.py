"""Event streams and WebSockets of a session on another node: the same bytes, at once, both ways."""

import asyncio
import json
import threading
import time
from contextlib import suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.asgi import ask
from gateway.cluster_running import cluster
from gateway.running import ACME, UMBRELLA, create, events, turn_of, until
from gateway.test_forwarding import alike
from gateway.test_websocket import opened, said
from gateway.test_websocket import until as until_on
from support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    """Two gateways with one registry, whose connections a test can break."""
    with cluster("one", "two", proxied=True) as running:
        yield running


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


def frames_of(client, sid, **query):
    """Read a stream to its end, as it is."""
    with client.stream("GET", f"/v1/sessions/{sid}/events", params=query) as response:
        return response.status_code, response.read()


# -- event streams -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", [{}, {"since": "0"}, {"since": "0", "envelope": "1"}, {"types": "agent_end"}]
)
def test_a_stream_through_another_node_has_the_same_bytes(here, there, sid, query):
    create(here, sid)
    turn_of(here, sid, "one two three")
    here.delete(f"/v1/sessions/{sid}")
    direct, passed = (frames_of(client, sid, **query) for client in (here, there))
    assert direct == passed
    assert direct[0] == 200


def test_an_event_comes_through_at_once(here, there, sid):
    create(here, sid, blueprint="patient")
    with events(there, sid) as stream:
        there.post(f"/v1/sessions/{sid}/prompt", json={"text": "work"})
        assert until(stream, "message_delta")[-1][2]["delta"] == "working "
        there.post(f"/v1/sessions/{sid}/steer", json={"text": "go"})
        assert until(stream, "agent_end")


def test_a_stream_goes_on_on_any_node_from_wherever_it_was_cut(here, there, sid):
    create(here, sid)
    whole = turn_of(here, sid, "a b c d", since="0")
    for place, (event_id, _, _) in enumerate(whole[:-1]):
        for client in (there, here):
            with events(client, sid, headers={"Last-Event-ID": event_id}) as stream:
                assert until(stream, "agent_end") == whole[place + 1 :]


def test_the_end_of_a_session_ends_its_stream_on_the_other_node(here, there, sid):
    create(here, sid)
    with events(there, sid, since="0") as stream:
        here.delete(f"/v1/sessions/{sid}")
        last = list(stream)[-1]
    assert last[1:] == ("session_end", {"reason": "deleted"})


def test_a_client_that_has_it_all_gets_204_on_any_node(here, there, sid):
    create(here, sid)
    turn_of(here, sid, "hi")
    here.delete(f"/v1/sessions/{sid}")
    with events(there, sid, since="0") as stream:
        last = list(stream)[-1][0]
    headers = {"Last-Event-ID": last}
    answers = [
        client.get(f"/v1/sessions/{sid}/events", headers=headers) for client in (here, there)
    ]
    assert alike(*answers)
    assert answers[0].status_code == 204


def test_what_ended_just_now_is_found_by_a_node_that_has_not_read_of_it(sid, monkeypatch):
    with cluster("one", "two") as (one, two), one.client() as here, two.client() as there:
        follow = two.gateway.node.engine.follow

        async def follow_late(*args, **options):
            page = await follow(*args, **options)
            await asyncio.sleep(0.5)
            return page

        monkeypatch.setattr(two.gateway.node.engine, "follow", follow_late)
        create(here, sid)
        turn_of(here, sid, "one two")
        here.delete(f"/v1/sessions/{sid}")
        passed = frames_of(there, sid, since="0")
        assert passed == frames_of(here, sid, since="0")
        assert passed[0] == 200


def test_a_client_that_leaves_ends_the_hop_at_once(nodes, here, there, sid):
    create(here, sid)
    with events(there, sid):
        eventually(lambda: len(nodes[0].gateway.streams) == 1)
        assert len(nodes[1].gateway.streams) == 1
    left = time.monotonic()
    eventually(lambda: len(nodes[0].gateway.streams) == 0, within_s=10)
    eventually(lambda: len(nodes[1].gateway.streams) == 0)
    assert time.monotonic() - left < 5


def test_a_wait_that_nobody_waits_for_ends_on_the_other_node(nodes, here, sid):
    create(here, sid, blueprint="patient")
    with nodes[1].client() as there:
        there.timeout = httpx.Timeout(20, read=1)
        with pytest.raises(httpx.ReadTimeout):
            there.post(f"/v1/sessions/{sid}/prompt", json={"text": "x", "wait": 60})
    eventually(lambda: len(nodes[0].gateway.streams) == 0, within_s=10)
    here.post(f"/v1/sessions/{sid}/abort")


def test_a_stream_counts_for_its_key_where_it_came_in(sid):
    with (
        cluster("one", "two", limits={"streams_per_key": 1}) as (one, two),
        one.client() as here,
        two.client() as there,
    ):
        create(here, sid)
        with events(there, sid):
            refused = there.get(f"/v1/sessions/{sid}/events")
            assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")


def test_a_revoked_key_ends_its_streams_through_other_nodes(sid):
    with cluster("one", "two") as (one, two), one.client() as here, two.client() as there:
        create(here, sid)
        with events(there, sid) as stream, opened(two, sid) as ws:
            # Nobody has it any more, on the node that it was shown to.
            two.call(two.gateway.reload, two.config)
            two.call(two.gateway.ring.replace_fixed, ())
            two.call(two.gateway.streams.end_where_not, two.gateway.authenticator.holds)
            assert list(stream) == []
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=20)
        assert closed.value.rcvd.code == 1008
        eventually(lambda: len(one.gateway.streams) == 0)


def test_what_a_slow_reader_leaves_unread_is_not_stored_by_the_node_between(nodes, here, sid):
    create(here, sid, blueprint="flooding")
    with nodes[1].connect() as slow:
        slow.sendall(
            f"GET /v1/sessions/{sid}/events HTTP/1.1\r\nHost: x\r\n"
            "X-API-Key: acme-secret-0123456789abcdef\r\n\r\n".encode()
        )
        here.post(f"/v1/sessions/{sid}/prompt", json={"text": "go"})
        slow.recv(1000)
        eventually(lambda: here.get(f"/v1/sessions/{sid}/stats").json()["lastEventIndex"] > 3000)

        def waiting():
            connections = nodes[1].forwarding.hops._by_incarnation.values()
            return sum(each._waiting_bytes for node in connections for each in node._busy)

        # One piece of what a socket gives at once, beyond the bound at which reading pauses.
        assert nodes[1].call(waiting) < 1024 * 1024
    here.post(f"/v1/sessions/{sid}/abort")
    here.delete(f"/v1/sessions/{sid}")


@pytest.mark.parametrize("size", [0, 1, 100, 1_000, 1_400, 2_000])
def test_a_stream_that_is_cut_anywhere_goes_on_without_loss(nodes, here, there, sid, size):
    create(here, sid)
    whole = turn_of(here, sid, "a b c d e f", since="0")
    here.delete(f"/v1/sessions/{sid}")
    whole.append((None, "session_end", {"reason": "deleted"}))
    nodes[0].proxy.reset()
    nodes[0].proxy.cut_after(size)
    seen, last = [], None
    headers = {}
    try:
        with there.stream("GET", f"/v1/sessions/{sid}/events", params={"since": "0"}) as response:
            text = b"".join(response.iter_raw()).decode() if response.status_code == 200 else ""
    except httpx.HTTPError:
        text = ""
    nodes[0].proxy.heal()
    for frame in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if line[:1] != ":")
        if "id" in fields:
            last = fields["id"]
            seen.append((fields["id"], fields["event"], json.loads(fields["data"])))
    headers = {"Last-Event-ID": last} if last else {}
    if len(seen) < len(whole):
        with events(there, sid, headers=headers, since="0") as stream:
            seen += list(stream)
    assert [each[1:] for each in seen] == [each[1:] for each in whole]


# -- WebSockets ----------------------------------------------------------------------------------


def test_a_socket_through_another_node_talks_and_listens(nodes, here, sid):
    create(here, sid)
    with opened(nodes[1], sid) as ws:
        for text in ("one two", "ünï\u2028code 🙂"):
            answer = said(ws, action="prompt", text=text)
            assert answer["status"] == "accepted"
            seen = until_on(ws, "agent_end")
            assert seen[0]["event"] == "prompt_received"
            assert seen[0]["data"]["text"] == text
        assert said(ws, action="nonsense")["error"] == "bad_request"
        ws.send(b"{")
        assert json.loads(ws.recv(timeout=20))["error"] == "bad_request"
        ws.send(json.dumps({"action": "abort"}).encode())
        assert json.loads(ws.recv(timeout=20)) == {"action": "abort", "status": "aborting"}


def test_answers_and_events_keep_their_order_through_another_node(nodes, here, sid):
    create(here, sid)
    with opened(nodes[1], sid) as ws:
        for _ in range(50):
            answer = said(ws, action="prompt", text="a b c")
            assert until_on(ws, "agent_end")[0]["data"]["requestId"] == answer["requestId"]


def test_a_large_message_goes_through_and_one_over_the_limit_does_not(nodes, here, sid):
    create(here, sid)
    with opened(nodes[1], sid, max_size=None) as ws:
        assert said(ws, action="prompt", text="x" * 190_000)["status"] == "accepted"
        until_on(ws, "agent_end")
        ws.send("x" * (1024 * 1024 + 1))
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=20)
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("query", ["", "&since=0", "&since=0&types=agent_end"])
def test_a_socket_begins_where_it_is_asked_to(nodes, here, sid, query):
    create(here, sid)
    turn_of(here, sid, "before")
    seen = []
    for node in nodes:
        with opened(node, sid, query=query) as ws:
            if query:
                seen.append(until_on(ws, "agent_end"))
            else:
                # From now on: nothing of before comes ahead of the answer.
                seen.append(said(ws, action="abort"))
    assert seen[0] == seen[1]


def test_the_end_of_a_session_closes_its_socket_on_the_other_node_alike(nodes, here, sid):
    create(here, sid)
    with opened(nodes[0], sid) as one, opened(nodes[1], sid) as two:
        here.delete(f"/v1/sessions/{sid}")
        closes = []
        for ws in (one, two):
            assert until_on(ws, "session_end")[-1]["data"] == {"reason": "deleted"}
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=20)
            closes.append((closed.value.rcvd.code, closed.value.rcvd.reason))
    assert closes[0] == closes[1] == (1000, "the session has ended")


def test_a_socket_is_refused_alike_before_it_is_opened(nodes, here, sid):
    create(here, sid)
    here.delete(f"/v1/sessions/{sid}")
    for session, secret in ((sid, None), (f"none-{sid}", None), (sid, UMBRELLA), (sid, "wrong")):
        refusals = []
        for node in nodes:
            options = {} if secret is None else {"secret": secret}
            with pytest.raises(InvalidStatus) as refused, opened(node, session, **options):
                pass
            response = refused.value.response
            refusals.append((response.status_code, bytes(response.body)))
        assert refusals[0] == refusals[1]


def test_a_client_that_leaves_its_socket_ends_the_hop_at_once(nodes, here, sid):
    create(here, sid)
    with opened(nodes[1], sid):
        eventually(lambda: len(nodes[0].gateway.streams) == 1)
    for node in nodes:
        eventually(lambda each=node: len(each.gateway.streams) == 0)


def test_messages_of_a_socket_count_where_it_came_in(sid):
    with cluster("one", "two", limits={"requests_per_minute": 12}) as (one, two):
        with one.client() as here:
            create(here, sid)
        with opened(two, sid) as ws:
            answers = [said(ws, action="abort") for _ in range(12)]
            refused = [each for each in answers if "error" in each]
            assert refused
            assert {(each["error"], each["action"]) for each in refused} == {
                ("rate_limited", "abort")
            }
            for _ in range(30):
                with suppress(ConnectionClosed):
                    said(ws, action="abort")
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=20)
        assert closed.value.rcvd.code == 1008


def test_many_streams_of_one_session_through_another_node_all_hear_it(nodes, here, there, sid):
    create(here, sid)
    seen, ready = [], threading.Barrier(21, timeout=30)

    def read():
        with nodes[1].client() as client, events(client, sid) as stream:
            ready.wait()
            seen.append([each[0] for each in until(stream, "agent_end")])

    threads = [threading.Thread(target=read) for _ in range(20)]
    for each in threads:
        each.start()
    ready.wait()
    there.post(f"/v1/sessions/{sid}/prompt", json={"text": "for all of you"})
    for each in threads:
        each.join(30)
    assert len(seen) == 20
    assert len({tuple(each) for each in seen}) == 1


def test_a_node_that_ends_lets_streams_go_whose_sessions_live_on(sid):
    with cluster("one", "two") as (one, two), one.client() as here, two.client() as there:
        create(here, sid)
        with events(there, sid, since="0") as stream, opened(two, sid) as ws:
            said(ws, action="abort")
            began = time.monotonic()
            two.call(two.gateway.drain, 0)
            assert list(stream) == []
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(timeout=20)
            assert time.monotonic() - began < 5
        assert closed.value.rcvd.code == 1012
        assert here.get(f"/v1/sessions/{sid}").json()["state"] == "idle"


def test_streams_go_through_under_another_server_and_a_prefix(nodes, here, sid):
    """As an ASGI application: nobody tells that the client leaves but `receive`."""
    create(here, sid)
    turn_of(here, sid, "one two")
    application = nodes[1].server._wire.app
    headers = [(b"x-api-key", ACME.encode()), (b"host", b"x")]

    def asked(path, **options):
        options = {"headers": headers, "root_path": "/desk", **options}
        return nodes[1].call(lambda: ask(application, path, **options))

    assert asked(f"/v1/sessions/{sid}", stays=True).status == 200
    assert asked(f"/v1/sessions/{sid}/nothing").error == "not_found"
    here.delete(f"/v1/sessions/{sid}")
    stream = f"/v1/sessions/{sid}/events?since=0"
    assert asked(stream, stays=True).body == frames_of(here, sid, since="0")[1]
    with pytest.raises(IndexError):
        asked(stream)  # who leaves before the answer begins gets none
    eventually(lambda: nodes[1].call(lambda: len(nodes[1].gateway.streams)) == 0)
