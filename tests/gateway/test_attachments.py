"""Attachments over HTTP and WebSocket: in base64, or fetched by the gateway, within bounds."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from websockets.sync.client import connect

from frontdesk.agents import Blueprints, blueprint
from gateway.running import ACME, RunningGateway, create, events, until
from support.waiting import eventually

PNG = b"\x89PNG" + bytes(100)
LOOPBACK = {"allow_networks": ["127.0.0.0/8"]}
BOUNDS = {"count": 2, "bytes": 1000, "total_bytes": 1500, "fetch_s": 2.0}


@blueprint("receiver", attachments=("image/*", "text/plain"))
async def receiver(turn):
    yield json.dumps(
        [
            [each.name, each.media_type, hashlib.sha256(each.content).hexdigest()]
            for each in turn.attachments
        ]
    )


@blueprint("parrot")
async def parrot(turn):
    yield turn.text


class File(BaseHTTPRequestHandler):
    """Serve what the path says: a size, a status, a redirect, or nothing for ever."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        kind, _, value = self.path.strip("/").partition("/")
        if kind == "stall":
            self.server.over.wait(20)
            return
        body = bytes(int(value)) if kind == "size" else PNG
        self.send_response(int(value) if kind == "status" else 200)
        self.send_header("Location", "/size/1")
        if kind != "size":
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "a=b")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def files():
    server = ThreadingHTTPServer(("127.0.0.1", 0), File)
    server.asked, server.over = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join(20)
        server.server_close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    running = RunningGateway(
        tmp_path_factory.mktemp("state"),
        agents=Blueprints([receiver, parrot]),
        callbacks=LOOPBACK,
        attachments=BOUNDS,
    )
    with running:
        yield running


@pytest.fixture
def client(gateway, request):
    with gateway.client() as opened:
        opened.session = f"s-{abs(hash(request.node.name))}"
        create(opened, opened.session, blueprint="receiver")
        yield opened


def inline(content=PNG, *, name="a.png", media_type="image/png"):
    data = base64.b64encode(content).decode()
    return {"name": name, "mediaType": media_type, "data": data}


def at(server, path, *, name="a.png"):
    url = f"http://127.0.0.1:{server.server_port}/{path}"
    return {"name": name, "mediaType": "image/png", "url": url}


def prompt(client, *attachments, headers=None, **more):
    body = {"text": "look", "attachments": list(attachments), **more}
    path = f"/v1/sessions/{client.session}/prompt"
    return client.post(path, json=body, headers=headers or {})


def got(response):
    assert response.status_code == 200, response.text
    return json.loads(response.json()["text"])


def row(content, *, name="a.png", media_type="image/png"):
    return [name, media_type, hashlib.sha256(content).hexdigest()]


# -- what reaches the agent ----------------------------------------------------------------------


def test_what_is_in_the_body_and_what_is_fetched_reach_the_agent_in_their_order(client):
    with files() as server:
        sent = [at(server, "size/900", name="b.png"), inline()]
        assert got(prompt(client, *sent, wait=20)) == [row(bytes(900), name="b.png"), row(PNG)]
    ((_, headers),) = server.asked
    assert headers["Accept-Encoding"] == "identity"
    assert "X-API-Key" not in headers


def test_streams_and_history_tell_of_it_without_its_content(client):
    assert prompt(client, inline(), wait=20).status_code == 200
    shown = [{"name": "a.png", "mediaType": "image/png", "size": len(PNG)}]
    with events(client, client.session) as stream:
        assert until(stream, "prompt_received")[-1][2]["attachments"] == shown
    messages = client.get(f"/v1/sessions/{client.session}/messages").json()["messages"]
    assert [each["attachments"] for each in messages] == [shown, []]
    assert inline()["data"] not in json.dumps(messages)


def test_a_type_is_compared_without_case_and_parameters(client):
    notes = inline(b"x", name="n", media_type="Text/Plain; charset=utf-8")
    assert got(prompt(client, notes, wait=20)) == [row(b"x", name="n", media_type="text/plain")]


def test_a_prompt_that_comes_with_a_session_brings_them_too(client, gateway):
    body = {"model": "test", "blueprint": "receiver", "prompt": "look", "wait": 20}
    opened = client.post("/v1/sessions", json={**body, "attachments": [inline()]})
    assert opened.status_code == 201, opened.text
    assert json.loads(opened.json()["turn"]["text"]) == [row(PNG)]
    with files() as server:
        refused = client.post(
            "/v1/sessions",
            json={**body, "sessionId": "no", "attachments": [at(server, "status/404")]},
        )
        assert refused.status_code == 422
    assert client.get("/v1/sessions/no").status_code == 404
    lonely = {"model": "test", "blueprint": "receiver", "attachments": [inline()]}
    assert "attachments need a prompt" in client.post("/v1/sessions", json=lonely).text


def test_a_prompt_on_a_websocket_brings_them_and_its_answer_comes_before_its_events(
    client, gateway
):
    url = f"{gateway.ws_url}/v1/sessions/{client.session}/ws"
    with files() as server, connect(url, additional_headers={"X-API-Key": ACME}) as socket:
        sent = [inline(), at(server, "size/10", name="b.png")]
        socket.send(json.dumps({"action": "prompt", "text": "look", "attachments": sent}))
        messages = [json.loads(socket.recv(20)) for _ in range(5)]
        assert messages[0]["status"] == "accepted"
        assert len(messages[1]["data"]["attachments"]) == 2
        socket.send(json.dumps({"action": "prompt", "text": "look", "attachments": [
            {"name": "a", "mediaType": "video/mp4", "data": "eA=="}]}))  # fmt: skip
        answers = [json.loads(socket.recv(20))]
        while "error" not in answers[-1]:
            answers.append(json.loads(socket.recv(20)))
        assert answers[-1]["error"] == "attachment_refused"


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attachment", "problem"),
    [
        ({"name": "a", "mediaType": "image/png"}, "needs either data or url"),
        ({**inline(), "url": "http://x.example"}, "needs either data or url"),
        ({**inline(), "data": "!"}, "attachments.0.data: must be base64"),
        ({**inline(), "data": "eA"}, "attachments.0.data: must be base64"),
        ({**inline(), "mediaType": "png"}, "attachments.0.mediaType"),
        ({**inline(), "name": ""}, "attachments.0.name"),
        ({**inline(), "size": 1}, "attachments.0.size"),
    ],
)
def test_a_malformed_attachment_is_refused_by_its_field(client, attachment, problem):
    refused = prompt(client, attachment)
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
    assert problem in refused.json()["message"]


def test_more_or_larger_ones_than_may_come_are_refused(client):
    for sent, what in (
        ([inline(b"x")] * 3, "the attachments is over the limit of 2 files"),
        ([inline(bytes(1001))], "the attachment is over the limit of 1000 bytes"),
        ([inline(bytes(1000)), inline(bytes(501))], "the attachments is over the limit of 500 byt"),
    ):
        refused = prompt(client, *sent)
        assert (refused.status_code, refused.json()["error"]) == (413, "too_large")
        assert what in refused.json()["message"]
    assert prompt(client, inline(bytes(1000)), inline(bytes(500)), wait=20).status_code == 200


def test_a_type_that_the_blueprint_does_not_take_is_refused_and_nothing_is_fetched(client):
    with files() as server:
        video = {**at(server, "size/1"), "mediaType": "video/mp4"}
        refused = prompt(client, video)
        assert (refused.status_code, refused.json()["error"]) == (422, "attachment_refused")
        assert refused.json()["message"] == (
            "attachment of type 'video/mp4': blueprint 'receiver' takes image/*, text/plain"
        )
        create(client, f"{client.session}-parrot", blueprint="parrot")
        client.session += "-parrot"
        refused = prompt(client, at(server, "size/1"))
        assert "blueprint 'parrot' takes no attachments" in refused.json()["message"]
    assert server.asked == []


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        ("status/404", 422, "the answer has status 404"),
        ("status/302", 422, "the answer has status 302"),
        ("status/500", 503, "the answer has status 500"),
        ("status/429", 503, "the answer has status 429"),
        ("size/1001", 413, "over the limit of 1000 bytes"),
        ("stall", 503, "not within 2 s"),
    ],
)
def test_what_cannot_be_fetched_is_refused_with_the_reason(client, gateway, path, status, problem):
    with files() as server:
        refused = prompt(client, at(server, path))
        assert refused.status_code == status, refused.text
        assert problem in refused.json()["message"]
    assert len(server.asked) == 1
    assert gateway.gateway.service.attachments.held("acme") == 0
    state = client.get(f"/v1/sessions/{client.session}").json()["state"]
    assert state == "idle"


def test_a_server_that_is_not_there_may_be_there_later(client):
    with files() as server:
        gone = at(server, "size/1")
    assert prompt(client, gone).status_code == 503


def test_an_address_that_may_not_be_called_is_not(tmp_path):
    agents = Blueprints([receiver])
    with (
        RunningGateway(tmp_path / "state", agents=agents) as closed,
        closed.client() as client,
        files() as server,
    ):
        client.session = "s"
        create(client, "s", blueprint="receiver")
        refused = prompt(client, at(server, "size/1"))
        assert (refused.status_code, refused.json()["error"]) == (422, "attachment_refused")
        assert "it leads to an address that may not be called" in refused.json()["message"]
        for url in ("ftp://x.example/a", "http://u:p@x.example/", "nonsense"):
            assert prompt(client, {**at(server, ""), "url": url}).status_code == 422
    assert server.asked == []


# -- again ---------------------------------------------------------------------------------------


def test_a_repetition_gets_its_first_answer_and_fetches_nothing_again(client):
    with files() as server:
        sent, key = at(server, "size/5"), {"Idempotency-Key": client.session}
        first, second = (prompt(client, sent, headers=key) for _ in range(2))
        assert first.status_code == 202
        assert first.json() == second.json()
        assert len(server.asked) == 1
        broken = {"Idempotency-Key": f"{client.session}-2"}
        assert prompt(client, at(server, "status/503"), headers=broken).status_code == 503
        # What may pass is not remembered.
        assert prompt(client, at(server, "status/503"), headers=broken).status_code == 503
        assert len(server.asked) == 3


def test_what_is_being_fetched_counts_as_held_by_its_tenant(tmp_path):
    bounds = {**BOUNDS, "total_bytes": 16 * 2**20, "bytes_per_tenant": 16 * 2**20, "fetch_s": 20}
    running = RunningGateway(
        tmp_path / "state", agents=Blueprints([receiver]), callbacks=LOOPBACK, attachments=bounds
    )
    with running, running.client() as client, files() as server:
        client.session = "s"
        create(client, "s", blueprint="receiver")
        slow = threading.Thread(target=prompt, args=(client, at(server, "stall")))
        slow.start()
        eventually(lambda: server.asked)
        refused = prompt(client, at(server, "size/1"))
        assert (refused.status_code, refused.json()["error"]) == (429, "prompt_queue_full")
        server.over.set()
        slow.join(20)
        assert got(prompt(client, at(server, "size/1"), wait=20)) == [row(bytes(1))]


def test_a_body_over_its_limit_is_refused_before_it_is_read(client):
    refused = prompt(client, inline(bytes(900_000)))
    assert (refused.status_code, refused.json()["error"]) == (413, "too_large")
    assert "body" in refused.json()["message"]
