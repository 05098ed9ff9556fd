"""Where a client goes and with which key; the key is nowhere else than in one header."""

import logging
import pickle
import traceback

import pytest

from client.both import client_of
from client.scripted import ScriptedServer, answer
from frontdesk.client import Client, ClientError
from frontdesk.client.gateway_address import GatewayAddress
from frontdesk.errors import InvalidArgument

KEY = "fd_planted-0123456789abcdef"


def address(url=None, *, key=None, key_file=None, insecure=False):
    return GatewayAddress.of(url, key=key, key_file=key_file, insecure=insecure)


def test_without_anything_it_is_this_machine_and_no_key():
    assert address() == GatewayAddress("http://127.0.0.1:4000", None, loopback=True)
    assert address().headers == {}


def test_the_environment_says_where_and_who(monkeypatch):
    monkeypatch.setenv("FRONTDESK_URL", "https://agents.example.com/desk/")
    monkeypatch.setenv("FRONTDESK_KEY", KEY)
    assert address().url == "https://agents.example.com/desk"
    assert address().headers == {"Authorization": f"Bearer {KEY}"}
    assert address("http://[::1]:1", key="x").headers == {"Authorization": "Bearer x"}


def test_a_key_is_read_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTDESK_KEY", "of the environment")
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert address(key_file=tmp_path / "key").key == KEY


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", b"a\nb"])
def test_a_file_without_a_key_is_refused_and_not_shown(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidArgument, match="key_file must be") as caught:
        address(key_file=tmp_path / "key")
    assert "two words" not in str(caught.value)


def test_a_file_that_is_not_there_is_named_by_what_is_wrong(tmp_path):
    with pytest.raises(InvalidArgument, match="No such file"):
        address(key_file=tmp_path / "none")
    with pytest.raises(InvalidArgument, match="either key or key_file"):
        address(key="x", key_file=tmp_path / "none")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example", "agents.example.com", "http://", "https://u:secret@a.example",
        "https://a.example/?key=secret", "https://a.example/#secret", "http://a:99999", "http://[::",
    ],
)  # fmt: skip
def test_what_cannot_be_an_address_is_refused_and_not_repeated(url):
    with pytest.raises(InvalidArgument, match="url must be an address such as") as caught:
        address(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\r\nX-Evil: yes", "schlüssel", ""])
def test_what_no_header_can_carry_is_no_key(key):
    with pytest.raises(InvalidArgument, match="key must be a key") as caught:
        address(key=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("host", ["gateway", "10.0.0.1", "agents.example.com", "127.0.0.1.nip.io"])
def test_a_key_goes_to_another_machine_by_https_only(host, monkeypatch):
    with pytest.raises(InvalidArgument, match="url must be https where a key goes"):
        address(f"http://{host}:4000", key=KEY)
    assert address(f"https://{host}:4000", key=KEY).key == KEY
    assert address(f"http://{host}:4000").key is None
    assert address(f"http://{host}:4000", key=KEY, insecure=True).key == KEY
    monkeypatch.setenv("FRONTDESK_INSECURE", "1")
    assert address(f"http://{host}:4000", key=KEY).key == KEY


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "a.localhost"])
def test_a_key_goes_to_this_machine_as_it_is(host):
    assert address(f"http://{host}:4000", key=KEY).loopback


def test_a_gateway_below_a_prefix_is_asked_there(kind):
    with ScriptedServer(answer(404, b"")) as server:
        url = f"{server.url}/desk/"
        with client_of(kind, url, key=KEY) as client, pytest.raises(ClientError):
            client.get("s")
        assert server.requests[0].target == "/desk/v1/sessions/s"
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_key_is_in_no_repr_error_or_log(kind, caplog):
    caplog.set_level(logging.DEBUG)
    refusal = answer(401, {"error": "unauthorized", "message": "no key"})
    with ScriptedServer(b"", refusal) as server, client_of(kind, server.url, key=KEY) as client:
        session = client.session("s")
        with pytest.raises(ClientError) as cut:
            client.stop("s")
        with pytest.raises(ClientError) as refused:
            session.prompt("x")
        shown = [repr(client), repr(session), repr(address(key=KEY)), caplog.text]
    for caught in (cut, refused):
        shown += traceback.format_exception(caught.value)
        shown.append(pickle.dumps(caught.value).decode("latin-1"))
    assert KEY not in "".join(shown)


def test_proxies_of_the_environment_are_not_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with ScriptedServer(answer(200, {"sessions": [], "next": None, "partial": False})) as server:
        with Client(server.url, key=KEY) as client:
            client.list()
        assert len(server.requests) == 1
