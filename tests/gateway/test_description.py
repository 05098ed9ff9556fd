"""The API description: complete, with examples, and true of the server."""

import subprocess
import sys
from pathlib import Path

import pytest

from frontdesk.agents.events import EVENTS
from frontdesk.gateway.app import ROUTERS
from frontdesk.gateway.error_table import ANSWERS, ERRORS, INTERNAL, METHOD_NOT_ALLOWED
from frontdesk.gateway.problems import example_of
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
            for method in route.methods:
                operation = document["paths"][route.path][method.lower()]
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
        example = {name for name in schema["examples"][0] if name != "requestId"}
        assert example == set(schema["properties"])


def test_routes_that_need_a_key_say_so_and_open_ones_do_not(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == path.startswith(("/v1", "/ops", "/metrics"))


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
    with RunningGateway(tmp_path, limits=limits) as gateway, gateway.client() as client:
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
