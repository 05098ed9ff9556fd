"""Forks, checkpoints, export and import, by HTTP."""

import json
import re

import pytest

from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create, turn_of


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that stores its conversations."""
    with RunningGateway(
        tmp_path_factory.mktemp("state"), conversations={"store": "sqlite"}
    ) as running:
        yield running


def said(client, session_id):
    """Return the texts of a session's messages."""
    answer = client.get(f"/v1/sessions/{session_id}/messages")
    return [each["content"] for each in answer.json()["messages"]]


def problem(answer):
    return answer.status_code, answer.json()["error"]


@covers("routes.fork", "durable.forks-know")
def test_a_fork_begins_as_a_copy_and_both_go_on_by_themselves(acme, sid):
    create(acme, sid)
    turn_of(acme, sid, "one")
    first = acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "two", "wait": 20}).json()
    turn_of(acme, sid, "three")
    copy = acme.post("/v1/sessions", json={"fork": {"sessionId": sid, "after": first["requestId"]}})
    assert copy.status_code == 201
    assert copy.json()["forkedFrom"] == sid
    assert copy.json()["model"] == "test"
    name = copy.json()["sessionId"]
    assert said(acme, name) == said(acme, sid)[:4]
    turn_of(acme, name, "four")
    assert len(said(acme, name)) == len(said(acme, sid)) == 6
    whole = acme.post(
        "/v1/sessions", json={"fork": {"sessionId": sid}, "prompt": "five", "wait": 20}
    )
    assert whole.json()["turn"]["status"] == "ended"
    assert len(said(acme, whole.json()["sessionId"])) == 8


@covers("routes.fork")
def test_a_fork_of_what_is_not_there_or_with_other_options_is_refused(acme, umbrella, sid):
    create(acme, sid)
    turn_of(acme, sid, "one")
    fork = {"fork": {"sessionId": sid}}
    never = {"fork": {"sessionId": "never"}}
    foreign, unknown = (umbrella.post("/v1/sessions", json=each) for each in (fork, never))
    assert problem(foreign) == problem(unknown) == (404, "not_found")
    assert foreign.text.replace(sid, "never") == unknown.text
    assert problem(acme.post("/v1/sessions", json={**fork, "systemPrompt": "x"})) == (
        422, "create_failed"
    )  # fmt: skip
    wrong = {"fork": {"sessionId": sid, "after": "nothing"}}
    assert problem(acme.post("/v1/sessions", json=wrong)) == (400, "bad_request")
    missing = acme.post("/v1/sessions", json={})
    assert problem(missing) == (400, "bad_request")
    assert "model: Field required" in missing.json()["message"]
    assert acme.get("/v1/sessions").json()["sessions"][-1]["sessionId"] == sid


@covers("routes.checkpoints")
def test_a_checkpoint_is_named_listed_resumed_and_removed(acme, sid):
    create(acme, sid)
    path = f"/v1/sessions/{sid}/checkpoints"
    assert problem(acme.post(path, json={"name": "here"})) == (409, "checkpoint_refused")
    turn_of(acme, sid, "one")
    made = acme.post(path, json={"name": "here"})
    assert made.status_code == 201
    assert made.headers["location"] == f"{path}/here"
    assert acme.post(path, json={"name": "here"}).json() == made.json()
    turn_of(acme, sid, "two")
    assert problem(acme.post(path, json={"name": "here"})) == (409, "checkpoint_refused")
    assert problem(acme.post(path, json={"name": "req_1"})) == (400, "bad_request")
    assert acme.get(path).json() == {"checkpoints": [made.json()]}
    headers = {"Idempotency-Key": sid}
    copy = acme.post(f"{path}/here/resume", json={"label": "again"}, headers=headers)
    assert copy.status_code == 201
    assert copy.json()["forkedFrom"] == sid
    assert copy.headers["location"] == f"/v1/sessions/{copy.json()['sessionId']}"
    again = acme.post(f"{path}/here/resume", json={"label": "again"}, headers=headers)
    assert again.json() == copy.json()
    assert len(said(acme, copy.json()["sessionId"])) == 2
    assert acme.post(f"{path}/here/resume").status_code == 201
    assert acme.delete(f"{path}/here").json() == {"name": "here", "status": "deleted"}
    for gone in (acme.delete(f"{path}/here"), acme.post(f"{path}/here/resume")):
        assert problem(gone) == (404, "not_found")


@covers("routes.export")
def test_a_session_that_is_exported_and_imported_has_the_same_messages_and_events(
    acme, umbrella, sid
):
    create(acme, sid)
    for text in ("one", "two"):
        turn_of(acme, sid, text)
    exported = acme.get(f"/v1/sessions/{sid}/export")
    assert exported.headers["content-type"] == "application/jsonl"
    assert f'filename="{sid}.jsonl"' in exported.headers["content-disposition"]
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert lines[0]["line"] == "conversation"
    assert lines[-1]["line"] == "end"
    imported = umbrella.post("/v1/sessions/import", content=exported.content)
    assert imported.status_code == 201
    assert imported.json()["sessionId"] == sid
    assert not imported.json()["live"]
    assert said(umbrella, sid) == said(acme, sid)
    again = umbrella.get(f"/v1/sessions/{sid}/export").text.splitlines()
    assert again[1:] == exported.text.splitlines()[1:]
    assert json.loads(again[0])["totals"] == lines[0]["totals"]
    assert lines[0]["totals"]["tokens"]["costUsd"] > 0
    (ours, *_) = (each for each in lines if each["line"] == "turn")
    assert (ours["usage"]["toolCalls"], ours["end"]["requestId"]) == (0, ours["requestId"])
    named = [each for each in lines if each["line"] != "event"]
    assert not [name for name in re.findall(r'"(\w+)": ', json.dumps(named)) if "_" in name]
    turn_of(umbrella, sid, "three")
    assert len(said(umbrella, sid)) == 6
    other = acme.post(f"/v1/sessions/import?sessionId={sid}-2", content=exported.content)
    assert other.json()["sessionId"] == f"{sid}-2"


@covers("routes.import-whole")
def test_an_import_with_wrong_lines_names_each_and_leaves_nothing(acme, sid):
    create(acme, sid)
    turn_of(acme, sid, "one")
    lines = acme.get(f"/v1/sessions/{sid}/export").content.splitlines(keepends=True)
    wrong = [lines[0], b"{}\n", *lines[2:5], b"nonsense\n", *lines[6:]]
    path = f"/v1/sessions/import?sessionId={sid}-2"
    refused = acme.post(path, content=b"".join(wrong))
    assert problem(refused) == (422, "import_refused")
    assert "line 2: " in refused.json()["message"]
    assert "line 6: " in refused.json()["message"]
    cut = acme.post(path, content=b"".join(lines[:-1]))
    assert "cut off" in cut.json()["message"]
    assert problem(acme.post("/v1/sessions/import", content=b"".join(lines))) == (
        409, "already_exists"
    )  # fmt: skip
    assert problem(acme.get(f"/v1/sessions/{sid}-2")) == (404, "not_found")


def test_a_session_may_be_called_import(acme):
    create(acme, "import")
    assert acme.get("/v1/sessions/import").json()["sessionId"] == "import"
    turn_of(acme, "import", "one")
    exported = acme.get("/v1/sessions/import/export")
    assert acme.delete("/v1/sessions/import").is_success
    assert acme.post("/v1/sessions/import", content=exported.content).status_code == 201
    assert acme.get("/v1/sessions/import").json()["turns"] == 1


def test_an_import_may_be_larger_than_other_bodies_and_not_without_bound(gateway, acme, sid):
    create(acme, sid)
    for _ in range(3):
        turn_of(acme, sid, "x" * 190_000)
    exported = acme.get(f"/v1/sessions/{sid}/export").content
    assert len(exported) > 1024 * 1024
    path = f"/v1/sessions/import?sessionId={sid}-2"
    assert acme.post(path, content=exported).status_code == 201
    assert said(acme, f"{sid}-2") == said(acme, sid)
    with gateway.connect() as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {ACME}\r\ncontent-length: "
        connection.sendall(f"{head}{65 * 1024 * 1024}\r\n\r\n".encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")
