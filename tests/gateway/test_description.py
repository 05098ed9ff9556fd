"""The API description: complete, with examples, and true of the server."""

import hashlib
import json
import re
import subprocess
import sys
from base64 import b64encode
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import jsonschema_rs
import pytest

from frontdesk.agents.events import EVENTS
from frontdesk.gateway.app import ROUTERS, create_app
from frontdesk.gateway.docs_page import page_of
from frontdesk.gateway.error_answers import ANSWERS, INTERNAL, METHOD_NOT_ALLOWED
from frontdesk.gateway.error_table import ERRORS
from frontdesk.gateway.problems import example_of
from gateway.asgi import ask
from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create

CONFIG = Path(__file__).parent / "schemathesis.toml"


@pytest.fixture(scope="module")
def document(gateway):
    with gateway.client(None) as client:
        return client.get("/openapi.json").json()


@covers("routes.description")
def test_every_route_is_described_with_an_example(document):
    for module in ROUTERS:
        for route in module.router.routes:
            for method in route.methods if route.include_in_schema else ():
                operation = document["paths"][route.path_format][method.lower()]
                good = [each for each in operation["responses"] if each.startswith(("1", "2"))]
                assert good, (method, route.path)
                assert operation["summary"]
                assert operation["description"]


@covers("routes.description")
def test_every_error_of_the_contract_is_described_with_an_example(document):
    seen = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/json", {})
                for code, example in content.get("examples", {}).items():
                    assert example["value"]["error"] == code
                    assert example["value"]["message"]
                    seen.add((int(status), code))
    others = {INTERNAL, METHOD_NOT_ALLOWED}  # of no route
    assert seen == {(each.status, each.code) for each in ANSWERS if each not in others}
    assert {row.answer for row in ERRORS.values()} <= set(ANSWERS)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda each: f"{each.status}-{each.code}")
def test_the_example_of_an_error_is_answered_as_the_error_is(answer):
    problem = example_of(answer)
    assert (problem.status, problem.refusal.error) == (answer.status, answer.code)


@covers("routes.description")
def test_every_event_is_described_with_an_example_of_its_own_fields(document):
    for event in EVENTS:
        schema = document["components"]["schemas"][event.__name__]
        assert schema["title"] == event.name
        assert set(schema["examples"][0]) == set(schema["properties"])
        assert ("requestId" in schema["properties"]) is (event.in_turn != "never")
        assert ("requestId" in schema.get("required", ())) is (event.in_turn == "always")


def test_routes_that_need_a_key_say_so_and_open_ones_do_not(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == path.startswith(("/v1", "/ops", "/metrics"))


def test_every_operation_has_a_name_that_was_given_to_it_by_hand(document):
    names = {
        f"{method} {path}": operation["operationId"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert len(set(names.values())) == len(names)
    assert all(re.fullmatch("[a-z]+([A-Z][a-z]+)+", name) for name in names.values())
    assert names["post /v1/sessions"] == "createSession"
    assert names["post /v1/sessions/{sessionId}/prompt"] == "sendPrompt"


def test_what_is_optional_outside_a_body_is_left_out_and_never_null(document):
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                assert "null" not in str(schema), parameter
                assert parameter["required"] is (parameter["in"] == "path")
                if "default" in schema:
                    jsonschema_rs.validate(schema, schema["default"])


def generated(document, client, name, *, path=None, body=None):
    """Call an operation as a generated client does: with all its defaults, and nothing more."""
    for template, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["operationId"] != name:
                continue
            given = {"query": {}, "header": {}}
            for each in operation.get("parameters", ()):
                if "default" in each["schema"]:
                    given[each["in"]][each["name"]] = each["schema"]["default"]
            return client.request(
                method, template.format(**path or {}), json=body,
                params=given["query"], headers=given["header"],
            )  # fmt: skip
    raise AssertionError(name)


def test_a_generated_clients_defaults_work(document, acme, sid):
    body = {"model": "test", "blueprint": "parrot", "sessionId": sid}
    assert generated(document, acme, "createSession", body=body).status_code == 201
    path = {"sessionId": sid}
    sent = generated(document, acme, "sendPrompt", path=path, body={"text": "hello"})
    assert sent.status_code == 202
    for name in ("listSessions", "getSession", "listMessages", "getSessionStats", "getUsage"):
        assert generated(document, acme, name, path=path).status_code == 200
    assert generated(document, acme, "abortTurn", path=path).status_code == 202
    assert generated(document, acme, "deleteSession", path=path).status_code == 200


def test_types_are_described_as_the_list_that_they_are(document):
    for path in ("events", "ws"):
        parameters = document["paths"][f"/v1/sessions/{{sessionId}}/{path}"]["get"]["parameters"]
        types = {each["name"]: each for each in parameters}["types"]
        assert (types["schema"]["type"], types["style"], types["explode"]) == (
            "array",
            "form",
            False,
        )
        assert types["schema"]["items"]["enum"] == [event.name for event in EVENTS]


def test_under_a_prefix_the_description_names_it(gateway):
    app = create_app(gateway.gateway)
    for prefix in ("/fd", "/fd/"):
        answer = gateway.call(partial(ask, app, "/openapi.json", root_path=prefix))
        assert json.loads(answer.body)["servers"] == [{"url": "/fd"}]
    assert "servers" not in json.loads(gateway.call(partial(ask, app, "/openapi.json")).body)


class Loads(HTMLParser):
    """Collects what a page loads, runs and links to."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.runs, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "iframe", "object", "embed", "form", "base"):
            self.runs.append(tag)
        self.runs += [name for name in given if name.startswith("on") or name == "style"]
        self.loads += [given[name] for name in ("src", "srcset", "data") if name in given]
        if tag == "link":
            self.loads.append(given["href"])
        elif tag == "a":
            self.links.append(given["href"])


def test_the_page_of_the_description_runs_nothing_and_loads_nothing(gateway, document):
    with gateway.client(None) as client:
        answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Loads(answer.text)
    assert (page.loads, page.runs) == ([], [])
    assert all(link == "openapi.json" or link.startswith("#") for link in page.links)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    style = re.search("<style>(.*?)</style>", answer.text, re.DOTALL)[1]
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert len(answer.content) < 200_000


def test_the_page_of_the_description_has_every_operation_and_every_event(gateway, document):
    with gateway.client(None) as client:
        page = client.get("/docs").text
    for operations in document["paths"].values():
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in page
    for event in EVENTS:
        assert f"<code>{event.name}</code>" in page


def test_nothing_that_a_description_says_becomes_markup():
    odd = "<script>alert('&\"`')</script>"
    field = {"type": odd, "description": odd, "default": odd}
    media = {"application/json": {"example": {odd: odd}, "schema": {"$ref": "#/x/Odd"}}}
    operation = {
        "operationId": odd, "tags": [odd], "description": odd,
        "parameters": [{"name": odd, "in": "query", "required": False, "schema": field}],
        "requestBody": {"content": media},
        "responses": {"200": {"content": media}, "204": {"description": odd}},
    }  # fmt: skip
    event = {"title": "odd", "description": odd, "examples": [{odd: odd}], "properties": {}}
    document = {
        "info": {"title": odd, "version": odd, "summary": odd},
        "paths": {odd: {"get": operation}},
        "components": {"schemas": {"Odd": {**event, "properties": {odd: field}}}},
    }
    assert Loads(page_of(document)).runs == []


def test_nothing_of_the_frameworks_own_errors_is_left(document):
    assert "HTTPValidationError" not in str(document)


def schemathesis(gateway, directory, *arguments):
    """Run schemathesis with all its checks against everything that a tenant's key opens."""
    return subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli",
            "--config-file", str(CONFIG), "run", f"{gateway.url}/openapi.json",
            "--header", f"X-API-Key: {ACME}", "--checks", "all", "--seed", "20261122",
            "--include-path-regex", "^/(v1|healthz|readyz|.well-known)", "--no-color",
            "--generation-database", "none", "--request-timeout", "5", *arguments,
        ],
        capture_output=True, text=True, timeout=550, check=False, cwd=directory,
    )  # fmt: skip


@pytest.fixture
def roomy(tmp_path):
    """A gateway that no number of requests exhausts, with the session of the examples."""
    limits = {
        "wrong_keys_per_minute": 10**6,
        "sessions_total": None,
        "sessions_per_tenant": None,
        "sessions_per_key": None,
    }
    # Who waits for the end of a turn waits up to its deadline.
    turns = {"deadline_s": 1.0}
    with (
        RunningGateway(tmp_path, limits=limits, turns=turns) as gateway,
        gateway.client() as client,
    ):
        create(client, "support-42")
        yield gateway


@covers("errors.shape")
def test_the_server_answers_the_examples_as_described(roomy, tmp_path):
    run = schemathesis(roomy, tmp_path, "--phases", "examples")
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
@covers("errors.shape", "errors.nothing-inside")
def test_the_server_answers_as_described_whatever_it_is_asked(roomy, tmp_path):
    run = schemathesis(roomy, tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "25")
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
