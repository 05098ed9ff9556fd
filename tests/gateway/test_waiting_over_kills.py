"""Approvals and questions wait while their gateway is killed and started, with real processes."""

import json
import os
import signal
from collections import Counter

import httpx
import pytest

pytest.importorskip("pydantic_ai")

from gateway.command import serving
from gateway.requirements import covers
from gateway.running import create, parsed
from support.waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

CONFIG = """
[blueprints.waiting]
kind = "pydantic-ai"
target = "gateway.waiting_agents:agent"
isolation = "{isolation}"
"""
PROMPT = json.dumps(
    [
        [
            [["refund", {"order": 7}], ["ask_user", {"question": "sure?"}]],
            [["transfer", {"amount": 5}]],
        ],
        "end",
    ]
)
ENDS = ("agent_end", "agent_abort")


def options_of(tmp_path, isolation="task"):
    config = CONFIG.format(isolation=isolation)
    if isolation == "process":
        config += 'environment = ["WITNESSED", "PYTHONPATH"]\n'
    return {"config": config, "WITNESSED": str(tmp_path / "witnessed")}


def done(tmp_path):
    """Return what the tools did, in order."""
    path = tmp_path / "witnessed"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def begin(client):
    """Open the session and have it do something."""
    create(client, "s-1", blueprint="waiting", model="default")
    answer = client.post("/v1/sessions/s-1/prompt", json={"text": PROMPT})
    return answer.json()["requestId"]


def read(client, *until, since="0"):
    """Read the events after one of them until one of these comes; return them."""
    found = []
    with client.stream("GET", "/v1/sessions/s-1/events", params={"since": since}) as stream:
        for event in parsed(stream.iter_lines()):
            found.append(event)
            if event[1] in until:
                break
    return found


def answer(client, event):
    """Give the answer that an event asks for; say whether it was taken."""
    _, kind, data = event
    if kind == "ask_user":
        body, path = {"ref": data["ref"], "response": "quite"}, "respond"
    else:
        body, path = {"approvalId": data["approvalId"]}, "approve"
    return client.post(f"/v1/sessions/s-1/{path}", json=body).is_success


@covers("durable.tools-run-once", "durable.begins-once")
@pytest.mark.parametrize("isolation", ["task", "process"])
def test_a_turn_goes_on_under_its_request_id_after_each_kill_and_no_tool_runs_twice(
    tmp_path, isolation
):
    options = options_of(tmp_path, isolation)
    with serving(tmp_path, **options) as one, one.client() as client:
        request_id = begin(client)
        asked = read(client, "ask_user")
    with serving(tmp_path, **options) as two, two.client() as client:
        state = client.get("/v1/sessions/s-1/status").json()["state"]
        assert state == "waiting_input"
        assert answer(client, asked[-1])
        asked += read(client, "approval_required", since=asked[-1][0])
        assert done(tmp_path) == ["refund 7"]
    with serving(tmp_path, **options) as three, three.client() as client:
        assert answer(client, asked[-1])
        rest = read(client, *ENDS, since=asked[-1][0])
        assert rest[-1][1] == "agent_end"
        assert done(tmp_path) == ["refund 7", "transfer 5"]
        whole = read(client, *ENDS)
        assert whole == asked + rest
        in_turn = {data["requestId"] for _, _, data in whole if "requestId" in data}
        assert in_turn == {request_id}
        after = client.post("/v1/sessions/s-1/prompt", json={"text": "tell"}).json()
        told = read(client, *ENDS, since=after["since"])[-1][2]["lastMessage"]["content"]
        assert json.loads(told) == [
            ["refund", "refund 7"],
            ["ask_user", "quite"],
            ["transfer", "transfer 5"],
        ]


def test_a_turn_waits_on_in_a_session_that_is_closed_and_over_orderly_ends_of_its_gateway(tmp_path):
    options = options_of(tmp_path, "process")
    with serving(tmp_path, **options) as one, one.client() as client:
        request_id = begin(client)
        events = read(client, "ask_user")
        closed = client.post("/v1/sessions/s-1/close")
        assert closed.status_code == 200
        assert (closed.json()["state"], closed.json()["live"]) == ("waiting_input", False)
        assert client.post("/v1/sessions/s-1/close").json()["state"] == "waiting_input"
        assert answer(client, events[-1])
        events += read(client, "approval_required", since=events[-1][0])
        assert one.terminate() == 0
    with serving(tmp_path, **options) as two, two.client() as client:
        (pending,) = client.get("/v1/sessions/s-1/status").json()["pendingApprovals"]
        assert pending["approvalId"] == events[-1][2]["approvalId"]
        assert two.terminate() == 0
    with serving(tmp_path, **options) as three, three.client() as client:
        assert answer(client, events[-1])
        events += read(client, *ENDS, since=events[-1][0])
        assert events[-1][1] == "agent_end"
        assert done(tmp_path) == ["refund 7", "transfer 5"]
        assert {data["requestId"] for _, _, data in events if data.get("requestId")} == {request_id}
        assert read(client, *ENDS) == events


def test_a_turn_outlives_each_kill_of_its_agents_process_while_its_gateway_lives(tmp_path):
    options = options_of(tmp_path, "process")
    options["config"] += 'restart = "on_crash"\n'

    def kill(client, since):
        """Kill the session's process; return the events up to its next agent."""
        os.kill(client.get("/v1/sessions/s-1").json()["pid"], signal.SIGKILL)
        return read(client, "agent_restarted", since=since)

    with serving(tmp_path, **options) as one, one.client() as client:
        request_id = begin(client)
        events = read(client, "ask_user")
        events += kill(client, events[-1][0])
        assert client.get("/v1/sessions/s-1/status").json()["state"] == "waiting_input"
        assert answer(client, events[-2])
        events += read(client, "approval_required", since=events[-1][0])
        events += kill(client, events[-1][0])
        assert answer(client, events[-2])
        events += read(client, *ENDS, since=events[-1][0])
        assert events[-1][1] == "agent_end"
        assert done(tmp_path) == ["refund 7", "transfer 5"]
        assert {data["requestId"] for _, _, data in events if data.get("requestId")} == {request_id}
        assert read(client, *ENDS) == events


class Client:
    """Somebody who reads and answers until the gateway is gone."""

    def __init__(self, client):
        self.client, self.events, self.answered, self.request_id = client, [], set(), None

    def go_on(self):
        try:
            self.request_id = begin(self.client)
            while not self.events or self.events[-1][1] not in ENDS:
                since = self.events[-1][0] if self.events else "0"
                params = {"since": since}
                url = "/v1/sessions/s-1/events"
                with self.client.stream("GET", url, params=params) as stream:
                    for event in parsed(stream.iter_lines()):
                        self.events.append(event)
                        if event[1] in ENDS:
                            return
                        if event[1] in ("ask_user", "approval_required"):
                            if answer(self.client, event):
                                self.answered.add(event[0])
                            break
        except httpx.HTTPError:
            return


# Stored in this order: the state with the request, the answer, that the turn goes on.
CUTS = [
    ("before", "TurnSuspended", "agent_abort"),
    ("after", "TurnSuspended", "agent_end"),
    ("before", "RequestAnswered", "agent_end"),
    ("after", "RequestAnswered", "agent_end"),
    ("before", "TurnResumed", "agent_end"),
    ("after", "TurnResumed", "agent_abort"),
]


@covers("durable.tools-run-once")
@pytest.mark.parametrize(("when", "what", "end"), CUTS)
def test_wherever_its_gateway_is_killed_a_turn_ends_once_and_no_tool_runs_twice(
    tmp_path, when, what, end
):
    options = options_of(tmp_path)
    killed = {"module": "gateway.killed_serve", "KILLED": f"{when}:{what}"}
    with serving(tmp_path, **killed, **options) as one, one.client() as client:
        seen = Client(client)
        seen.go_on()
        eventually(lambda: one.process.poll() is not None, within_s=60)
    assert seen.request_id is not None
    with serving(tmp_path, **options) as two, two.client() as client:
        events = []
        while not events or events[-1][1] not in ENDS:
            since = events[-1][0] if events else "0"
            events += read(client, *ENDS, "ask_user", "approval_required", since=since)
            if events[-1][1] in ("ask_user", "approval_required"):
                taken = answer(client, events[-1])
                assert taken or events[-1][0] in {each[0] for each in seen.events}
        assert events[: len(seen.events)] == seen.events, "what was seen is what is there"
        assert max(Counter(done(tmp_path)).values()) == 1, "no tool runs twice"
        in_turn = [kind for _, kind, data in events if data.get("requestId") == seen.request_id]
        assert [kind for kind in in_turn if kind in ENDS] == [end]
