"""Workers that are stopped or killed in the middle: what goes through the others ends soon."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from gateway.running import create, events, turn_of
from gateway.worker_processes import WITHIN_S, workers
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(300)]

SOON_S = 30
"""A few seconds, on a machine that is busy with other tests."""


@contextmanager
def stopped(pid):
    """Stop a process, and let it go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_request_for_a_worker_that_is_stopped_does_not_hang(tmp_path):
    with (
        workers(tmp_path, 2) as service,
        service.client_of(1) as first,
        service.client_of(2) as second,
    ):
        create(first, "s", blueprint="patient")
        assert second.get("/v1/sessions/s").status_code == 200
        second.timeout = httpx.Timeout(WITHIN_S)
        with stopped(service.pid(1)):
            for number, (method, path, body) in enumerate(
                (
                    ("GET", "", None),
                    ("POST", "/prompt", {"text": "x", "wait": 80}),
                    ("GET", "/stats", None),
                )
            ):
                began = time.monotonic()
                answer = second.request(method, f"/v1/sessions/s{path}", json=body)
                assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                # After the first one nobody waits for its 4 s: the node is asked on by itself.
                assert time.monotonic() - began < (3.5 if number else SOON_S)
            # Its own sessions are no worse for it. (Always on this connection: the kernel gives new
            # ones to the stopped worker, too.)
            create(second, "t")
            asked = {"text": "hello", "wait": 20}
            assert second.post("/v1/sessions/t/prompt", json=asked).json()["text"] == "hello "
            listed = second.get("/v1/sessions").json()
            assert listed["partial"]
            assert [each["state"] for each in listed["sessions"]] == ["suspect", "idle"]
        eventually(lambda: second.get("/v1/sessions/s").status_code == 200, within_s=WITHIN_S)
        assert service.server.terminate() == 0


def test_the_streams_through_others_end_when_a_worker_is_stopped_and_can_be_resumed(tmp_path):
    with (
        workers(tmp_path, 2) as service,
        service.client_of(1) as first,
        service.client_of(2) as second,
    ):
        create(first, "s")
        whole = turn_of(first, "s", "one two", since="0")
        second.timeout = httpx.Timeout(WITHIN_S)
        with events(second, "s", since="0") as stream:
            seen = [next(stream) for _ in whole]
            with stopped(service.pid(1)):
                began = time.monotonic()
                assert list(stream) == []
                assert time.monotonic() - began < WITHIN_S
        assert seen == whole

        def resumed():
            headers = {"Last-Event-ID": whole[2][0]}
            url = "/v1/sessions/s/events"
            with second.stream("GET", url, headers=headers) as response:
                return response.status_code == 200

        eventually(resumed, within_s=WITHIN_S)
        headers = {"Last-Event-ID": whole[2][0]}
        with events(second, "s", headers=headers) as stream:
            assert [next(stream) for _ in whole[3:]] == whole[3:]
        assert service.server.terminate() == 0


@pytest.mark.parametrize(
    ("store", "end"), [("memory", [("session_end", {"reason": "lost"})]), ("sqlite", [])]
)
def test_many_streams_through_others_learn_that_a_killed_worker_is_lost(tmp_path, store, end):
    """What is stored has not ended: its streams are cut, to be resumed."""
    options = {"FRONTDESK_CONVERSATIONS__STORE": store}
    with workers(tmp_path, 2, **options) as service, service.client_of(1) as first:
        names = [f"s{number}" for number in range(8)]
        for name in names:
            create(first, name)
        ends, ready = {}, threading.Barrier(len(names) + 1, timeout=WITHIN_S)

        def follow(name):
            with service.client_of(2) as client, events(client, name, since="0") as stream:
                ready.wait()
                ends[name] = [each[1:] for each in stream]

        threads = [threading.Thread(target=follow, args=(name,)) for name in names]
        for each in threads:
            each.start()
        ready.wait()
        os.kill(service.pid(1), signal.SIGKILL)
        for each in threads:
            each.join(WITHIN_S)
        assert ends == dict.fromkeys(names, end)
        if store == "sqlite":
            with service.client_of(2) as client:
                for name in names:
                    found = partial(client.get, f"/v1/sessions/{name}")
                    eventually(lambda found=found: found().is_success, within_s=WITHIN_S)
                    assert turn_of(client, name, "go on")[-1][1] == "agent_end"
