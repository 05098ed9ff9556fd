"""Conversations of `frontdesk serve --workers`: stored by the supervisor, and they outlive workers.

Streams are read as a client does: one that ends is opened again with the last event's id.
"""

import threading
import time
from contextlib import suppress

import httpx
import pytest

from gateway.command import CONFIG, serving
from gateway.requirements import covers
from gateway.running import create, parsed
from gateway.worker_processes import WITHIN_S, workers
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(300)]

RECALLING = """
[blueprints.recalling]
kind = "python"
target = "gateway.agents:recalling"
"""
STORED = CONFIG + RECALLING


class Follower(threading.Thread):
    """A client that follows a session's events over everything, from whichever gateway answers."""

    def __init__(self, server, session_id):
        super().__init__(daemon=True)
        self._server, self._session_id = server, session_id
        self.events, self._stopped = [], threading.Event()
        self.start()

    def run(self):
        while not self._stopped.is_set():
            with suppress(httpx.HTTPError):
                self._follow()
            time.sleep(0.05)

    def _follow(self):
        headers = {"Last-Event-ID": self.events[-1][0] if self.events else "0"}
        path = f"/v1/sessions/{self._session_id}/events"
        with (
            self._server().client() as client,
            client.stream("GET", path, headers=headers) as response,
        ):
            if response.status_code != 200:
                return
            for event in parsed(response.iter_lines()):
                self.events.append(event)
                if self._stopped.is_set():
                    return

    def await_event(self, kind, count=1):
        eventually(lambda: self.types.count(kind) >= count, within_s=WITHIN_S)

    @property
    def types(self):
        return [each[1] for each in self.events]

    def ends_of(self, request_id):
        return [
            (kind, data.get("reason"))
            for _, kind, data in self.events
            if kind in ("agent_end", "agent_abort") and data["requestId"] == request_id
        ]

    def stop(self):
        """Stop, and check that the events are a log: none is missing, none came twice."""
        self._stopped.set()
        indexes = [int(each[0].rpartition("-")[2]) for each in self.events]
        assert indexes == list(range(1, len(indexes) + 1))


def prompt(client, session_id, text):
    """Post a prompt; return its request id."""
    path = f"/v1/sessions/{session_id}/prompt"

    def accepted():
        answer = client.post(path, json={"text": text})
        assert answer.status_code in (202, 503), answer.text
        return answer.json()["requestId"] if answer.status_code == 202 else None

    return eventually(accepted, within_s=WITHIN_S)


def text_of(follower, request_id):
    return "".join(
        data["delta"]
        for _, kind, data in follower.events
        if kind == "message_delta" and data["requestId"] == request_id
    )


@covers("durable.frames-are-the-log", "durable.accepted-ends-or-waits")
def test_a_killed_workers_conversations_go_on_at_the_others(tmp_path):
    """Its streams too, and the next agent knows what was said."""
    with workers(tmp_path, 2, config=STORED) as service:
        with service.client_of(1) as first, service.client_of(2) as second:
            create(first, "mine", blueprint="recalling")
            follower = Follower(lambda: service.server, "mine")
            done = prompt(second, "mine", "one")
            follower.await_event("agent_end")
            cut = prompt(second, "mine", "wait")
            queued = prompt(second, "mine", "two")
            eventually(lambda: text_of(follower, cut) == "working ", within_s=WITHIN_S)
            life = service.life(1)
            life.kill()
            follower.await_event("agent_end", count=2)
            asked = prompt(second, "mine", "three")
            follower.await_event("agent_end", count=3)
            follower.stop()
            assert follower.ends_of(done) == [("agent_end", None)]
            assert follower.ends_of(cut) == [("agent_abort", "interrupted")]
            assert follower.ends_of(queued) == [("agent_end", None)]
            assert "session_end" not in follower.types
            said = text_of(follower, asked)
            for text in ("user: one", "user: wait", "assistant: working", "user: two"):
                assert text in said
            service.await_another(1, life)
            with service.client_of(1) as anew:
                assert anew.get("/v1/sessions/mine").json()["state"] == "idle"
                assert anew.delete("/v1/sessions/mine").status_code == 200
            assert second.get("/v1/sessions/mine").status_code == 404
        assert service.server.terminate() == 0


def test_a_killed_service_goes_on_where_it_was_in_the_gateway_that_waited(tmp_path):
    state = ("--state-dir", str(tmp_path / "first" / "state"))
    now = []
    with workers(tmp_path / "first", 2, config=STORED) as service:
        now.append(service.server)
        with service.client_of(1) as first, service.client_of(2) as second:
            for client, session in ((first, "a"), (second, "b")):
                create(client, session, blueprint="recalling")
            followers = {each: Follower(lambda: now[-1], each) for each in ("a", "b")}
            cut = {each: prompt(first, each, "wait") for each in followers}
            queued = {each: prompt(second, each, "next") for each in followers}
            for session, follower in followers.items():
                eventually(
                    lambda f=follower, s=session: text_of(f, cut[s]) == "working ",
                    within_s=WITHIN_S,
                )
        with serving(tmp_path / "again", *state, config=STORED, wait=False) as again:
            eventually(lambda: "waiting up to 30 s" in again.log, within_s=WITHIN_S)
            assert f"(process {service.server.process.pid})" in again.log
            known = service.below()
            service.server.process.kill()
            for life in known:
                life.await_end()
            eventually(again.find_url, within_s=WITHIN_S)
            assert again.url, again.log
            now.append(again)
            for session, follower in followers.items():
                follower.await_event("agent_end")
                follower.stop()
                assert follower.ends_of(cut[session]) == [("agent_abort", "interrupted")]
                assert follower.ends_of(queued[session]) == [("agent_end", None)]
                assert "user: wait" in text_of(follower, queued[session])
                assert "session_end" not in follower.types
            assert again.terminate() == 0


def test_a_drained_gateway_leaves_its_conversations_to_the_workers_after_it(tmp_path):
    now = []
    with serving(tmp_path, "--grace-s", "0.1", config=STORED) as before:
        now.append(before)
        with before.client() as client:
            create(client, "a", blueprint="recalling")
            follower = Follower(lambda: now[-1], "a")
            cut = prompt(client, "a", "wait")
            eventually(lambda: text_of(follower, cut) == "working ", within_s=WITHIN_S)
        assert before.terminate() == 0
    with workers(tmp_path, 2, config=STORED) as service:
        now.append(service.server)
        with service.client_of(2) as second:
            asked = prompt(second, "a", "again")
        follower.await_event("agent_end")
        follower.stop()
        assert follower.ends_of(cut) == [("agent_abort", "shutdown")]
        assert follower.ends_of(asked) == [("agent_end", None)]
        assert "session_end" not in follower.types
        assert "user: wait" in text_of(follower, asked)
        assert service.server.terminate() == 0
