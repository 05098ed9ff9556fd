"""TLS on the real server: handshakes that are counted, certificates that are renewed."""

import signal
import socket
import ssl
import subprocess
from contextlib import ExitStack, suppress

import httpx
import pytest
from websockets.sync.client import connect

from gateway.command import CONFIG, NEVER_IDLE, serving
from gateway.running import ACME, create, turn_of
from support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


class Files:
    """A certificate and its key, which can be made anew."""

    def __init__(self, directory):
        self.certificate, self.key = directory / "c.pem", directory / "k.pem"
        self.renew()

    def renew(self, *more):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.key, "-out",
             self.certificate, *more],
            check=True, capture_output=True,
        )  # fmt: skip

    @property
    def options(self):
        return ("--tls-certificate", str(self.certificate), "--tls-key", str(self.key))

    def client(self, url):
        trusting = ssl.create_default_context(cafile=self.certificate)
        headers = {"X-API-Key": ACME}
        return httpx.Client(
            base_url=url,
            verify=trusting,
            headers=headers,
            trust_env=False,
            timeout=30,
            limits=NEVER_IDLE,
        )


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def place_of(server):
    host, port = server.url.removeprefix("https://").split(":")
    return host, int(port)


def shown(server):
    """The certificate that a new connection sees."""
    return ssl.get_server_certificate(place_of(server), timeout=20)


UNFINISHED = {
    "nothing": b"",
    "a byte": b"\x16",
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00",
    "no TLS": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
}


def test_handshakes_that_never_end_leave_room_for_those_with_a_key(tmp_path, files):
    limits = {
        "FRONTDESK_LIMITS__KEYLESS_CONNECTIONS": "20",
        "FRONTDESK_LIMITS__KEYLESS_CONNECTIONS_PER_ADDRESS": "10",
        "FRONTDESK_LIMITS__HEAD_TIMEOUT_S": "600",
    }
    with serving(tmp_path, *files.options, **limits) as server, ExitStack() as stack:
        client = stack.enter_context(files.client(server.url))
        create(client, "s")
        for sent in UNFINISHED.values():
            others = [
                stack.enter_context(socket.create_connection(place_of(server), timeout=20))
                for _ in range(30)
            ]
            for other in others:
                with suppress(OSError):
                    other.sendall(sent)
            for other in others[:20]:
                with suppress(OSError):  # or reset: closed in any case, long before its deadline
                    while other.recv(4096):
                        pass
            assert client.get("/v1/sessions/s").status_code == 200
            with files.client(server.url) as newcomer:
                assert newcomer.get("/healthz").status_code == 200
        eventually(lambda: "too many connections without a key" in server.log)
        assert "Traceback" not in server.log


def test_what_a_client_sends_at_the_end_of_its_handshake_is_heard(tmp_path, files):
    """And all that goes another way than HTTP's heads: bodies, streams, WebSockets."""
    with serving(tmp_path, *files.options) as server, files.client(server.url) as client:
        create(client, "s", userData={"long": "x" * 500_000})
        assert turn_of(client, "s", "over tls")[-1][1] == "agent_end"
        trusting = ssl.create_default_context(cafile=files.certificate)
        for _ in range(20):
            with (
                socket.create_connection(place_of(server), timeout=20) as plain,
                trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
            ):
                secured.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert secured.recv(4096).startswith(b"HTTP/1.1 200 ")
        url = f"{server.url.replace('https', 'wss')}/v1/sessions/s/ws"
        with connect(url, ssl=trusting, additional_headers={"X-API-Key": ACME}) as socket_:
            socket_.send('{"action": "prompt", "text": "over a socket"}')
            assert "requestId" in socket_.recv(timeout=20)
        assert server.terminate() == 0
        assert "Traceback" not in server.log


def test_a_renewed_certificate_is_shown_after_a_sighup_and_no_connection_is_cut(tmp_path, files):
    with serving(tmp_path, *files.options) as server, files.client(server.url) as client:
        create(client, "s")
        before = shown(server)
        files.renew()
        assert shown(server) == before
        server.signal(signal.SIGHUP)
        eventually(lambda: shown(server) != before)
        assert shown(server) == ssl.PEM_cert_to_DER_cert(files.certificate.read_text()) or (
            shown(server).split() == files.certificate.read_text().split()
        )
        assert client.get("/v1/sessions/s").status_code == 200  # on the connection from before
        with files.client(server.url) as newcomer:
            assert newcomer.get("/v1/sessions/s").status_code == 200


def test_a_renewed_certificate_that_cannot_be_used_is_told_and_the_old_one_stays(tmp_path, files):
    with serving(tmp_path, *files.options) as server, files.client(server.url) as client:
        before, key = shown(server), files.key.read_bytes()

        def refused(times, sentence):
            server.signal(signal.SIGHUP)
            eventually(lambda: server.log.count("not reloaded") == times)
            eventually(lambda: sentence in server.log)
            assert shown(server) == before
            assert client.get("/v1/sessions").status_code == 200

        run = ["openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:x"]
        files.key.write_bytes(subprocess.run(run, check=True, capture_output=True).stdout)
        refused(1, "server.tls_key: is encrypted")
        files.renew()
        files.key.write_bytes(key)  # the key of another
        refused(2, "server.tls_certificate: cannot be used")
        files.key.unlink()
        refused(3, "No such file")
        files.renew()
        files.certificate.write_text("this is no certificate")
        refused(4, "server.tls_certificate: cannot be used")


def test_a_reload_says_what_needs_a_restart_and_what_was_taken(tmp_path):
    file = tmp_path / "frontdesk.toml"
    with serving(tmp_path) as server, server.client() as client:
        file.write_text(
            '[server]\nhost = "127.0.0.2"\n[limits]\nrequests_per_minute = 777\n'
            f'head_bytes = 20000\n[log]\nlevel = "error"\n{CONFIG}'
        )
        server.signal(signal.SIGHUP)
        for name in ("server.host", "limits.head_bytes", "log.level"):
            eventually(lambda name=name: f"needs a restart: {name}" in server.log)
        for name in ("server.state_dir", "requests_per_minute", "server.grace_s"):
            assert name not in server.log
        assert client.get("/v1/sessions").headers["x-ratelimit-limit"] == "777"


@pytest.mark.slow
def test_tls_that_is_switched_on_or_off_needs_a_restart(tmp_path, files):
    file = tmp_path / "frontdesk.toml"
    tables = f'[server]\ntls_certificate = "{files.certificate}"\ntls_key = "{files.key}"\n'
    with serving(tmp_path) as server, server.client() as client:
        file.write_text(tables + CONFIG)
        server.signal(signal.SIGHUP)
        eventually(lambda: "needs a restart: server.tls_certificate" in server.log)
        assert client.get("/v1/sessions").status_code == 200
    file.unlink()
    with serving(tmp_path / "on", config=tables + CONFIG) as server:
        (tmp_path / "on" / "frontdesk.toml").write_text(CONFIG)
        server.signal(signal.SIGHUP)
        eventually(lambda: "needs a restart: server.tls_certificate" in server.log)
        with files.client(server.url) as client:
            assert client.get("/v1/sessions").status_code == 200


def test_the_agent_card_behind_tls_says_https(tmp_path, files):
    with serving(tmp_path, *files.options) as server, files.client(server.url) as client:
        card = client.get("/.well-known/agent.json").json()
    assert server.url.startswith("https://")
    assert (card["url"], card["documentationUrl"]) == (f"{server.url}/v1", f"{server.url}/docs")
