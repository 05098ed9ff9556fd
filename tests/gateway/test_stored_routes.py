"""Sessions that outlive their agents, over HTTP: resume, close, lists, erasing, repetitions."""

import shutil

import pytest

from frontdesk.agents import Blueprints
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from gateway.agents import leaver, parrot
from gateway.requirements import covers
from gateway.running import OPERATOR, UMBRELLA, RunningGateway, create, events, turn_of, until
from support.waiting import eventually

pytestmark = pytest.mark.slow

SQLITE = {"store": "sqlite"}


AGENTS = Blueprints([parrot, leaver], default="parrot")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that stores conversations."""
    state = tmp_path_factory.mktemp("state")
    with RunningGateway(state, conversations=SQLITE, agents=AGENTS) as running:
        yield running


@pytest.fixture
def acme(gateway):
    with gateway.client() as client:
        yield client


def ids(client, **query):
    """Return the ids of a list, page by page."""
    found, query = [], {"limit": 2, **query}
    while True:
        answer = client.get("/v1/sessions", params=query)
        assert answer.status_code == 200, answer.text
        found += [each["sessionId"] for each in answer.json()["sessions"]]
        if answer.json()["next"] is None:
            return found
        query["after"] = answer.json()["next"]


@covers("durable-routes.summary")
def test_a_session_says_what_is_known_of_it_with_an_agent_and_without(acme, sid):
    created = create(acme, sid, label="mine")
    assert (created["live"], created["label"], created["blocked"]) == (True, "mine", None)
    assert created["lastActivityAt"] >= created["createdAt"]
    turn_of(acme, sid, "hello")
    closed = acme.post(f"/v1/sessions/{sid}/close")
    assert closed.status_code == 200, closed.text
    assert (closed.json()["live"], closed.json()["state"]) == (False, "idle")
    assert closed.json() == acme.get(f"/v1/sessions/{sid}").json() | {
        "uptimeMs": closed.json()["uptimeMs"]
    }
    assert closed.json()["fence"] == created["fence"]
    assert closed.json()["turns"] == 1


@covers("durable-routes.resume", "durable-routes.close")
def test_a_closed_session_is_resumed_and_twice_is_once(acme, sid):
    create(acme, sid)
    path = f"/v1/sessions/{sid}"
    assert acme.post(f"{path}/close").json()["live"] is False
    assert acme.post(f"{path}/close").status_code == 200
    answers = [acme.post(f"{path}/resume") for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 200]
    assert [each.json()["restarts"] for each in answers] == [1, 1]
    assert answers[0].json()["live"] is True
    acme.post(f"{path}/close")
    assert [name for _, name, _ in turn_of(acme, sid, "again")][-1] == "agent_end"
    assert acme.get(path).json()["live"] is True


def test_an_ephemeral_session_cannot_be_closed(acme, sid):
    create(acme, sid, ephemeral=True)
    answer = acme.post(f"/v1/sessions/{sid}/close")
    assert (answer.status_code, answer.json()["error"]) == (409, "not_stored")
    assert acme.post(f"/v1/sessions/{sid}/resume").status_code == 200


@covers("durable.ephemeral-leaves-nothing")
def test_an_ephemeral_session_leaves_no_byte_in_any_file(tmp_path):
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as client:
        create(client, "named-nowhere", ephemeral=True, label="labelled nowhere")
        turn_of(client, "named-nowhere", "written nowhere")
        create(client, "named-somewhere")
        turn_of(client, "named-somewhere", "written somewhere")
    files = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()]
    assert any(b"named-somewhere" in each for each in files)
    for text in (b"named-nowhere", b"labelled nowhere", b"written nowhere"):
        assert not any(text in each for each in files)


@covers("durable-routes.erased", "durable.absent-is-absent")
def test_what_was_erased_is_byte_for_byte_what_never_was_and_what_is_foreign(gateway, acme, sid):
    path = f"/v1/sessions/{sid}"

    def asked(client):
        requests = [("GET", ""), ("DELETE", ""), ("GET", "/messages"), ("GET", "/events"),
                    ("POST", "/resume"), ("POST", "/close"), ("POST", "/prompt")]  # fmt: skip
        answers = [
            client.request(method, path + rest, json={"text": "x"} if rest == "/prompt" else None)
            for method, rest in requests
        ]
        return [(each.status_code, each.content) for each in answers]

    with gateway.client(UMBRELLA) as umbrella:
        never = asked(acme)
        assert {status for status, _ in never} == {404}
        for end in ("", "/close"):
            create(acme, sid)
            turn_of(acme, sid, "secret")
            assert asked(umbrella) == never
            if end:
                acme.post(path + end)
                assert asked(umbrella) == never
            assert acme.delete(path).status_code == 200
            assert asked(acme) == never
        create(acme, sid, blueprint="parrot")


@covers("durable-routes.list")
def test_a_list_has_live_and_dormant_sessions_once_in_their_order(acme, gateway, sid):
    names = [f"{sid}-{number}" for number in range(5)]
    for number, name in enumerate(names):
        create(acme, name, label=f"{sid}-{'odd' if number % 2 else 'even'}")
    for name in names[1:3]:
        acme.post(f"/v1/sessions/{name}/close")
    assert [each for each in ids(acme) if each in names] == names
    assert ids(acme, label=f"{sid}-odd") == names[1::2]
    assert ids(acme, label=f"{sid}-odd", state="working") == []
    assert ids(acme, label=f"{sid}-odd", state="idle,working") == names[1::2]
    third = acme.get(f"/v1/sessions/{names[2]}").json()["createdAt"]
    assert names[2] in ids(acme, **{"from": str(third)})
    assert names[2] not in ids(acme, to=str(third))
    assert names[2] in ids(acme, **{"from": "2020-01-01", "to": "2999-12-31T00:00:00Z"})
    with gateway.client(UMBRELLA) as umbrella:
        assert not set(ids(umbrella, kept="true")) & set(names)
    refused = acme.get("/v1/sessions", params={"from": "yesterday", "state": "asleep"})
    assert refused.status_code == 400
    assert "from" in refused.json()["message"]
    assert "state" in refused.json()["message"]


@covers("durable-routes.ended")
def test_one_that_has_ended_is_listed_if_asked_for_read_by_its_fence_and_resumed(acme, sid):
    created = create(acme, sid, blueprint="leaver")
    path = f"/v1/sessions/{sid}"
    acme.post(f"{path}/prompt", json={"text": "end"})
    with events(acme, sid, since="0") as stream:
        seen = until(stream, "session_end")
    assert acme.get(path).json()["error"] == "session_dead"
    assert sid not in ids(acme)
    assert sid in ids(acme, kept="true")
    ended = acme.get(path, params={"fence": created["fence"]}).json()
    assert (ended["state"], ended["live"]) == ("ended", False)
    assert acme.get(path, params={"fence": "1"}).json()["error"] == "not_found"
    assert acme.post(f"{path}/resume").json()["live"] is True
    with events(acme, sid, since="0") as stream:
        again = until(stream, "agent_restarted")
    assert [each[0] for each in again[: len(seen)]] == [each[0] for each in seen]
    assert acme.get(path).json()["fence"] == created["fence"]
    assert acme.delete(path).status_code == 200
    assert sid not in ids(acme, kept="true")


@covers("durable-routes.messages")
def test_the_history_is_read_in_pages_also_of_a_closed_session(acme, sid):
    create(acme, sid)
    for number in range(3):
        turn_of(acme, sid, f"text {number}")
    acme.post(f"/v1/sessions/{sid}/close")
    found, query = [], {"limit": 4}
    while True:
        page = acme.get(f"/v1/sessions/{sid}/messages", params=query).json()
        assert len(page["messages"]) <= 4
        found += [each["content"] for each in page["messages"] if each["role"] == "user"]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert found == [f"text {number}" for number in range(3)]
    wrong = acme.get(f"/v1/sessions/{sid}/messages", params={"after": "x"})
    assert wrong.status_code == 400


@covers("durable-routes.repeated")
@pytest.mark.parametrize("how", ["ended", "killed"])
def test_a_repetition_gets_its_first_answer_from_the_next_process(tmp_path, how):
    headers, body = {"Idempotency-Key": "once"}, {"text": "hello"}
    opening = {"model": "test", "sessionId": "s-1", "blueprint": "parrot", "prompt": "first"}
    first, second = tmp_path / "first", tmp_path / "second"
    with RunningGateway(first, conversations=SQLITE) as running, running.client() as client:
        created = client.post("/v1/sessions", json=opening, headers=headers)
        assert created.status_code == 201, created.text
        accepted = client.post("/v1/sessions/s-1/prompt", json=body, headers=headers)
        assert accepted.status_code == 202
        if how == "killed":
            # What is there at this moment is what a process leaves that is killed now.
            shutil.copytree(first, second, ignore=lambda _, names: {"sockets"} & {*names})
        else:
            eventually(lambda: client.get("/v1/sessions/s-1").json()["state"] == "idle")
    if how == "ended":
        second = first
    with RunningGateway(second, conversations=SQLITE) as running, running.client() as client:
        again = client.post("/v1/sessions", json=opening, headers=headers)
        assert (again.status_code, again.json()) == (201, created.json())
        repeated = client.post("/v1/sessions/s-1/prompt", json=body, headers=headers)
        assert (repeated.status_code, repeated.content) == (202, accepted.content)
        other = client.post("/v1/sessions/s-1/prompt", json={"text": "x"}, headers=headers)
        assert (other.status_code, other.json()["error"]) == (409, "idempotency_mismatch")
        ended = client.post(
            "/v1/sessions/s-1/prompt", json=body | {"wait": 20}, headers={"Idempotency-Key": "w"}
        )
        assert ended.status_code == 200
        messages = client.get("/v1/sessions/s-1/messages").json()["messages"]
        assert [each["content"] for each in messages if each["role"] == "user"].count("first") == 1


def test_the_end_of_a_turn_of_an_earlier_process_answers_its_repetition(tmp_path):
    headers, body = {"Idempotency-Key": "once"}, {"text": "hello", "wait": 20}
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as client:
        create(client, "s-1")
        ended = client.post("/v1/sessions/s-1/prompt", json=body, headers=headers)
        assert ended.status_code == 200, ended.text
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as client:
        again = client.post("/v1/sessions/s-1/prompt", json=body, headers=headers)
        assert (again.status_code, again.json()) == (200, ended.json())


@covers("durable.stored-before-2xx")
def test_what_a_request_did_and_its_answer_are_one_commit_before_the_answer(tmp_path, monkeypatch):
    batches, apply = [], SqliteConversations.apply

    def applied(store, operations):
        done = apply(store, operations)
        batches.append([type(each).__name__ for each in operations])
        return done

    monkeypatch.setattr(SqliteConversations, "apply", applied)
    headers = {"Idempotency-Key": "once"}
    opening = {"model": "test", "sessionId": "s-1", "blueprint": "parrot", "prompt": "first"}
    with RunningGateway(tmp_path, conversations=SQLITE) as running, running.client() as client:
        assert client.post("/v1/sessions", json=opening, headers=headers).status_code == 201
        (opened,) = [each for each in batches if "ConversationOpened" in each]
        assert {"TurnQueued", "AnswerStored"} <= {*opened}
        body = {"text": "hello"}
        accepted = client.post("/v1/sessions/s-1/prompt", json=body, headers=headers)
        assert accepted.status_code == 202
        queued = [each for each in batches if "TurnQueued" in each]
        assert len(queued) == 2
        assert "AnswerStored" in queued[1]


@covers("durable-routes.tenant-erased")
def test_operators_erase_a_tenant_with_all_that_it_has(tmp_path):
    with (
        RunningGateway(tmp_path, conversations=SQLITE) as running,
        running.client() as acme,
        running.client(UMBRELLA) as umbrella,
        running.client(OPERATOR) as operator,
    ):
        for client in (acme, umbrella):
            for name in ("s-1", "s-2"):
                create(client, name)
            client.post("/v1/sessions/s-2/close")
        erased = operator.delete("/ops/tenants/acme/conversations")
        assert erased.status_code == 200, erased.text
        assert erased.json() == {"tenantId": "acme", "status": "erased", "conversations": 2}
        assert ids(acme, kept="true") == []
        assert ids(umbrella, kept="true") == ["s-1", "s-2"]
        assert acme.get("/v1/sessions/s-1").json()["error"] == "not_found"
        assert operator.delete("/ops/tenants/a%20b/conversations").status_code == 400
        create(acme, "s-1")


@covers("durable.memory-as-before")
def test_in_memory_only_sessions_end_with_their_agents_and_their_gateway(tmp_path):
    memory = {"store": "memory"}
    with (
        RunningGateway(tmp_path, conversations=memory, agents=AGENTS) as running,
        running.client() as client,
    ):
        for name in ("s-1", "s-2"):
            create(client, name)
            turn_of(client, name, "hello")
        refused = client.post("/v1/sessions/s-1/close")
        assert (refused.status_code, refused.json()["error"]) == (409, "not_stored")
        assert client.delete("/v1/sessions/s-1").status_code == 200
        dead = client.get("/v1/sessions/s-1").json()
        assert (dead["error"], dead["reason"]) == ("session_dead", "deleted")
        assert client.post("/v1/sessions/s-1/resume").json()["error"] == "session_dead"
        with events(client, "s-1", since="0") as stream:
            assert until(stream, "session_end")[0][1] == "prompt_received"
        assert ids(client) == ids(client, kept="true") == ["s-2"]
        assert len(client.get("/v1/sessions/s-2/messages").json()["messages"]) == 2
    assert not [each for each in tmp_path.rglob("*") if "conversation" in each.name]
    with RunningGateway(tmp_path, conversations=memory) as running, running.client() as client:
        assert client.get("/v1/sessions/s-2").json()["error"] == "not_found"
        create(client, "s-2")
