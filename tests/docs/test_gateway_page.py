"""The gateway's page says what the gateway does: errors, routes, events."""

import inspect
import re

import msgspec
import pytest

from docs.pages import page
from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.events import EVENTS
from frontdesk.gateway.app import make_routes
from frontdesk.gateway.error_answers import ANSWERS, INTERNAL
from frontdesk.gateway.error_table import ERRORS
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.settings import Config

PAGE = page("docs/reference/gateway.md")
ON_PAGE = PAGE.rows(under="Errors")
METHODS = {"get", "post", "delete", "put", "patch"}


def spans(cell):
    """Return the words of a cell that are marked as code."""
    return cell.split("`")[1::2]


def test_the_errors_on_the_page_are_those_of_the_code():
    expected = [(each.status, each.code) for each in ANSWERS]
    assert [(int(row[0]), *spans(row[1])) for row in ON_PAGE] == expected


def test_every_error_class_is_in_the_row_of_its_answer():
    said = {name: (int(row[0]), *spans(row[1])) for row in ON_PAGE for name in spans(row[3])}
    shown = {kind: row.answer for kind, row in ERRORS.items() if row.answer is not INTERNAL}
    assert said == {kind.__name__: (each.status, each.code) for kind, each in shown.items()}


@pytest.fixture(scope="module")
def description():
    """The API description, of a gateway that was never opened."""
    return make_routes(Gateway(Config(), blueprints=Blueprints([]))).openapi()


def test_the_routes_on_the_page_are_those_of_the_code(description):
    there = {
        f"{method.upper()} {path}"
        for path, operations in description["paths"].items()
        for method in operations
        if method in METHODS
    }
    rows = PAGE.rows(under="Routes")
    assert {row[0].replace("`", "") for row in rows} == there


def test_the_fields_of_a_body_on_the_page_are_those_of_the_code(description):
    for row in PAGE.rows(under="Routes"):
        method, path = row[0].replace("`", "").split()
        body = description["paths"][path][method.lower()].get("requestBody")
        if body is None or "application/json" not in body["content"]:
            continue
        schema = body["content"]["application/json"]["schema"]
        name = re.search(r"schemas/(\w+)", str(schema))[1]
        model = description["components"]["schemas"][name]
        required = set(model.get("required", ()))
        fields = {key if key in required else f"{key}?" for key in model["properties"]}
        assert fields == set(re.findall(r"\w+\??", spans(row[1])[0])), row[0]


def test_the_events_on_the_page_are_those_of_the_code():
    said = {spans(row[0])[0]: spans(row[1]) for row in PAGE.rows(under="Events")}
    assert list(said) == [event.name for event in EVENTS]
    for event in EVENTS:
        fields = [field.encode_name for field in msgspec.structs.fields(event)]
        assert said[event.name] == fields, event.name


def test_every_event_has_a_docstring():
    assert all(inspect.getdoc(event) for event in EVENTS)
