"""How a server ends whose conversations are stored: they have not ended, and go on in the next."""

import signal
import threading

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.command import serving
from gateway.running import ACME, create, events, turn_of, until
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Following:
    """A stream's lines, read in a thread until it is cut."""

    def __init__(self, client, session_id):
        self.lines, self._open = [], threading.Event()
        self._client, self._session_id = client, session_id
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()
        assert self._open.wait(20)

    def _follow(self):
        path = f"/v1/sessions/{self._session_id}/events?since=0"
        with self._client.stream("GET", path) as response:
            self._open.set()
            self.lines.extend(each for each in response.iter_lines() if each)

    def rest(self):
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.lines


def close_code_of(socket):
    """Read a socket to its end; return with which code that came."""
    try:
        while True:
            socket.recv(timeout=60)
    except ConnectionClosed as closed:
        return closed.rcvd.code


def test_streams_are_cut_after_the_last_event_and_go_on_at_the_next_server(tmp_path):
    with serving(tmp_path) as server, server.client() as client:
        create(client, "s")
        turn_of(client, "s", "hello")
        create(client, "at-work", blueprint="patient")
        client.post("/v1/sessions/at-work/prompt", json={"text": "x"})
        with events(client, "at-work", since="0") as stream:
            until(stream, "message_delta")
        idle, busy = Following(client, "s"), Following(client, "at-work")
        assert server.terminate() == 0
        lines = busy.rest()
        assert idle.rest()[-1] == lines[-1] == "retry: 1000"
        assert [each for each in lines if each.startswith("event: ")][-1] == "event: agent_abort"
        assert "event: session_end" not in (*lines, *idle.lines)
        last = [each for each in idle.lines if each.startswith("id: ")][-1].removeprefix("id: ")
    with serving(tmp_path) as server, server.client() as client:
        found = client.get("/v1/sessions/s").json()
        assert (found["state"], found["live"]) == ("idle", False)
        turn_of(client, "s", "again")
        with events(client, "s", headers={"Last-Event-ID": last}) as stream:
            names = [each[1] for each in until(stream, "agent_end")]
        assert names[:2] == ["agent_restarted", "prompt_received"]


def test_a_socket_is_closed_as_going_away_and_a_wait_is_answered(tmp_path):
    with serving(tmp_path, "--grace-s", "0.2") as server, server.client() as client:
        create(client, "s", blueprint="patient")
        url = server.url.replace("http", "ws") + "/v1/sessions/s/ws"
        answers = []

        def wait():
            body = {"text": "second", "wait": 50}
            answers.append(client.post("/v1/sessions/s/prompt", json=body, timeout=60))

        with connect(url, additional_headers={"X-API-Key": ACME}) as socket:
            client.post("/v1/sessions/s/prompt", json={"text": "first"})
            with events(client, "s", since="0") as stream:
                until(stream, "message_delta")
            waiting = threading.Thread(target=wait)
            waiting.start()
            eventually(lambda: client.get("/v1/sessions/s/stats").json()["promptCount"] == 2)
            server.signal(signal.SIGTERM)
            assert close_code_of(socket) == 1001
        waiting.join(60)
        assert server.wait() == 0
        assert answers[0].status_code == 202
