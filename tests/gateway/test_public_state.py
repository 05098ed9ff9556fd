"""What is not stored yet is seen nowhere: over HTTP, by operators, in lists, in feeds."""

import threading

import pytest
from websockets.sync.client import connect

from frontdesk.persistence.operations import (
    ConversationOpened,
    RequestAnswered,
    RequestAsked,
    TurnQueued,
)
from frontdesk.persistence.sqlite_database import SqliteDatabase
from frontdesk.sessions.conversation_record import ConversationRecord
from gateway.running import ACME, OPERATOR, RunningGateway, create, events, until
from support.waiting import eventually

pytestmark = pytest.mark.slow

SQLITE = {"store": "sqlite"}


class HeldCommits:
    """Commits of a store that has some operation, held up until they are let go."""

    def __init__(self, monkeypatch):
        self.kind = None
        self.let_go, self.held = threading.Event(), threading.Event()
        commit = SqliteDatabase.apply_together

        def apply_together(store, batches):
            kinds = {type(each) for batch in batches for each in batch.operations}
            if self.kind in kinds:
                self.held.set()
                assert self.let_go.wait(60)
            return commit(store, batches)

        monkeypatch.setattr(SqliteDatabase, "apply_together", apply_together)


@pytest.fixture
def commits(monkeypatch):
    return HeldCommits(monkeypatch)


def test_an_approval_is_seen_nowhere_before_it_is_stored(tmp_path, commits):
    commits.kind = RequestAsked
    with (
        RunningGateway(tmp_path, conversations=SQLITE) as running,
        running.client() as acme,
        running.client(OPERATOR) as operator,
    ):
        create(acme, "s-1", blueprint="careful")
        acme.post("/v1/sessions/s-1/prompt", json={"text": "17"})
        assert commits.held.wait(20)
        (conversation,) = running.call(lambda: running.gateway.service.all_live("acme"))
        (asked,) = running.call(lambda: conversation.parts.approvals.requests())
        status = acme.get("/v1/sessions/s-1/status").json()
        assert (status["state"], status["pendingApprovals"]) == ("working", [])
        assert acme.get("/v1/sessions/s-1").json()["state"] == "working"
        assert acme.get("/v1/sessions?state=waiting_approval").json()["sessions"] == []
        (row,) = operator.get("/ops/sessions").json()["sessions"]
        assert (row["state"], row["approvals"]) == ("working", 0)
        assert operator.get("/ops/sessions/acme/s-1").json()["waitingTools"] == []
        headers = {"X-API-Key": ACME}
        with (
            connect(f"{running.ws_url}/v1/sessions/s-1/ws", additional_headers=headers) as socket,
            operator.stream("GET", "/ops/feed") as feed,
        ):
            lines = feed.iter_lines()
            assert '"approvals":0' in until_line(lines, '"session')
            commits.let_go.set()
            assert "approval_required" in socket.recv(timeout=20)
            until_line(lines, '"approvals":1')
        status = acme.get("/v1/sessions/s-1/status").json()
        (pending,) = status["pendingApprovals"]
        assert (status["state"], pending["approvalId"]) == ("waiting_approval", asked.approval_id)
        approval = {"approvalId": asked.approval_id}
        assert acme.post("/v1/sessions/s-1/approve", json=approval).status_code == 200
        with events(acme, "s-1", since="0") as stream:
            until(stream, "agent_end")
        assert acme.get("/v1/sessions/s-1").json()["state"] == "idle"
        eventually(lambda: not operator.get("/ops/sessions").json()["sessions"][0]["approvals"])


def test_a_prompt_that_was_503_as_it_was_not_stored_in_time_has_one_outcome_under_its_key(
    tmp_path, commits, monkeypatch
):
    monkeypatch.setitem(ConversationRecord.committed.__kwdefaults__, "wait_s", 0.2)
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as acme:
        create(acme, "s-1")
        commits.kind = TurnQueued

        def asked():
            return acme.post(
                "/v1/sessions/s-1/prompt",
                json={"text": "hello"},
                headers={"Idempotency-Key": "once"},
            )

        for _ in range(2):
            refused = asked()
            assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
        commits.let_go.set()
        with events(acme, "s-1", since="0") as stream:
            turn = until(stream, "agent_end")
        answers = [asked() for _ in range(2)]
        assert [each.status_code for each in answers] == [202, 202]
        assert {each.json()["requestId"] for each in answers} == {turn[-1][2]["requestId"]}
        assert acme.get("/v1/sessions/s-1/stats").json()["promptCount"] == 1
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as acme:
        again = acme.post(
            "/v1/sessions/s-1/prompt", json={"text": "hello"}, headers={"Idempotency-Key": "once"}
        )
        assert again.json()["requestId"] == turn[-1][2]["requestId"]


def test_an_approval_that_was_503_as_it_was_not_stored_in_time_is_taken_again_and_counts_once(
    tmp_path, commits, monkeypatch
):
    monkeypatch.setitem(ConversationRecord.committed.__kwdefaults__, "wait_s", 0.2)
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as acme:
        create(acme, "s-1", blueprint="careful")
        since = acme.post("/v1/sessions/s-1/prompt", json={"text": "17"}).json()["since"]
        with events(acme, "s-1", since=since) as stream:
            approval_id = until(stream, "approval_required")[-1][2]["approvalId"]
        commits.kind = RequestAnswered

        def answered(verb="approve"):
            body = {"approvalId": approval_id}
            return acme.post(f"/v1/sessions/s-1/{verb}", json=body).status_code

        assert [answered(), answered(), answered("reject")] == [503, 503, 400]
        commits.let_go.set()
        with events(acme, "s-1", since=since) as stream:
            turn = until(stream, "agent_end")
        assert [answered(), answered("reject")] == [200, 400]
        assert [each[1] for each in turn].count("approval_resolved") == 1


def test_a_create_that_was_503_as_it_was_not_stored_in_time_opens_one_session_under_its_key(
    tmp_path, commits, monkeypatch
):
    monkeypatch.setitem(ConversationRecord.committed.__kwdefaults__, "wait_s", 0.2)
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as acme:
        commits.kind = ConversationOpened

        def asked():
            body = {"model": "none", "blueprint": "parrot"}
            return acme.post("/v1/sessions", json=body, headers={"Idempotency-Key": "once"})

        assert asked().status_code == 503
        commits.let_go.set()
        opened = asked()
        assert opened.status_code == 201
        assert asked().json()["sessionId"] == opened.json()["sessionId"]
        listed = acme.get("/v1/sessions").json()["sessions"]
        assert [each["sessionId"] for each in listed] == [opened.json()["sessionId"]]


def until_line(lines, text):
    """Return the first line of a feed that has a text."""
    return next(line for line in lines if text in line)
