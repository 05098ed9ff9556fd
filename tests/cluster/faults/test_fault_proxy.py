"""The proxy that the faults go through: what it is told to do, it does, and nothing else."""

import contextlib
import socket
import socketserver
import threading

import pytest

from support.fault_proxy import FaultProxy, Way
from support.waiting import eventually

SOON_S = 20
A_WHILE_S = 0.2
"""How long it is looked at that something does not come."""


class Echo(socketserver.BaseRequestHandler):
    """Answer with what was said, and keep it."""

    def handle(self):
        with contextlib.suppress(OSError):
            while said := self.request.recv(65_536):
                self.server.heard.append(said)
                self.request.sendall(said)


class Echoes(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True


class UnixEchoes(Echoes):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)


@pytest.fixture(params=["tcp", "unix"])
def echo(request, tmp_path):
    """A server that repeats, and the address of it."""
    if request.param == "tcp":
        server = Echoes(("127.0.0.1", 0), Echo)
        address = f"tcp:127.0.0.1:{server.server_address[1]}"
    else:
        server = UnixEchoes(str(tmp_path / "echo"), Echo)
        address = f"unix:{tmp_path}/echo"
    server.heard, server.name = [], address
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(SOON_S)


@pytest.fixture
def proxy(echo):
    with FaultProxy(echo.name) as proxy:
        yield proxy


@contextlib.contextmanager
def connected(proxy):
    """A connection through the proxy."""
    if proxy.address.startswith("unix:"):
        client, where = socket.socket(socket.AF_UNIX), proxy.path
    else:
        client, where = socket.socket(), ("127.0.0.1", proxy.port)
    client.settimeout(SOON_S)
    with client:
        client.connect(where)
        yield client


def says(client, text=b"one"):
    """Say something and return what comes back."""
    client.sendall(text)
    return received(client, len(text))


def received(client, size):
    found = b""
    while len(found) < size:
        piece = client.recv(size - len(found))
        if not piece:
            break
        found += piece
    return found


def nothing_comes(client):
    client.settimeout(A_WHILE_S)
    try:
        with pytest.raises(TimeoutError):
            client.recv(1)
    finally:
        client.settimeout(SOON_S)
    return True


def it_broke(client):
    """Tell whether the connection ended without a further byte."""
    try:
        return client.recv(1) == b""
    except OSError:
        return True


def test_without_a_fault_everything_passes(proxy):
    with connected(proxy) as client:
        large = b"x" * 1_000_000
        sender = threading.Thread(target=client.sendall, args=(large,))
        sender.start()
        assert received(client, len(large)) == large
        sender.join()


def test_the_end_of_one_direction_passes(proxy):
    with connected(proxy) as client:
        client.sendall(b"last")
        client.shutdown(socket.SHUT_WR)
        assert received(client, 100) == b"last"
    eventually(lambda: proxy.connections == 0)


def test_what_is_stalled_arrives_after_the_heal(proxy, echo):
    with connected(proxy) as client:
        assert says(client) == b"one"
        proxy.stall(Way.TO_CLIENT)
        client.sendall(b"two")
        eventually(lambda: b"".join(echo.heard) == b"onetwo")
        assert nothing_comes(client)
        proxy.heal()
        assert received(client, 3) == b"two"
        assert proxy.broken == 0


def test_what_is_cut_is_lost_and_its_connection_breaks_at_the_heal(proxy, echo):
    with connected(proxy) as client, connected(proxy) as idle:
        assert says(client) == says(idle) == b"one"
        proxy.cut(Way.TO_SERVER)
        client.sendall(b"two")
        assert nothing_comes(client)
        proxy.heal()
        assert it_broke(client)
        assert says(idle) == b"one"
        assert b"two" not in b"".join(echo.heard)


def test_a_cut_in_one_direction_leaves_the_other(proxy, echo):
    with connected(proxy) as client:
        proxy.cut(Way.TO_CLIENT)
        client.sendall(b"two")
        eventually(lambda: b"".join(echo.heard) == b"two")
        assert nothing_comes(client)


def test_a_reset_breaks_what_there_is_and_takes_what_comes(proxy):
    with connected(proxy) as client:
        assert says(client) == b"one"
        proxy.reset()
        assert it_broke(client)
        assert proxy.broken == 1
    with connected(proxy) as client:
        assert says(client) == b"one"


def test_refused_connections_are_refused_until_the_heal(proxy):
    with connected(proxy) as client:
        assert says(client) == b"one"
        proxy.refuse()
        assert it_broke(client)
    with pytest.raises(OSError), connected(proxy):
        pass
    proxy.heal()
    with connected(proxy) as client:
        assert says(client) == b"one"


def test_cut_after_delivers_that_much_and_no_more(proxy):
    proxy.cut_after(5)
    with connected(proxy) as client:
        assert says(client, b"four") == b"four"
        client.sendall(b"more")
        assert received(client, 1) in (b"m", b"")  # a reset may overtake what was delivered
        assert it_broke(client)


def test_lossy_breaks_in_the_middle_of_an_answer(proxy):
    proxy.lossy(1.0)
    with connected(proxy) as client:
        client.sendall(b"1234")
        with contextlib.suppress(OSError):
            assert len(received(client, 4)) <= 2
    assert proxy.broken == 1


def test_slow_is_late_and_in_order(proxy):
    proxy.slow(0.02)
    with connected(proxy) as client:
        for number in range(5):
            client.sendall(b"%d" % number)
        assert received(client, 5) == b"01234"


def test_flapping_cuts_and_heals_until_the_heal(proxy):
    proxy.flap(up_s=0.01, down_s=0.01)

    def once_broken():
        with contextlib.suppress(OSError), connected(proxy) as client:
            client.settimeout(0.05)
            says(client)
        return proxy.broken

    eventually(once_broken)
    proxy.heal()
    with connected(proxy) as client:
        assert says(client) == b"one"
