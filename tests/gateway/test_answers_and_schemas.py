"""Every route's real answer has the fields of its schema, all of them and no other."""

from types import SimpleNamespace

import jsonschema_rs
import pytest

from frontdesk.agents.events import EVENTS
from frontdesk.agents.records import MAX_TOOL_DESCRIPTION_CHARACTERS, CallbackTool, SessionContext
from frontdesk.schemas.answer_schemas import Answer
from frontdesk.sessions.callback_tools import CallbackTools
from frontdesk.sessions.errors import ToolRefused
from gateway.described import closed, mistake
from gateway.requirements import covers
from gateway.running import OPERATOR, RunningGateway, create, events, turn_of, until

TOOL = {
    "name": "lookup",
    "description": "d",
    "parameters": {"type": "object"},
    "callbackUrl": "http://127.0.0.1:9/orders",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway that takes tools of this machine, none is called, and stores conversations."""
    callbacks = {"allow_networks": ["127.0.0.0/8"]}
    budgets = {"tokens_per_day": 1_000_000, "key_cost_usd_per_month": 100}
    state = tmp_path_factory.mktemp("state")
    stored = {"store": "sqlite"}
    with RunningGateway(
        state, callbacks=callbacks, budgets=budgets, conversations=stored
    ) as running:
        yield running


@pytest.fixture(scope="module")
def document(gateway):
    with gateway.client(None) as client:
        return client.get("/openapi.json").json()


def schema_of(document, method, path, status):
    content = document["paths"][path][method]["responses"][str(status)]["content"]
    return content["application/json"]


def problem(document, operation, answer):
    """Return what is wrong with an answer by its schema, None where nothing is."""
    media = schema_of(document, *operation)
    error = next(iter(jsonschema_rs.iter_errors(closed(media["schema"], document), answer)), None)
    return None if error is None else f"{operation}: {error}"


SESSION = "/v1/sessions/{sessionId}"


def answers_of_every_route(client, sid):
    """Call every route that answers in JSON; yield which it was, and its real answer."""

    def call(method, path, body=None, *, template=None, session=sid):
        sent = client.request(method, path.format(sessionId=session), json=body)
        assert sent.is_success, sent.text
        return (method.lower(), template or path, sent.status_code), sent.json()

    yield call("GET", "/healthz")
    yield call("GET", "/readyz")
    body = {"model": "test", "sessionId": sid, "blueprint": "careful"}
    yield call("POST", "/v1/sessions", body)
    yield call("POST", f"{SESSION}/prompt", {"text": "17"})
    with events(client, sid) as stream:
        asked = until(stream, "approval_required")[-1][2]["approvalId"]
    yield call("POST", f"{SESSION}/prompt", {"text": "18"})  # it waits: queued
    yield call("POST", f"{SESSION}/steer", {"text": "gently"})
    yield call("GET", f"{SESSION}/status")
    yield call("POST", f"{SESSION}/approve", {"approvalId": asked})
    with events(client, sid) as stream:
        asked = until(stream, "approval_required")[-1][2]["approvalId"]
    yield call("POST", f"{SESSION}/reject", {"approvalId": asked})
    yield call("POST", f"{SESSION}/abort", {})
    yield call("POST", f"{SESSION}/switch_model", {"model": "test"})
    yield call("POST", f"{SESSION}/tokens", {"scopes": ["read"]})
    yield call("POST", f"{SESSION}/tools", TOOL)
    yield call("DELETE", f"{SESSION}/tools/lookup", template=f"{SESSION}/tools/{{name}}")
    for path in (SESSION, f"{SESSION}/stats", f"{SESSION}/messages"):
        yield call("GET", path)
    for path in ("/v1/sessions", "/v1/usage", "/v1/blueprints", "/v1/models", "/v1/ends"):
        yield call("GET", path)
    yield call("GET", "/v1/usage?by=day,model,key", template="/v1/usage")
    curious = f"{sid}-curious"
    create(client, curious, blueprint="curious")
    client.post(f"/v1/sessions/{curious}/prompt", json={"text": "go"})
    with events(client, curious) as stream:
        ref = until(stream, "ask_user")[-1][2]["ref"]
    yield call("GET", f"{SESSION}/status", session=curious)
    both = f"{sid}-both"
    yield call(
        "POST", "/v1/sessions", {"model": "test", "sessionId": both, "prompt": "hi", "wait": 9}
    )
    yield call("POST", f"{SESSION}/prompt", {"text": "hello", "wait": 9}, session=both)
    yield call("POST", f"{SESSION}/respond", {"ref": ref, "response": "that"}, session=curious)
    yield call("POST", f"{SESSION}/close", session=both)
    yield call("POST", f"{SESSION}/resume", session=both)
    named, checkpoints = f"{SESSION}/checkpoints/{{name}}", f"{SESSION}/checkpoints"
    yield call("POST", checkpoints, {"name": "here"}, session=both)
    yield call("GET", checkpoints, session=both)
    again = f"{checkpoints}/here/resume"
    yield call("POST", again, {}, template=f"{named}/resume", session=both)
    yield call("DELETE", f"{checkpoints}/here", template=named, session=both)
    lines = client.get(f"/v1/sessions/{both}/export").content
    imported = client.post(f"/v1/sessions/import?sessionId={sid}-imported", content=lines)
    yield ("post", "/v1/sessions/import", imported.status_code), imported.json()
    yield call("DELETE", SESSION)


@covers("routes.description")
def test_every_answer_has_the_fields_of_its_schema_and_no_other(document, acme, sid):
    seen = set()
    for operation, answer in answers_of_every_route(acme, sid):
        assert problem(document, operation, answer) is None
        seen.add(operation[:2])
    described = {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path.startswith("/v1") and not path.endswith(("/events", "/ws", "/feed"))  # streams
        for status, response in operation["responses"].items()
        if status.startswith("2")
        and "schema" in response.get("content", {}).get("application/json", {})
    }
    assert described <= seen


@covers("routes.description")
def test_every_answer_to_operators_and_other_agents_has_the_fields_of_its_schema(
    document, gateway, acme, sid
):
    create(acme, sid)
    with gateway.client(OPERATOR) as client:
        for path in ("/ops/status", "/ops/sessions", "/ops/ends", "/.well-known/agent.json"):
            assert problem(document, ("get", path, 200), client.get(path).json()) is None


@covers("routes.description")
def test_every_answer_in_json_has_a_schema_of_its_own_and_an_example(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"].items()
            good = {each: one for each, one in responses if each[0] == "2" and each != "204"}
            for status, response in good.items():
                media = response.get("content", {}).get("application/json")
                streams = path.endswith(("/events", "/ws", "/feed", "/metrics", "/export"))
                assert streams or "$ref" in media["schema"], (method, path, status)
                assert streams or "example" in media, (method, path, status)


def test_every_field_of_an_answer_is_always_there(document):
    for record in records_below(Answer):
        schema = document["components"]["schemas"][record.__name__]
        assert set(schema.get("required", ())) == set(schema["properties"]), record
        # A newer gateway may say more: whoever reads goes on.
        assert "additionalProperties" not in schema, record


def records_below(root):
    """Yield every record that is an answer."""
    for record in root.__subclasses__():
        yield record
        yield from records_below(record)


@covers("routes.description")
def test_every_example_of_an_answer_is_one_by_its_schema(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                media = response.get("content", {}).get("application/json", {})
                if "example" in media and "schema" in media:
                    assert problem(document, (method, path, status), media["example"]) is None


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_example_of_an_event_is_one_by_its_schema(document, event):
    schema = document["components"]["schemas"][event.__name__]
    jsonschema_rs.validate(closed(schema, document), schema["examples"][0])


def by_its_schema(document, name, event, *, in_turn):
    """Hold an event to its schema, with every field that it can have, or without the turn's."""
    by_name = {event.name: event.__name__ for event in EVENTS}
    schema = closed(document["components"]["schemas"][by_name[name]], document)
    if (
        not in_turn
        and "requestId" in document["components"]["schemas"][by_name[name]]["properties"]
    ):
        assert "requestId" not in document["components"]["schemas"][by_name[name]]["required"]
        schema["required"] = [field for field in schema["required"] if field != "requestId"]
    jsonschema_rs.validate(schema, event)


@covers("routes.description")
def test_every_event_that_goes_out_is_one_by_its_schema(document, acme, sid):
    create(acme, sid)
    for _, name, event in turn_of(acme, sid, "two words"):
        by_its_schema(document, name, event, in_turn=True)


def test_events_in_a_turn_and_between_turns_are_by_their_schemas(document, acme, sid):
    create(acme, sid, blueprint="careful")

    def change_everything():
        assert acme.post(f"/v1/sessions/{sid}/steer", json={"text": "gently"}).is_success
        assert acme.post(f"/v1/sessions/{sid}/switch_model", json={"model": "test"}).is_success
        assert acme.post(f"/v1/sessions/{sid}/tools", json=TOOL).is_success
        assert acme.delete(f"/v1/sessions/{sid}/tools/lookup").is_success

    change_everything()
    acme.post(f"/v1/sessions/{sid}/prompt", json={"text": "17"})
    with events(acme, sid, since="0") as stream:
        seen = until(stream, "approval_required")
        change_everything()
        acme.post(f"/v1/sessions/{sid}/abort", json={})
        seen += until(stream, "agent_abort")
        acme.delete(f"/v1/sessions/{sid}")
        seen += until(stream, "session_end")
    prompted = [each[1] for each in seen].index("prompt_received")
    for number, (_, name, event) in enumerate(seen):
        in_turn = number >= prompted and name != "session_end"
        assert ("requestId" in event) is in_turn
        by_its_schema(document, name, event, in_turn=in_turn)
    assert {"steering", "model_switched", "tool_attached", "tool_detached", "approval_required",
            "approval_resolved", "session_end"} <= {each[1] for each in seen}  # fmt: skip


def test_a_gap_is_described_beside_the_events(document, acme, sid):
    create(acme, sid)
    with events(acme, sid, since="99999") as stream:
        identifier, name, gap = next(stream)
    assert (identifier, name, gap["reason"]) == (None, "error", "gap")
    jsonschema_rs.validate(closed(document["components"]["schemas"]["Gap"], document), gap)


def test_no_name_in_the_description_stands_for_two_things(document):
    operation = document["paths"]["/v1/sessions/{sessionId}/tools"]["post"]
    answer = operation["responses"]["201"]["content"]["application/json"]["schema"]["$ref"]
    event = document["components"]["schemas"]["ToolAttached"]
    assert (answer.rpartition("/")[2], event["title"]) == ("AttachedTool", "tool_attached")
    names = [record.__name__ for record in (*EVENTS, *records_below(Answer))]
    assert len(names) == len(set(names))


def refused(name="t", description=""):
    """Tell whether a session refuses a callback tool for its own sake."""

    service = SimpleNamespace(call_tool=object(), settings=SimpleNamespace(max_tools=1))
    session = SessionContext(session_id="s", tenant_id="t", blueprint="b", model="m")
    tools = CallbackTools(session, service=service)
    tool = CallbackTool(name=name, description=description, callback_url="https://tools.example")
    try:
        tools.attach(tool, api_key=None)
    except ToolRefused:
        return True
    return False


@pytest.mark.parametrize(
    "change",
    [
        {"name": "t"},
        {"name": "_t"},
        {"name": "T-1"},
        {"name": "1t"},
        {"name": "-t"},
        {"name": "é"},
        {"name": ""},
        {"name": "t" * 64},
        {"name": "t" * 65},
        {"description": "d" * MAX_TOOL_DESCRIPTION_CHARACTERS},
        {"description": "d" * (MAX_TOOL_DESCRIPTION_CHARACTERS + 1)},
    ],
    ids=lambda change: "-".join(f"{name}-{len(each)}" for name, each in change.items()),
)
def test_the_description_and_the_session_agree_on_what_a_tool_may_be(document, change):
    body = document["components"]["schemas"]["ToolBody"]
    described = jsonschema_rs.is_valid(closed_body(body), {**TOOL, **change})
    assert described != refused(**change)


def closed_body(schema):
    """Return the schema of a body without what only readers need."""
    return {key: each for key, each in schema.items() if key in ("type", "properties", "required")}


GOOD = {"name": "t", "status": "attached"}


@pytest.mark.parametrize(
    ("method", "path", "status", "answer", "found"),
    [
        ("POST", "/v1/sessions/s/tools", 201, GOOD, None),
        ("POST", "/v1/sessions/s/tools", 201, {**GOOD, "more": 1}, "more"),
        ("POST", "/v1/sessions/s/tools", 201, {"name": "t"}, "status"),
        ("POST", "/v1/sessions/s/tools", 201, {**GOOD, "status": "detached"}, "detached"),
        ("POST", "/v1/sessions/s/tools", 200, GOOD, "does not describe 200"),
        ("GET", "/v1/sessions", 404, {"error": "not_found", "message": ""}, "not_found"),
        ("GET", "/v1/sessions/s", 404, {"error": "not_found", "message": ""}, None),
        ("GET", "/v1/sessions/s", 404, {"error": "not_found"}, "message"),
        ("GET", "/v1/sessions/s", 405, {"error": "method_not_allowed", "message": ""}, None),
        ("GET", "/v1/nothing", 404, {"error": "not_found"}, "message"),
        ("GET", "/v1/nothing", 404, {"error": "not_found", "message": ""}, None),
    ],
)
def test_the_clients_of_the_tests_see_an_answer_that_is_not_as_described(
    method, path, status, answer, found
):
    told = mistake(method, path, status, answer)
    assert (told is None) if found is None else (found in told)
