"""The write path, cut everywhere: a real gateway is killed before and after each kind of commit.

Whatever a client was answered or had seen before is true afterwards, each accepted prompt has one
end, and no agent gets a turn twice.
"""

import shutil
import sqlite3
from contextlib import closing, suppress
from typing import ClassVar

import httpx
import pytest

from frontdesk.clock import SystemClock
from frontdesk.gateway.key_file import KeyFile
from frontdesk.gateway.state_dir import StateDir
from gateway.command import serving
from gateway.requirements import covers
from gateway.running import create, parsed, turn_of, until
from support.log_checker import ENDS, Had, problems_of
from support.waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

CONFIG = """
[blueprints.witness]
kind = "python"
target = "gateway.durable_agents:witness"
"""
CUTS = (
    "ConversationOpened",
    "TurnQueued",
    "TurnBegun",
    "message_delta",
    "tool_execution_start",
    "RequestAsked",
    "RequestAnswered",
    "TurnFinished",
    "ConversationErased",
)


class Seen:
    """What a client was answered, and the events that it got, until its gateway was gone."""

    def __init__(self, client):
        self.client = client
        self.opened = self.erased = False
        self.accepted = []
        self.events = []

    def go_on(self):
        """Do what there is to do with a session, as far as the gateway lets."""
        try:
            create(self.client, "s-1", blueprint="witness")
            self.opened = True
            self.prompt("one")
            self.prompt("ask for two")
            self.read()
            self.erased = self.client.delete("/v1/sessions/s-1").status_code == 200
        except httpx.HTTPError:
            return

    def prompt(self, text):
        answer = self.client.post("/v1/sessions/s-1/prompt", json={"text": text})
        assert answer.status_code == 202, answer.text
        self.accepted.append(answer.json()["requestId"])

    def read(self):
        """Read, answering what is asked, until each accepted prompt has had its end."""
        left = set(self.accepted)
        with self.client.stream("GET", "/v1/sessions/s-1/events", params={"since": "0"}) as answer:
            for event in parsed(answer.iter_lines()):
                self.events.append(event)
                if event[1] == "approval_required":
                    approval = {"approvalId": event[2]["approvalId"]}
                    self.client.post("/v1/sessions/s-1/approve", json=approval)
                if event[1] in ENDS:
                    left.discard(event[2]["requestId"])
                if not left:
                    return


def log_of(client, *, last, after="0"):
    """Return the events of the session's log after an id, up to the end of a turn."""
    found = []
    headers = {"Last-Event-ID": after}
    with client.stream("GET", "/v1/sessions/s-1/events", headers=headers) as answer:
        assert answer.status_code == 200
        for event in parsed(answer.iter_lines()):
            found.append(event)
            if event[1] == "approval_required":
                approval = {"approvalId": event[2]["approvalId"]}
                client.post("/v1/sessions/s-1/approve", json=approval)
            if event[1] in ENDS and event[2]["requestId"] == last:
                break
    return found


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@covers("durable.frames-are-the-log", "durable.accepted-ends-or-waits", "durable.begins-once")
@pytest.mark.parametrize("what", CUTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_answered_and_seen_is_true_after_a_kill(tmp_path, when, what):
    witnessed = tmp_path / "witnessed"
    options = {"config": CONFIG, "WITNESSED": str(witnessed)}
    with serving(
        tmp_path, module="gateway.killed_serve", KILLED=f"{when}:{what}", **options
    ) as one:
        with one.client() as client:
            seen = Seen(client)
            seen.go_on()
        eventually(lambda: one.process.poll() is not None, within_s=30)
    with serving(tmp_path, **options) as two, two.client() as client:
        found = client.get("/v1/sessions/s-1").status_code
        if seen.opened and not what.endswith("Erased"):
            assert found == 200, "a 201 is true"
        if found == 404:
            assert (what, when) in {
                ("ConversationOpened", "before"),
                ("ConversationErased", "after"),
            }
            return
        follow_up = client.post("/v1/sessions/s-1/prompt", json={"text": "three"}).json()
        last = follow_up["requestId"]
        log = log_of(client, last=last)
        turns = [line.split()[0] for line in lines_of(witnessed)]
        had = Had(seen.events, [*seen.accepted, last], turns)
        assert problems_of(log, had) == []
        if seen.events:
            resumed = log_of(client, last=last, after=seen.events[-1][0])
            assert resumed == log[len(seen.events) :], "a stream goes on where it was"
        messages = client.get("/v1/sessions/s-1/messages").json()["messages"]
        _, known, remembered = lines_of(witnessed)[-1].split(" ")
        of_last = [each["content"] for each in messages].index("three")
        assert int(known) == of_last, "the next agent knows what was said"
        ended = [data["requestId"] for _, kind, data in log if kind == "agent_end"][:-1]
        assert remembered == ",".join(ended), "and has the memory of the turns that ended"


class Life:
    """What a client has done to a session that is stored, step by step, until its gateway was gone.

    Each step is one commit, whose name in `killed_serve.py` is beside it.
    """

    STEPS: ClassVar = {
        "named": "CheckpointMade",
        "switched": "OptionsChanged",
        "closed": "ConversationLeft",
        "resumed": "EpochBegun",
        "forked": "ConversationOpened s-2",
        "imported": "ConversationOpened s-3",
        "erased": "TenantErased",
    }

    def __init__(self, client, operator):
        self.client, self.operator = client, operator
        self.answered, self.events = [], []

    def go_on(self):
        """Do what there is to do with a session, as far as the gateway lets."""
        create(self.client, "s-1", blueprint="witness")
        self.events = turn_of(self.client, "s-1", "one", since="0")
        with suppress(httpx.HTTPError):
            for step in self.STEPS:
                answer = getattr(self, step)()
                assert answer.is_success, answer.text
                self.answered.append(step)

    @property
    def turns(self):
        return [data["requestId"] for _, kind, data in self.events if kind == "agent_end"]

    def named(self):
        return self.client.post("/v1/sessions/s-1/checkpoints", json={"name": "c-1"})

    def switched(self):
        return self.client.post("/v1/sessions/s-1/switch_model", json={"model": "other"})

    def closed(self):
        return self.client.post("/v1/sessions/s-1/close")

    def resumed(self):
        return self.client.post("/v1/sessions/s-1/resume")

    def forked(self):
        return self.client.post(
            "/v1/sessions", json={"sessionId": "s-2", "fork": {"sessionId": "s-1"}}
        )

    def imported(self):
        lines = self.client.get("/v1/sessions/s-1/export").content
        return self.client.post("/v1/sessions/import?sessionId=s-3", content=lines)

    def erased(self):
        return self.operator.delete("/ops/tenants/acme/conversations")


@covers("durable.stored-before-2xx")
@pytest.mark.parametrize(
    ("when", "step"),
    [
        *(("before", step) for step in Life.STEPS),
        *(("after", step) for step in ("resumed", "forked", "imported", "erased")),
    ],
)
def test_each_step_of_a_stored_session_is_whole_or_was_not_answered(tmp_path, when, step):
    witnessed = tmp_path / "witnessed"
    options = {"config": CONFIG, "WITNESSED": str(witnessed)}
    with KeyFile(StateDir.make(tmp_path / "state"), clock=SystemClock()) as keys:
        secret = keys.create(tenant_id=None, name="op").secret
    killed = f"{when}:{Life.STEPS[step]}"
    with serving(tmp_path, module="gateway.killed_serve", KILLED=killed, **options) as one:
        with one.client() as client, one.client(secret) as operator:
            life = Life(client, operator)
            life.go_on()
        eventually(lambda: one.process.poll() is not None, within_s=30)
    position = list(Life.STEPS).index(step)
    assert life.answered == list(Life.STEPS)[:position], "nothing is answered before its commit"
    stored = list(Life.STEPS)[: position + (when == "after")]
    with serving(tmp_path, **options) as two, two.client() as client:
        listed = client.get("/v1/sessions", params={"kept": "true"}).json()["sessions"]
        there = {each["sessionId"]: each for each in listed}
        if step == "erased":
            # Those with an agent end and go one by one before that: who got no answer asks again.
            assert when == "before" or there == {}
            with two.client(secret) as operator:
                assert Life(client, operator).erased().is_success
            assert client.get("/v1/sessions", params={"kept": "true"}).json()["sessions"] == []
            return
        also = {"s-2": "forked" in stored, "s-3": "imported" in stored}
        assert [*there] == ["s-1", *(name for name, is_there in also.items() if is_there)]
        assert there["s-1"]["model"] == ("other" if "switched" in stored else "test")
        checkpoints = client.get("/v1/sessions/s-1/checkpoints").json()["checkpoints"]
        assert [each["name"] for each in checkpoints] == ["c-1"] * ("named" in stored)
        for name in there:
            messages = client.get(f"/v1/sessions/{name}/messages").json()["messages"]
            assert messages[0]["content"] == "one"
            turn_of(client, name, "next")
            _, known, remembered = lines_of(witnessed)[-1].split(" ")
            assert int(known) == len(messages), name
            assert remembered == ("" if name == "s-3" else life.turns[0]), "lines have no memory"
        last = client.post("/v1/sessions/s-1/prompt", json={"text": "last"}).json()["requestId"]
        log = log_of(client, last=last)
        assert problems_of(log, Had(life.events, [*life.turns, last], [])) == []


@covers("durable.recovery-is-repeatable")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_recovery_that_is_killed_ends_like_one_that_is_not(tmp_path, when):
    witnessed = tmp_path / "witnessed"
    options = {"config": CONFIG, "WITNESSED": str(witnessed)}
    program = {"module": "gateway.killed_serve", **options}
    with serving(tmp_path, **program, KILLED="after:TurnBegun") as one:
        with one.client() as client:
            Seen(client).go_on()
        eventually(lambda: one.process.poll() is not None, within_s=30)
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "state", left)
    logs = []
    for _ in range(2):
        with serving(tmp_path, **options) as served, served.client() as client:
            logs.append([each[1:] for each in until_abort(client)])
        if len(logs) == 1:
            shutil.rmtree(tmp_path / "state")
            shutil.copytree(left, tmp_path / "state")
            with serving(tmp_path, **program, wait=False, KILLED=f"{when}:TurnFinished") as killed:
                eventually(lambda killed=killed: killed.process.poll() is not None, within_s=60)
    assert logs[0] == logs[1]
    assert [kind for kind, _ in logs[0]].count("agent_abort") == 1


PLANTED = {
    "a turn begins twice": "UPDATE turn SET state = 'queued' WHERE state = 'running'",
    "an end is missing": "UPDATE turn SET state = 'failed' WHERE state = 'running'",
    "a frame is lost": (
        "DELETE FROM journal WHERE first_index = (SELECT min(first_index) FROM journal)"
    ),
    "an index is reused": "DELETE FROM journal",
    "an accepted prompt is lost": "DELETE FROM turn WHERE state = 'running'",
    "the order is changed": None,
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_by_the_checker(tmp_path, fault):
    witnessed = tmp_path / "witnessed"
    options = {"config": CONFIG, "WITNESSED": str(witnessed)}
    planted = {"PLANTED": "order"} if PLANTED[fault] is None else {}
    program = {"module": "gateway.killed_serve", "KILLED": "after:RequestAsked", **planted}
    with serving(tmp_path, **program, **options) as one, one.client() as client:
        seen = Seen(client)
        seen.go_on()
        eventually(lambda: one.process.poll() is not None, within_s=30)
    if (statement := PLANTED[fault]) is not None:
        with closing(sqlite3.connect(tmp_path / "state" / "conversations.sqlite3")) as file, file:
            assert file.execute(statement).rowcount
    with serving(tmp_path, **options) as two, two.client() as client:
        last = client.post("/v1/sessions/s-1/prompt", json={"text": "three"}).json()["requestId"]
        log = log_of(client, last=last)
    turns = [line.split()[0] for line in lines_of(witnessed)]
    assert problems_of(log, Had(seen.events, seen.accepted, turns)) != []


def until_abort(client):
    """Return the events of the log up to the end of the turn that was cut off."""
    with client.stream("GET", "/v1/sessions/s-1/events?since=0") as answer:
        return until(parsed(answer.iter_lines()), "agent_abort")
