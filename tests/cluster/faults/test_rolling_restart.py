"""Every node is restarted in turn while clients go on: none is refused, nothing doubled."""

import signal
import threading

import httpx
import pytest

from cluster.faults.desks import gateways
from cluster.faults.engines import VALKEY_9, running
from support.cluster_nodes import PATIENCE_S
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Client(threading.Thread):
    """A client behind a balancer: it asks a gateway whose listener is open, and takes any."""

    def __init__(self, desk, number):
        super().__init__(daemon=True)
        self.desk, self.number = desk, number
        self.over = threading.Event()
        self.created, self.refused, self.unreachable = [], [], 0

    def run(self):
        turn = 0
        while not self.over.is_set():
            turn += 1
            session = f"client{self.number}-{turn}"
            body = {"model": "t", "blueprint": "parrot", "sessionId": session}
            try:
                answer = self.desk.ask("POST", "/v1/sessions", json=body)
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
                self.unreachable += 1  # the process is between two lives: a balancer goes on
                continue
            if answer.status_code == 201:
                self.created.append(session)
            else:
                self.refused.append((session, answer.status_code, answer.text))


def test_a_rolling_restart_under_load_refuses_no_create_and_keeps_what_the_others_have(tmp_path):
    with running(VALKEY_9) as engine, gateways(tmp_path, engine, 3) as desk:
        kept = [desk.create(f"kept{each}", at=2)["sessionId"] for each in range(5)]
        clients = [Client(desk, number) for number in range(2)]
        for client in clients:
            client.start()
        for at in (0, 1):
            before = sum(len(client.created) for client in clients)
            desk.servers[at].signal(signal.SIGTERM)
            assert desk.servers[at].wait(PATIENCE_S) == 0
            desk.restart(at)
            # The load goes on in between, and reaches the new one too.
            eventually(
                lambda before=before: sum(len(one.created) for one in clients) > before + 10,
                within_s=PATIENCE_S,
            )
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(PATIENCE_S)
        assert [client.refused for client in clients] == [[], []]
        listed = desk.listed(at=2)
        assert len(listed) == len(set(listed))
        assert set(kept) <= set(listed)
        assert set(listed) <= {*kept, *(each for client in clients for each in client.created)}
        for at in (0, 1, 2):
            assert [desk.get(each, at=at).status_code for each in listed] == [200] * len(listed)
        # Nobody holds anything back: whatever ended with a node can be had again.
        gone = [each for client in clients for each in client.created if each not in listed][:5]
        for session in gone:
            assert desk.create(session, at=2)["sessionId"] == session
