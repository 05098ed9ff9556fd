"""Approvals and questions over HTTP."""

import pytest

from gateway.requirements import covers
from gateway.running import RunningGateway, create, events, until
from support.waiting import eventually


def begun(client, session_id, blueprint, event):
    create(client, session_id, blueprint=blueprint)
    client.post(f"/v1/sessions/{session_id}/prompt", json={"text": "17"})
    with events(client, session_id) as stream:
        return until(stream, event)[-1][2]


def ended(client, session_id):
    with events(client, session_id) as stream:
        return until(stream, "agent_end", "agent_abort")


@covers("answers.approve", "answers.once")
def test_after_approve_the_turn_goes_on_and_a_second_answer_is_400(acme, sid):
    asked = begun(acme, sid, "careful", "approval_required")
    assert (asked["toolName"], asked["args"], asked["hint"]) == (
        "refund", {"order": "17"}, "costs money",
    )  # fmt: skip
    assert isinstance(asked["requestedAt"], int)
    body = {"approvalId": asked["approvalId"], "reason": "ok"}
    answer = acme.post(f"/v1/sessions/{sid}/approve", json=body)
    assert (answer.status_code, answer.json()["status"]) == (200, "approved")
    for verb in ("approve", "reject"):
        again = acme.post(f"/v1/sessions/{sid}/{verb}", json=body)
        assert (again.status_code, again.json()["error"]) == (400, "bad_request")
    turn = ended(acme, sid)
    resolved = [each[2] for each in turn if each[1] == "approval_resolved"]
    assert [each["status"] for each in resolved] == ["approved"]
    assert turn[-1][2]["lastMessage"]["content"] == "refund approved: ok "


@covers("answers.reject")
def test_after_reject_the_agent_is_told_and_the_turn_goes_on(acme, sid):
    asked = begun(acme, sid, "careful", "approval_required")
    body = {"approvalId": asked["approvalId"], "reason": "too much"}
    answer = acme.post(f"/v1/sessions/{sid}/reject", json=body)
    assert (answer.status_code, answer.json()["status"]) == (200, "rejected")
    turn = ended(acme, sid)
    assert turn[-1][1] == "agent_end"
    assert turn[-1][2]["lastMessage"]["content"] == "refund rejected: too much "


def test_an_approval_that_nobody_gives_expires(tmp_path):
    with RunningGateway(tmp_path, turns={"approval_s": 0.1}) as gateway, gateway.client() as client:
        begun(client, "s", "careful", "approval_required")
        turn = ended(client, "s")
        resolved = [each[2]["status"] for each in turn if each[1] == "approval_resolved"]
        assert resolved == ["expired"]
        assert turn[-1][1] == "agent_end"


@covers("answers.respond", "answers.pending")
def test_a_question_waits_for_its_response(acme, sid):
    asked = begun(acme, sid, "curious", "ask_user")
    assert asked["question"] == "Which one?"
    eventually(lambda: acme.get(f"/v1/sessions/{sid}").json()["state"] == "waiting_input")
    body = {"ref": asked["ref"], "response": "the blue one"}
    answer = acme.post(f"/v1/sessions/{sid}/respond", json=body)
    assert (answer.status_code, answer.json()["status"]) == (200, "answered")
    assert ended(acme, sid)[-1][2]["lastMessage"]["content"] == "so it is the blue one "
    assert acme.post(f"/v1/sessions/{sid}/respond", json=body).status_code == 400


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("approve", {"approvalId": "none"}),
        ("reject", {"approvalId": "none"}),
        ("respond", {"ref": "none", "response": 1}),
    ],
)
def test_an_unknown_reference_is_400(acme, sid, verb, body):
    create(acme, sid)
    response = acme.post(f"/v1/sessions/{sid}/{verb}", json=body)
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")
