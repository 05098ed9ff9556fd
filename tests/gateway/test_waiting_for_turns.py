"""Requests that wait for the end of a turn, and sessions that open with a prompt."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from frontdesk.agents import Blueprints
from frontdesk.gateway.app import create_app
from frontdesk.gateway.keys import Key, digest_of
from frontdesk.gateway.scopes import KeyScope
from gateway.agents import BLUEPRINTS
from gateway.asgi import ask
from gateway.requirements import covers
from gateway.running import ACME, KEYS, RunningGateway, create, turn_of
from support.sessions import scripted
from support.waiting import eventually


def prompt(client, sid, text, *, wait=20.0, key=None):
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(
        f"/v1/sessions/{sid}/prompt", json={"text": text, "wait": wait}, headers=headers
    )


@pytest.fixture
def elsewhere():
    """Something that calls while the test goes on."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def under_way(client, sid, *, turns=1):
    """Wait until so many prompts are accepted."""
    eventually(lambda: client.get(f"/v1/sessions/{sid}/stats").json()["promptCount"] == turns)


@covers("routes.wait")
def test_the_answer_is_the_end_of_the_turn_with_text_and_usage(acme, sid):
    create(acme, sid)
    told = prompt(acme, sid, "hello there")
    assert told.status_code == 200
    ended = told.json()
    assert ended.pop("requestId").startswith("req_")
    status = acme.get(f"/v1/sessions/{sid}/status").json()
    assert ended == {
        "sessionId": sid,
        "status": "ended",
        "reason": None,
        "error": None,
        "text": "hello there ",
        "tokenUsage": {"promptTokens": 2, "completionTokens": 2, "totalTokens": 4},
        "lastEventIndex": status["lastEventIndex"],
    }


@covers("routes.wait")
def test_when_the_time_is_over_the_answer_is_the_usual_one_and_the_turn_goes_on(acme, sid):
    create(acme, sid, blueprint="patient")
    accepted = prompt(acme, sid, "go on", wait=0.05)
    assert (accepted.status_code, accepted.json()["status"]) == (202, "accepted")
    assert acme.get(f"/v1/sessions/{sid}").json()["state"] == "working"
    acme.post(f"/v1/sessions/{sid}/steer", json={"text": "go"})
    second = prompt(acme, sid, "again", wait=0)
    assert second.status_code == 202


def test_a_wait_that_is_no_number_of_seconds_is_refused(acme, sid):
    create(acme, sid)
    for wait in (-1, "5", 1e9):
        refused = prompt(acme, sid, "hello", wait=wait)
        assert (refused.status_code, "wait" in refused.json()["message"]) == (400, True)
    assert acme.get(f"/v1/sessions/{sid}/stats").json()["promptCount"] == 0


def test_the_end_of_a_turn_that_failed_names_the_error(acme, sid):
    create(acme, sid, blueprint="clumsy")
    ended = prompt(acme, sid, "go").json()
    assert (ended["status"], ended["reason"], ended["error"]) == (
        "aborted",
        "error",
        "RuntimeError",
    )
    assert ended["text"] == "I will "


@covers("routes.accepted-has-an-end")
@pytest.mark.parametrize(
    ("verb", "path", "reason"), [("POST", "/abort", "aborted"), ("DELETE", "", "deleted")]
)
def test_what_ends_the_turn_ends_the_wait_also_of_prompts_that_never_began(
    acme, sid, elsewhere, verb, path, reason
):
    create(acme, sid, blueprint="patient")
    first = elsewhere(prompt, acme, sid, "one")
    under_way(acme, sid)
    second = elsewhere(prompt, acme, sid, "two")
    under_way(acme, sid, turns=2)
    body = {} if verb == "POST" else None
    assert acme.request(verb, f"/v1/sessions/{sid}{path}", json=body).is_success
    ended = first.result(20).json()
    assert (ended["status"], ended["reason"], ended["text"]) == ("aborted", reason, "working ")
    acme.delete(f"/v1/sessions/{sid}")
    assert second.result(20).json()["reason"] == "deleted"


@covers("routes.accepted-has-an-end")
def test_a_drain_answers_what_waits_with_its_end(tmp_path, elsewhere):
    with RunningGateway(tmp_path) as gateway, gateway.client() as client:
        create(client, "s", blueprint="patient")
        waiting = [elsewhere(prompt, client, "s", "one")]
        under_way(client, "s")
        waiting.append(elsewhere(prompt, client, "s", "two"))
        under_way(client, "s", turns=2)
        gateway.call(gateway.gateway.drain, 0.0)
        ends = [each.result(20) for each in waiting]
    assert [each.status_code for each in ends] == [200, 200]
    assert [each.json()["reason"] for each in ends] == ["shutdown", "shutdown"]


@covers("routes.accepted-has-an-end")
def test_a_restart_ends_the_turn_and_the_next_agent_answers_what_waits(tmp_path, elsewhere):
    going_on = threading.Event()

    async def unlucky(turn):
        if turn.text == "one":
            while not going_on.is_set():
                yield ""
            raise RuntimeError("the first life")
        yield turn.text

    rules = {"restart": "on_crash", "errors_end": "session"}
    agents = Blueprints([scripted(unlucky, "unlucky", **rules)])
    with RunningGateway(tmp_path, agents=agents) as gateway, gateway.client() as client:
        create(client, "s", blueprint="unlucky")
        first = elsewhere(prompt, client, "s", "one")
        under_way(client, "s")
        second = elsewhere(prompt, client, "s", "two")
        under_way(client, "s", turns=2)
        going_on.set()
        assert first.result(20).json()["error"] == "RuntimeError"
        told = second.result(20).json()
        assert (told["status"], told["text"]) == ("ended", "two")


def test_a_client_that_leaves_changes_nothing_and_gives_its_place_back(gateway, acme, sid):
    create(acme, sid, blueprint="patient")
    places = len(gateway.gateway.streams)
    with gateway.connect() as leaving:
        body = b'{"text": "go on", "wait": 60}'
        head = f"POST /v1/sessions/{sid}/prompt HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME}\r\n"
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        leaving.sendall(f"{head}{kind}".encode() + body)
        under_way(acme, sid)
        eventually(lambda: len(gateway.gateway.streams) == places + 1)
    eventually(lambda: len(gateway.gateway.streams) == places)
    assert acme.get(f"/v1/sessions/{sid}").json()["state"] == "working"


def test_a_repetition_waits_for_the_same_turn_and_gets_the_same_end(acme, sid, elsewhere):
    create(acme, sid, blueprint="patient")
    both = [elsewhere(prompt, acme, sid, "work", key="k") for _ in range(2)]
    under_way(acme, sid)
    acme.post(f"/v1/sessions/{sid}/steer", json={"text": "go"})
    first, second = [each.result(20).json() for each in both]
    assert first == second
    assert first["text"] == "working done "
    assert prompt(acme, sid, "work", key="k").json() == first
    assert acme.get(f"/v1/sessions/{sid}/stats").json()["promptCount"] == 1


def test_a_repetition_gets_its_end_also_when_the_session_has_ended(acme, sid):
    create(acme, sid)
    first = prompt(acme, sid, "hello", key="k").json()
    acme.delete(f"/v1/sessions/{sid}")
    assert prompt(acme, sid, "hello", key="k").json() == first
    refused = prompt(acme, sid, "hello")
    assert (refused.status_code, refused.json()["error"]) == (404, "session_dead")


def test_waits_count_like_open_streams_and_over_the_bound_nothing_is_accepted(tmp_path, elsewhere):
    with (
        RunningGateway(tmp_path, limits={"streams_per_key": 1}) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="patient")
        waiting = elsewhere(prompt, client, "s", "work")
        under_way(client, "s")
        refused = prompt(client, "s", "more")
        assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
        body = {"model": "test", "sessionId": "t", "prompt": "more", "wait": 1}
        assert client.post("/v1/sessions", json=body).status_code == 429
        assert client.get("/v1/sessions/t").status_code == 404
        assert client.get("/v1/sessions/s/stats").json()["promptCount"] == 1
        client.post("/v1/sessions/s/abort", json={})
        assert waiting.result(20).status_code == 200
        assert prompt(client, "s", "go", wait=0.01).status_code == 202


def test_a_wait_whose_key_is_revoked_is_401(tmp_path, elsewhere):
    with RunningGateway(tmp_path) as gateway, gateway.client() as client:
        create(client, "s", blueprint="patient")
        waiting = elsewhere(prompt, client, "s", "work")
        under_way(client, "s")
        gateway.call(lambda: gateway.gateway.reload(gateway.config, keys=KEYS[1:]))
        assert waiting.result(20).status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_server_answers_alike(tmp_path):
    from frontdesk.gateway.gateway import Gateway
    from frontdesk.gateway.settings import Config

    gateway = Gateway(Config(server={"state_dir": tmp_path}), blueprints=BLUEPRINTS, keys=KEYS)
    headers = [(b"x-api-key", ACME.encode()), (b"content-type", b"application/json")]
    async with gateway:
        app = create_app(gateway)
        body = b'{"model": "test", "prompt": "hi", "wait": 20}'
        opened = await ask(app, "/v1/sessions", method="POST", headers=headers, body=body)
        # Its client leaves at once (`ask`), which ends the wait and nothing else.
        assert opened.status == 201
        assert len(gateway.streams) == 0


# -- sessions that open with a prompt ------------------------------------------------------------


def opened(client, sid, *, key=None, **fields):
    body = {"model": "test", "sessionId": sid, "blueprint": "parrot", **fields}
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/sessions", json=body, headers=headers)


@covers("routes.create-with-prompt")
def test_one_request_opens_asks_and_answers(acme, sid):
    made = opened(acme, sid, prompt="hello there", wait=20)
    assert made.status_code == 201
    answer = made.json()
    assert (answer["prompt"]["status"], answer["turn"]["text"]) == ("accepted", "hello there ")
    assert answer["turn"]["requestId"] == answer["prompt"]["requestId"]
    assert acme.get(f"/v1/sessions/{sid}").json()["turns"] == 1


def test_without_a_wait_the_session_opens_with_its_prompt_accepted(acme, sid):
    answer = opened(acme, sid, prompt="hello").json()
    assert (answer["prompt"]["sessionId"], answer["turn"]) == (sid, None)
    plain = opened(acme, f"{sid}-plain").json()
    assert (plain["prompt"], plain["turn"]) == (None, None)


def test_a_first_turn_that_takes_longer_than_the_wait_goes_on(acme, sid):
    answer = opened(acme, sid, blueprint="patient", prompt="work", wait=0.05)
    assert (answer.status_code, answer.json()["turn"]) == (201, None)
    assert acme.get(f"/v1/sessions/{sid}").json()["state"] == "working"


def test_a_wait_without_a_prompt_is_refused(acme, sid):
    refused = opened(acme, sid, wait=5)
    assert (refused.status_code, "wait" in refused.json()["message"]) == (400, True)
    assert acme.get(f"/v1/sessions/{sid}").status_code == 404


@covers("routes.create-with-prompt")
def test_a_prompt_that_is_refused_opens_no_session(tmp_path):
    limits, filters = {"text_characters": 20}, {"denied_words": ["swordfish"]}
    with (
        RunningGateway(tmp_path, limits=limits, guardrails=filters) as gateway,
        gateway.client() as client,
    ):
        for text, status in (("swordfish", 422), ("x" * 21, 413), ("", 400)):
            refused = opened(client, "s", prompt=text)
            assert refused.status_code == status
            assert client.get("/v1/sessions").json()["sessions"] == []
        assert opened(client, "s", prompt="hello").status_code == 201


def test_a_repetition_opens_one_session_and_asks_once(acme, sid, elsewhere):
    asked = {"key": "k", "prompt": "hello", "wait": 20}
    both = [elsewhere(opened, acme, sid, **asked) for _ in range(2)]
    first, second = [each.result(20).json() for each in both]
    assert first == second
    assert first["turn"]["text"] == "hello "
    acme.delete(f"/v1/sessions/{sid}")
    create(acme, sid, blueprint="patient")
    again = opened(acme, sid, **asked).json()
    assert (again["fence"], again["turn"]) == (first["fence"], None)


def test_a_turn_that_was_waited_for_is_on_the_stream_as_well(acme, sid):
    create(acme, sid)
    prompt(acme, sid, "hello")
    assert turn_of(acme, sid, "and on", since="0")[-1][2]["lastMessage"]["content"] == "hello "


@pytest.mark.parametrize(
    ("scopes", "fields", "missing"),
    [
        ({"create"}, {}, None),
        ({"create"}, {"prompt": "hello"}, "prompt"),
        ({"create", "prompt"}, {"prompt": "hello"}, None),
        ({"create", "prompt"}, {"prompt": "hello", "wait": 9}, "read"),
        ({"create", "prompt", "read"}, {"prompt": "hello", "wait": 9}, None),
    ],
)
def test_to_ask_and_to_be_told_need_the_scopes_of_their_own_routes(
    gateway, acme, sid, scopes, fields, missing
):
    secret = f"scoped-secret-0123456789-{sid}"
    key = Key(f"k-{sid}", "acme", sid, digest_of(secret), scopes=frozenset(map(KeyScope, scopes)))
    gateway.call(lambda: gateway.gateway.reload(gateway.config, keys=(*KEYS, key)))
    with gateway.client(secret) as client:
        answer = opened(client, sid, **fields)
        assert answer.status_code == (201 if missing is None else 403)
        assert answer.json().get("scope") == missing
        assert acme.get(f"/v1/sessions/{sid}").is_success is (missing is None)
        if missing is None and "read" not in scopes and "prompt" in scopes:
            assert prompt(client, sid, "more").json()["scope"] == "read"
            assert prompt(client, sid, "more", wait=0).status_code == 202
