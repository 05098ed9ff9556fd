"""What a service manager is told, and that a watchdog is fed only while a server moves."""

import asyncio
import logging
import os
import secrets
import signal
import socket
import time

import pytest

from frontdesk.gateway.notify_socket import NotifySocket
from frontdesk.gateway.watchdog import LOOKS, Alive, Watchdog
from gateway.command import serving
from gateway.running import create
from gateway.worker_processes import workers
from support.service_manager import ServiceManager
from support.waiting import eventually

WITHIN_S = 60
WATCHDOG_S = 3
WATCHED = {"WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}
CONFIG = """
[server]
grace_s = 40
[blueprints.patient]
kind = "python"
target = "gateway.agents:patient"
[blueprints.blocking]
kind = "python"
target = "gateway.agents:blocking"
"""


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path):
    if request.param == "path":
        return str(tmp_path / "notify")
    return f"@frontdesk-{secrets.token_hex(8)}"


@pytest.fixture
def manager(tmp_path):
    with ServiceManager(str(tmp_path / "notify")) as manager:
        yield manager


# -- the socket ----------------------------------------------------------------------------------


def test_a_service_manager_is_told_at_a_path_and_at_an_abstract_address(address):
    with ServiceManager(address) as manager:
        notify = NotifySocket.from_environment({"NOTIFY_SOCKET": address})
        notify.ready("answers")
        assert manager.next() == {"READY": "1", "STATUS": "answers"}
        before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notify.reloading()
        told = manager.next()
        after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert told["RELOADING"] == "1"
        assert before_us <= int(told["MONOTONIC_USEC"]) <= after_us
        notify.alive()
        assert manager.next() == {"WATCHDOG": "1"}
        notify.stopping(within_s=45)
        assert manager.next() == {
            "STOPPING": "1", "STATUS": "draining", "EXTEND_TIMEOUT_USEC": "45000000",
        }  # fmt: skip


def test_its_variables_are_taken_out_of_the_environment():
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/"}
    NotifySocket.from_environment(environment)
    assert environment == {"PATH": "/"}


@pytest.mark.parametrize(
    ("pid", "usec", "watchdog_s"),
    [
        ("ours", "30000000", 30),
        (None, "30000000", 30),
        ("1", "30000000", None),
        (None, "0", None),
        (None, "soon", None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_ours_where_its_process_is_this_one(pid, usec, watchdog_s):
    pid = str(os.getpid()) if pid == "ours" else pid
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_PID": pid, "WATCHDOG_USEC": usec}
    given = {name: value for name, value in environment.items() if value is not None}
    assert NotifySocket.from_environment(given).watchdog_s == watchdog_s


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_where_no_socket_is_named_nobody_is_told(address, caplog):
    environment = {} if address is None else {"NOTIFY_SOCKET": address}
    notify = NotifySocket.from_environment({**environment, "WATCHDOG_USEC": "1000000"})
    notify.ready("answers")
    assert notify.watchdog_s is None
    assert caplog.records == []


def test_a_service_manager_that_has_gone_is_a_line_of_the_log(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        NotifySocket(str(tmp_path / "gone")).ready("answers")
    (record,) = caplog.records
    assert record.getMessage().startswith("the service manager cannot be told READY=1: No such")


# -- the watchdog --------------------------------------------------------------------------------


class Listening:
    """A server under a watchdog: what it accepted, and how often it was said to move."""

    def __init__(self):
        self.accepted = self.told = self.looks = 0

    def count(self):
        self.looks += 1
        return self.accepted

    def connected(self, _reader, writer):
        self.accepted += 1
        writer.close()

    def tell(self):
        self.told += 1

    async def looked(self, times):
        """Wait until the watchdog has looked so many times more; it asks twice a look."""
        wanted = self.looks + 2 * times
        async with asyncio.timeout(WITHIN_S):
            while self.looks < wanted:
                await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_a_listener_that_is_stuck_is_not_said_to_move():
    server = Listening()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        serving = await asyncio.start_server(server.connected, sock=listening)
        alive = Alive(notify=server.tell, within_s=0.2)
        async with Watchdog(alive, listening=listening, accepted=server.count):
            await server.looked(3)
            assert server.told >= 2
            asyncio.get_running_loop().remove_reader(listening)
            await server.looked(2)  # one that was under way may have seen it move
            before = server.told
            await server.looked(4)
            assert server.told == before
        serving.close()


@pytest.mark.anyio
async def test_a_listener_whose_address_others_share_moves_while_nobody_waits_for_it():
    server = Listening()
    with socket.socket() as listening, socket.socket() as other:
        for each in (other, listening):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        # All that connects goes to the other: this one is accepted from by nobody, and idle.
        other.bind(listening.getsockname())
        alive = Alive(notify=server.tell, within_s=0.2)
        listening.setblocking(False)

        async def elsewhere():
            """Stand in for a connection that another process was given."""

        watchdog = Watchdog(alive, listening=listening, accepted=server.count)
        watchdog._connect = elsewhere
        async with watchdog:
            await server.looked(3)
        assert server.told >= 2


# -- the real command ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_it_is_ready_when_it_answers_and_tells_of_reloads_and_of_its_end(tmp_path, manager):
    with serving(
        tmp_path / "run", config=CONFIG, wait=False, NOTIFY_SOCKET=manager.address
    ) as server:
        told = manager.told("READY")
        eventually(server.find_url, within_s=WITHIN_S)
        assert told["STATUS"] == f"answers at {server.url}"
        with server.client() as client:
            assert client.get("/readyz").status_code == 200

        server.signal(signal.SIGHUP)
        assert int(manager.told("RELOADING")["MONOTONIC_USEC"]) > 0
        assert manager.told("READY")["STATUS"] == "reloaded"

        (tmp_path / "run/frontdesk.toml").write_text("[serve]\n")
        server.signal(signal.SIGHUP)
        manager.told("RELOADING")
        assert manager.told("READY")["STATUS"].startswith("not reloaded")

        server.signal(signal.SIGTERM)
        assert int(manager.told("STOPPING")["EXTEND_TIMEOUT_USEC"]) >= 40_000_000
        assert server.wait() == 0
        assert "NOTIFY_SOCKET" not in server.log


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_watchdog_is_fed_while_it_moves_and_drains_and_not_while_its_loop_is_blocked(
    tmp_path, manager
):
    told = {"NOTIFY_SOCKET": manager.address, **WATCHED}
    with serving(tmp_path / "run", config=CONFIG, wait=False, **told) as server:
        manager.told("READY")
        eventually(server.find_url, within_s=WITHIN_S)
        for _ in range(LOOKS):
            manager.told("WATCHDOG")
        with server.client() as client:
            create(client, "b", blueprint="blocking")
            client.post("/v1/sessions/b/prompt", json={"text": str(2 * WATCHDOG_S)})
            eventually(lambda: "the loop is blocked now" in server.log, within_s=WITHIN_S)
            manager.discard()
            assert manager.silent_for(WATCHDOG_S)
            manager.told("WATCHDOG")

            create(client, "p", blueprint="patient")
            client.post("/v1/sessions/p/prompt", json={"text": "stay"})
            eventually(lambda: client.get("/v1/sessions/p").json()["state"] != "idle")
        server.signal(signal.SIGTERM)
        manager.told("STOPPING")
        for _ in range(LOOKS):
            manager.told("WATCHDOG")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_supervisor_tells_for_all_workers_and_replaces_one_that_does_not_move(tmp_path, manager):
    told = {"NOTIFY_SOCKET": manager.address, **WATCHED}
    with workers(tmp_path / "run", 2, config=CONFIG, **told) as service:
        assert "with 2 workers" in manager.told("READY")["STATUS"]
        pids = [service.pid(number) for number in (1, 2)]
        for pid in pids:
            with open(f"/proc/{pid}/environ") as environment:
                assert "NOTIFY_SOCKET" not in environment.read()

        service.server.signal(signal.SIGHUP)
        manager.told("RELOADING")
        assert manager.told("READY")["STATUS"] == "reloaded"

        stuck = service.life(2)
        os.kill(stuck.pid, signal.SIGSTOP)
        service.await_another(2, stuck)
        assert service.says(f"worker 2 (process {stuck.pid}) has not moved for ")
        assert service.pid(1) == pids[0], "the one that moves is left alone"
        for _ in range(LOOKS):
            manager.told("WATCHDOG")
        service.server.signal(signal.SIGTERM)
        manager.told("STOPPING")
        assert service.server.wait(WITHIN_S) == 0
