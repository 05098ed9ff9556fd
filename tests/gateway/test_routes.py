"""Every route as a client sees it."""

import re

import pytest

from gateway.requirements import covers
from gateway.running import RunningGateway, create, events, turn_of, until
from support.waiting import eventually


@covers("routes.healthz", "wire.json-camel-case")
def test_health_says_what_the_contract_says(acme, sid):
    create(acme, sid)
    body = acme.get("/healthz").json()
    assert body["status"] == "ok"
    assert body["sessions"]["active"] >= 1
    assert isinstance(body["meter"]["tracked_keys"], int)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert body["version"]


@covers("routes.readyz")
def test_a_running_gateway_is_ready(acme):
    assert acme.get("/readyz").status_code == 200


@covers("routes.create")
def test_a_session_is_opened_with_camel_case_options(acme, sid):
    response = acme.post(
        "/v1/sessions",
        json={
            "model": "test",
            "sessionId": sid,
            "blueprint": "parrot",
            "systemPrompt": "be kind",
            "maxTurns": 3,
            "maxTokens": 100,
            "userData": {"a": [1, None]},
            "providerOpts": {"temperature": 0.5},
            "promptMode": "full",
        },
    )
    assert response.status_code == 201
    body = response.json()
    assert (body["sessionId"], body["model"], body["blueprint"]) == (sid, "test", "parrot")
    assert isinstance(body["createdAt"], int)


@covers("routes.unknown-fields")
@pytest.mark.parametrize("name", ["attachment", "mcpServers", "sytemPrompt", "session_id", "body"])
def test_fields_that_nobody_knows_are_refused_by_name(acme, sid, name):
    body = {"model": "test", "sessionId": sid, name: {"x": 1}}
    refused = acme.post("/v1/sessions", json=body)
    assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
    assert f"{name}: unknown" in refused.json()["message"]
    assert acme.get(f"/v1/sessions/{sid}").status_code == 404


def test_every_mistake_of_a_body_is_named(acme, sid):
    refused = acme.post("/v1/sessions", json={"model": 1, "maxTurns": "5", "sytemPrompt": "x"})
    message = refused.json()["message"]
    assert all(f"{name}: " in message for name in ("model", "maxTurns", "sytemPrompt")), message
    many = {f"x{number}": 1 for number in range(300)}
    message = acme.post("/v1/sessions", json={"model": "test", **many}).json()["message"]
    assert message.endswith("; and 280 more")


@covers("routes.minted-id")
def test_an_id_is_minted_where_none_is_given(acme):
    ids = {acme.post("/v1/sessions", json={"model": "test"}).json()["sessionId"] for _ in range(5)}
    assert len(ids) == 5
    assert all(re.fullmatch(r"[0-9a-f]{16,}", each) for each in ids)


@covers("routes.info")
def test_get_answers_every_field(acme, sid):
    create(acme, sid)
    body = acme.get(f"/v1/sessions/{sid}").json()
    assert set(body) >= {
        "sessionId", "state", "turns", "toolCalls", "totalTokens", "uptimeMs", "model",
        "blueprint", "createdAt", "tenantId",
    }  # fmt: skip
    assert (body["state"], body["tenantId"]) == ("idle", "acme")


@covers("routes.listing")
def test_the_listing_is_read_page_by_page(tmp_path):
    with RunningGateway(tmp_path) as gateway, gateway.client() as client:
        ids = [create(client, f"p{number}")["sessionId"] for number in range(7)]
        seen, after = [], None
        while True:
            query = {"limit": 3, **({"after": after} if after else {})}
            page = client.get("/v1/sessions", params=query).json()
            seen += [each["sessionId"] for each in page["sessions"]]
            after = page["next"]
            if after is None:
                break
        assert seen == ids
        assert client.get("/v1/sessions").json()["next"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=nonsense"])
def test_a_wrong_page_is_400(acme, query):
    response = acme.get(f"/v1/sessions?{query}")
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")


@covers("routes.delete", "errors.session-dead", "errors.not-found")
def test_delete_ends_the_session_and_what_follows_says_so(acme, sid):
    create(acme, sid)
    response = acme.delete(f"/v1/sessions/{sid}")
    assert (response.status_code, response.json()) == (200, {"sessionId": sid, "status": "deleted"})
    gone = acme.get(f"/v1/sessions/{sid}")
    assert gone.status_code == 404
    assert (gone.json()["error"], gone.json()["reason"]) == ("session_dead", "deleted")
    assert acme.get("/v1/sessions/never-was").json()["error"] == "not_found"


@covers("errors.already-exists")
def test_an_id_that_is_taken_is_409(acme, sid):
    create(acme, sid)
    response = acme.post("/v1/sessions", json={"model": "test", "sessionId": sid})
    assert (response.status_code, response.json()["error"]) == (409, "already_exists")


def test_an_id_can_be_taken_again_after_its_session_ended(acme, sid):
    create(acme, sid)
    acme.delete(f"/v1/sessions/{sid}")
    create(acme, sid)
    assert acme.get(f"/v1/sessions/{sid}").status_code == 200


@covers("routes.prompt", "events.request-id")
def test_a_prompt_is_accepted_and_its_events_carry_its_request_id(acme, sid):
    create(acme, sid)
    accepted = acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "hello there"})
    assert accepted.status_code == 202
    body = accepted.json()
    assert (body["sessionId"], body["queued"]) == (sid, False)
    with events(acme, sid) as stream:
        turn = until(stream, "agent_end")
    assert {each[2]["requestId"] for each in turn} == {body["requestId"]}


@covers("routes.prompts-in-order", "errors.prompt-queue-full")
def test_prompts_wait_in_a_bounded_queue_and_run_in_order(tmp_path):
    with (
        RunningGateway(tmp_path, limits={"prompt_queue": 2}) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="patient")
        path = "/v1/sessions/s/prompt"
        accepted = [client.post(path, json={"text": str(number)}).json() for number in range(3)]
        assert [each["queued"] for each in accepted] == [False, True, True]
        refused = client.post(path, json={"text": "one too many"})
        assert (refused.status_code, refused.json()["error"]) == (429, "prompt_queue_full")
        with events(client, "s", since="0") as stream:
            for number in range(3):
                until(stream, "message_delta")
                client.post("/v1/sessions/s/steer", json={"text": "go"})
                seen = until(stream, "agent_end")
                assert seen[-1][2]["requestId"] == accepted[number]["requestId"]


@covers("routes.abort", "events.exactly-one-end")
def test_abort_ends_the_turn_and_the_session_lives_on(acme, sid):
    create(acme, sid, blueprint="patient")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "x"})
    with events(acme, sid) as stream:
        until(stream, "message_delta")
        aborted = acme.post(f"/v1/sessions/{sid}/abort", json={"reason": "changed my mind"})
        assert aborted.status_code == 202
        end = until(stream, "agent_abort", "agent_end")[-1]
        assert (end[1], end[2]["reason"]) == ("agent_abort", "changed my mind")
        eventually(lambda: acme.get(f"/v1/sessions/{sid}").json()["state"] == "idle")
        acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "y"})
        acme.post(f"/v1/sessions/{sid}/steer", json={"text": "go"})
        assert until(stream, "agent_abort", "agent_end")[-1][1] == "agent_end"


def test_abort_needs_no_body(acme, sid):
    create(acme, sid)
    assert acme.post(f"/v1/sessions/{sid}/abort").status_code == 202


@covers("routes.steer", "errors.queue-full")
def test_steering_past_three_is_409(acme, sid):
    create(acme, sid)
    answers = [
        acme.post(f"/v1/sessions/{sid}/steer", json={"text": "left"}).status_code for _ in range(3)
    ]
    assert answers == [202, 202, 202]
    refused = acme.post(f"/v1/sessions/{sid}/steer", json={"text": "left"})
    assert (refused.status_code, refused.json()["error"]) == (409, "queue_full")


@covers("routes.switch-model")
def test_a_model_switch_is_told_and_seen(acme, sid):
    create(acme, sid)
    with events(acme, sid) as stream:
        switched = acme.post(f"/v1/sessions/{sid}/switch_model", json={"model": "other"})
        assert switched.status_code == 202
        assert until(stream, "model_switched")[-1][2] == {"from": "test", "to": "other"}
    assert acme.get(f"/v1/sessions/{sid}").json()["model"] == "other"


@covers("routes.stats")
def test_stats_count_the_turn(acme, sid):
    create(acme, sid)
    turn_of(acme, sid, "one two three")
    body = acme.get(f"/v1/sessions/{sid}/stats").json()
    assert body["sessionId"] == sid
    assert (body["turns"], body["promptCount"], body["totalTokens"]) == (1, 1, 6)
    assert body["costUsd"] == pytest.approx(0.001)
    assert body["tokenUsage"] == {
        "promptTokens": 3, "completionTokens": 3, "totalTokens": 6, "cachedTokens": 0,
        "unknownTurns": 0,
    }  # fmt: skip
    assert body["lastEventIndex"] == body["eventBufferCount"] == 7


@covers("routes.status", "answers.pending")
def test_status_shows_what_is_waited_for(acme, sid):
    create(acme, sid, blueprint="careful")
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "17"})
    with events(acme, sid) as stream:
        asked = until(stream, "approval_required")[-1][2]
    body = acme.get(f"/v1/sessions/{sid}/status").json()
    assert body["state"] == "waiting_approval"
    assert [each["approvalId"] for each in body["pendingApprovals"]] == [asked["approvalId"]]
    assert body["pendingTools"] == []
    assert body["lastEventIndex"] >= 3
    assert "queues" in body


@covers("routes.messages")
def test_the_history_is_read_page_by_page(acme, sid):
    create(acme, sid)
    for text in ("one", "two", "three"):
        turn_of(acme, sid, text)
    seen, after = [], None
    while True:
        query = {"limit": 4, **({"after": after} if after else {})}
        page = acme.get(f"/v1/sessions/{sid}/messages", params=query).json()
        seen += [(each["role"], each["content"].strip()) for each in page["messages"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [(r, t) for t in ("one", "two", "three") for r in ("user", "assistant")]


@covers("routes.usage", "meter.counts")
def test_usage_is_the_keys_and_the_tenants(tmp_path):
    with RunningGateway(tmp_path) as gateway, gateway.client() as client:
        create(client, "s")
        turn_of(client, "s", "one two")
        client.delete("/v1/sessions/s")
        body = client.get("/v1/usage").json()
        for meter in (body["key"], body["tenant"]):
            assert (meter["prompts"], meter["promptTokens"], meter["totalTokens"]) == (1, 2, 4)
            assert meter["costUsd"] == pytest.approx(0.001)
        assert (body["key"]["keyId"], body["tenant"]["tenantId"]) == ("k-acme", "acme")


@covers("errors.bad-request", "errors.shape")
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "JSON"),
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "model"),
        (b'{"model": 5}', "model"),
        (b'{"model": "test", "maxTurns": 0}', "maxTurns"),
        (b'{"model": "test", "maxTurns": "3"}', "maxTurns"),
        (b'{"model": "test", "tools": "x"}', "tools"),
        (b'{"model": "test", "sessionId": "a/b"}', "sessionId"),
        (b'{"model": "test", "sessionId": ".."}', "sessionId"),
        (b'{"model": "test", "sessionId": ""}', "sessionId"),
        (b'{"model": "test", "systemPrompt": "\\ud800"}', "systemPrompt"),
        (b'{"model": "test", "userData": "\\ud800"}', "userData"),
        (b'{"model": "test", "userData": NaN}', "userData"),
        (b'{"model": "test", "userData": {"a": [-Infinity]}}', "userData"),
        (b'{"model": "\xff"}', "JSON"),
        (b'{"model": "test", "userData": ' + b"[" * 100 + b"]" * 100 + b"}", "userData"),
        (b'{"model": "test", "userData": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON"),
        (b'{"model": "test", "userData": 1' + b"0" * 5000 + b"}", "JSON"),
    ],
)
def test_a_body_that_is_wrong_is_400_and_names_the_field(acme, body, named):
    response = acme.post("/v1/sessions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.json()["error"] == "bad_request"
    assert named in response.json()["message"]
    assert len(response.content) < 1000


@covers("errors.unknown-route")
@pytest.mark.parametrize(
    "path", ["/v1/nope", "/nope", "/v1/sessions/a/nope", "/v1/sessions/a/b/c/d"]
)
def test_an_unknown_route_is_404_with_method_and_path(acme, path):
    response = acme.post(path)
    assert (response.status_code, response.json()["error"]) == (404, "not_found")
    assert f"POST {path}" in response.json()["message"]


@covers("errors.method-not-allowed")
@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/sessions", "GET, HEAD, POST"),
        ("PATCH", "/v1/sessions/a", "DELETE, GET, HEAD"),
        ("GET", "/v1/sessions/a/prompt", "POST"),
        ("POST", "/v1/sessions/a/events", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/sessions", "GET, HEAD, POST"),
    ],
)
def test_a_wrong_verb_is_405_with_allow(acme, method, path, allow):
    response = acme.request(method, path)
    assert (response.status_code, response.json()["error"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == allow


@covers("errors.create-failed")
@pytest.mark.parametrize(
    "fields",
    [{"blueprint": "nope"}, {"tools": ["nope"]}, {"plugins": ["nope"]}, {"workingDir": "/etc"},
     {"skillsDirs": ["../../x"]}, {"providerOpts": {"baseUrl": "http://127.0.0.1:1/"}}],
)  # fmt: skip
def test_what_cannot_be_built_is_422_create_failed(acme, fields):
    before = acme.get("/healthz").json()["sessions"]["active"]
    response = acme.post("/v1/sessions", json={"model": "test", **fields})
    assert (response.status_code, response.json()["error"]) == (422, "create_failed")
    assert acme.get("/healthz").json()["sessions"]["active"] == before


@covers("errors.session-limit", "errors.unavailable")
def test_limits_of_sessions_name_scope_and_limit_and_full_in_total_is_503(tmp_path):
    limits = {"sessions_total": 3, "sessions_per_tenant": 2, "sessions_per_key": 2}
    with (
        RunningGateway(tmp_path, limits=limits) as gateway,
        gateway.client() as acme,
        gateway.client("umbrella-secret-0123456789") as umbrella,
    ):
        create(acme, "a")
        create(acme, "b")
        refused = acme.post("/v1/sessions", json={"model": "test"})
        assert (refused.status_code, refused.json()["error"]) == (429, "session_limit")
        assert (refused.json()["scope"], refused.json()["limit"]) == ("per_tenant", 2)
        create(umbrella, "a")
        full = umbrella.post("/v1/sessions", json={"model": "test"})
        assert (full.status_code, full.json()["error"]) == (503, "unavailable")
        assert int(full.headers["retry-after"]) == full.json()["retryAfter"] > 0


@covers("errors.idempotency")
def test_an_idempotency_key_opens_one_session_and_accepts_one_prompt(acme, sid):
    headers = {"Idempotency-Key": f"open {sid}"}
    body = {"model": "test", "sessionId": sid}
    first, again = (acme.post("/v1/sessions", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    other = acme.post("/v1/sessions", json={**body, "maxTurns": 2}, headers=headers)
    assert (other.status_code, other.json()["error"]) == (409, "idempotency_mismatch")
    path = f"/v1/sessions/{sid}/prompt"
    answers = [acme.post(path, json={"text": "x"}, headers=headers) for _ in range(3)]
    assert len({each.content for each in answers}) == 1
    assert acme.get(f"/v1/sessions/{sid}/stats").json()["promptCount"] == 1


@covers("limits.text-size", "errors.too-large")
def test_a_text_over_the_limit_is_413(tmp_path):
    limits = {"text_characters": 10, "body_bytes": 4096}
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as client:
        create(client, "s")
        for verb in ("prompt", "steer"):
            response = client.post(f"/v1/sessions/s/{verb}", json={"text": "x" * 11})
            assert (response.status_code, response.json()["error"]) == (413, "too_large")
        large = client.post("/v1/sessions/s/prompt", json={"text": "x" * 5000})
        assert (large.status_code, large.json()["error"]) == (413, "too_large")


@covers("errors.guardrail", "limits.guardrail-input", "limits.guardrail-output")
def test_filters_refuse_what_comes_in_and_cut_off_what_goes_out(tmp_path):
    guardrails = {"denied_words": ["swordfish"], "max_output_characters": 20}
    with RunningGateway(tmp_path, guardrails=guardrails) as gateway, gateway.client() as client:
        create(client, "s")
        refused = client.post("/v1/sessions/s/prompt", json={"text": "say swordfish"})
        assert (refused.status_code, refused.json()["error"]) == (422, "guardrail")
        assert client.get("/v1/sessions/s/stats").json()["promptCount"] == 0
        turn = turn_of(client, "s", "many words " * 10)
        assert [each[1] for each in turn][-2:] == ["error", "agent_abort"]
        assert client.get("/v1/sessions/s").json()["state"] == "idle"


@covers("errors.nothing-inside", "events.exception-type-only")
def test_the_text_of_an_agents_exception_reaches_no_client(acme, sid):
    create(acme, sid, blueprint="clumsy")
    turn = turn_of(acme, sid, "x")
    assert [each[1] for each in turn][-2:] == ["error", "agent_abort"]
    assert turn[-2][2]["reason"] == "RuntimeError"
    assert "swordfish" not in str(turn)
    everything = acme.get(f"/v1/sessions/{sid}/messages").text
    assert "swordfish" not in everything


@covers("keys.open-routes")
def test_some_routes_need_no_key(gateway):
    with gateway.client(None) as nobody:
        for path in ("/healthz", "/readyz", "/.well-known/agent.json", "/openapi.json", "/docs"):
            assert nobody.get(path).status_code == 200, path
        assert nobody.get("/.well-known/agent.json").json()["name"] == "Frontdesk"
