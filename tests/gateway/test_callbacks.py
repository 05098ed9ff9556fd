"""Callback tools against a real server on loopback."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

import httpx2
import pytest

from frontdesk.agents.errors import ToolFailed
from frontdesk.agents.records import CallbackTool
from frontdesk.clock import SystemClock
from frontdesk.gateway.keys import signing_secret_of
from frontdesk.gateway.ssrf import AddressGuard, GuardedTransport
from frontdesk.gateway.tool_webhooks import Callbacks
from gateway.requirements import covers
from gateway.running import RunningGateway, create, turn_of

LOOPBACK = [ip_network("127.0.0.0/8")]


class Tool(BaseHTTPRequestHandler):
    """Answer as the server's `answer` says, and keep what was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, dict(self.headers.items()), body))
        self.server.answer(self)

    def log_message(self, *args):
        pass


def answering(status=200, body=b'{"result": 42}', headers=()):
    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Connection", "close")
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def tool_server(answer):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tool)
    server.answer, server.asked, server.daemon_threads = answer, [], False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def called(server, *, allow=LOOPBACK, host="127.0.0.1", answer_bytes=10_000, **tool):
    tool = CallbackTool(
        **{
            "name": "lookup",
            "callback_url": f"http://{host}:{server.server_port}/hook?x=1",
            **tool,
        }
    )

    async def scenario():
        async with Callbacks(
            guard=AddressGuard(allow),
            master_secret=b"master",
            answer_bytes=answer_bytes,
            clock=SystemClock(),
        ) as callbacks:
            return await callbacks.call(
                tool, call_id="c1", args={"a": 1}, session_id="s", tenant_id="t", api_key="k"
            )

    return asyncio.run(scenario())


def failure(*args, **options):
    with pytest.raises(ToolFailed) as caught:
        called(*args, **options)
    return caught.value.problem


@covers("callbacks.posted")
def test_the_call_is_posted_and_its_result_comes_back():
    with tool_server(answering(body=b'{"result": {"deep": [1, null]}}')) as server:
        assert called(server, host="localhost") == {"deep": [1, None]}
    path, headers, body = server.asked[0]
    assert path == "/hook?x=1"
    assert json.loads(body) == {
        "callId": "c1", "toolName": "lookup", "args": {"a": 1}, "sessionId": "s",
    }  # fmt: skip
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == f"localhost:{server.server_port}"


@covers("callbacks.signed", "callbacks.secret-derived")
def test_the_signature_covers_timestamp_and_body():
    with tool_server(answering()) as server:
        called(server)
    _, headers, body = server.asked[0]
    timestamp = headers["X-Frontdesk-Timestamp"]
    secret = signing_secret_of(b"master", "k")
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    assert headers["X-Frontdesk-Signature"] == f"v1={signed.hexdigest()}"


@covers("callbacks.posted")
def test_the_tools_own_error_is_told():
    with tool_server(answering(body=b'{"error": "no such order"}')) as server:
        assert failure(server) == "no such order"


@covers("callbacks.private-refused")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1"])
def test_loopback_is_not_called_unless_the_operator_allows_it(host):
    with tool_server(answering()) as server:
        problem = failure(server, allow=[], host=host)
        assert "may not be called" in problem or "resolved" in problem
        assert server.asked == []


@covers("callbacks.pinned")
def test_a_name_that_resolves_differently_the_second_time_is_not_asked_a_second_time():
    asked = []

    async def rebinding(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.6.6.6"]

    async def scenario(server):
        guard = AddressGuard(LOOPBACK, resolve=rebinding)
        tool = CallbackTool(name="t", callback_url=f"http://evil.example:{server.server_port}/")
        async with Callbacks(
            guard=guard, master_secret=b"m", answer_bytes=1000, clock=SystemClock()
        ) as callbacks:
            return await callbacks.call(
                tool, call_id="c", args={}, session_id="s", tenant_id="t", api_key="k"
            )

    with tool_server(answering()) as server:
        assert asyncio.run(scenario(server)) == 42
    assert asked == ["evil.example"]
    assert server.asked[0][1]["Host"].startswith("evil.example:")


@covers("callbacks.pinned")
@pytest.mark.parametrize(("name", "trusted"), [("tools.example", True), ("other.example", False)])
def test_tls_is_verified_against_the_name_though_the_address_is_connected_to(
    tmp_path, name, trusted
):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
         "-addext", "subjectAltName=DNS:tools.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip

    async def loopback(host, port):
        return ["127.0.0.1"]

    async def scenario(port):
        guard = AddressGuard(LOOPBACK, resolve=loopback)
        transport = GuardedTransport(guard, tls=ssl.create_default_context(cafile=certificate))
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
            return (await client.post(f"https://{name}:{port}/", content=b"{}")).json()

    with tool_server(answering()) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        if trusted:
            assert asyncio.run(scenario(server.server_port)) == {"result": 42}
        else:
            with pytest.raises(httpx2.ConnectError):
                asyncio.run(scenario(server.server_port))


@covers("callbacks.no-redirects")
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status):
    with tool_server(answering(status, b"", [("Location", "/elsewhere")])) as server:
        assert str(status) in failure(server)
        assert len(server.asked) == 1


@covers("callbacks.bounded")
def test_an_answer_that_is_too_large_is_not_read_whole():
    with tool_server(answering(body=b'{"result": "' + b"x" * 20_000 + b'"}')) as server:
        assert "10000 bytes" in failure(server)


@covers("callbacks.bounded")
def test_a_tool_that_does_not_answer_in_time_has_failed():
    done = threading.Event()
    with tool_server(lambda handler: done.wait(20)) as server:
        assert "50 ms" in failure(server, timeout_ms=50)
        done.set()


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, b"not json", "not JSON"),
        (200, b"[" * 100_000, "10000 bytes"),
        (200, b"[" * 5_000, "not JSON"),
        (200, b"[]", "neither"),
        (200, b"{}", "neither"),
        (500, b'{"result": 1}', "500"),
        (404, b"", "404"),
    ],
)
def test_a_wrong_answer_is_a_failure_that_shows_nothing_of_it(status, body, problem):
    with tool_server(answering(status, body)) as server:
        assert problem in failure(server)


def test_a_tool_that_cannot_be_reached_has_failed():
    with tool_server(answering()) as server:
        pass
    assert failure(server) == "it could not be reached"


@covers("routes.attach-tool", "routes.detach-tool", "callbacks.posted")
def test_a_session_uses_its_callback_tool(tmp_path):
    callbacks = {"allow_networks": ["127.0.0.0/8"]}
    with (
        tool_server(answering(body=b'{"result": "sunny"}')) as server,
        RunningGateway(tmp_path, callbacks=callbacks) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="handy")
        body = {
            "name": "lookup",
            "description": "look something up",
            "parameters": {"type": "object"},
            "callbackUrl": f"http://localhost:{server.server_port}/hook",
        }
        attached = client.post("/v1/sessions/s/tools", json=body)
        assert (attached.status_code, attached.json()["name"]) == (201, "lookup")
        turn = turn_of(client, "s", "weather")
        names = [each[1] for each in turn]
        assert names.index("tool_execution_start") < names.index("tool_execution_end")
        assert turn[-1][2]["lastMessage"]["content"] == "it says sunny "
        assert json.loads(server.asked[0][2])["args"] == {"text": "weather"}
        assert client.get("/v1/sessions/s").json()["toolCalls"] == 1
        assert client.delete("/v1/sessions/s/tools/lookup").status_code == 200
        again = client.delete("/v1/sessions/s/tools/lookup")
        assert (again.status_code, again.json()["error"]) == (404, "not_found")


@covers("errors.registration-failed", "callbacks.private-refused")
@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/x", "http://localhost/", "http://169.254.169.254/latest", "ftp://a/",
     "http://[::1]/", "nonsense", "http://does-not-exist.invalid/", "http://u:p@93.184.215.14/"],
)  # fmt: skip
def test_a_tool_that_may_not_be_called_is_not_registered(acme, sid, url):
    create(acme, sid)
    body = {"name": "t", "description": "d", "parameters": {}, "callbackUrl": url}
    response = acme.post(f"/v1/sessions/{sid}/tools", json=body)
    assert (response.status_code, response.json()["error"]) == (422, "registration_failed")


@pytest.mark.parametrize(
    "cookie",
    [
        "id=acme-secret",
        "id=acme-secret; Path=/; Max-Age=3600",
        "id=acme-secret; Domain=127.0.0.1",
        "id=acme-secret; Secure; HttpOnly; SameSite=None",
    ],
)
@pytest.mark.parametrize("status", [200, 302, 500])
def test_a_cookie_of_one_tenants_call_never_comes_with_anothers(cookie, status):
    async def both(server):
        async with Callbacks(
            guard=AddressGuard(LOOPBACK),
            master_secret=b"m" * 32,
            answer_bytes=10_000,
            clock=SystemClock(),
        ) as callbacks:
            tool = CallbackTool(
                name="lookup", callback_url=f"http://127.0.0.1:{server.server_port}/"
            )
            for tenant in ("acme", "globex"):
                with contextlib.suppress(ToolFailed):
                    await callbacks.call(
                        tool,
                        call_id="c",
                        args={},
                        session_id="s",
                        tenant_id="t",
                        api_key=f"{tenant}-key",
                    )
            assert not callbacks._client.cookies

    with tool_server(answering(status, headers=[("Set-Cookie", cookie)])) as server:
        asyncio.run(both(server))
        assert len(server.asked) == 2
        for _, headers, _ in server.asked:
            assert "cookie" not in {name.lower() for name in headers}
