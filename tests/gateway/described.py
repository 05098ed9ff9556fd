"""Every answer that the clients of the tests see is one by the API description.

`Client` asks for nothing by itself: it looks at what comes. The description is that of a gateway
which was never opened, made once in a process; so is each validator, when its answer first comes.
"""

import json
import re
from functools import cache

import httpx
import jsonschema_rs

from frontdesk.agents.blueprints import Blueprints
from frontdesk.gateway.app import make_routes
from frontdesk.gateway.error_answers import INTERNAL, METHOD_NOT_ALLOWED, TOO_SLOW
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.settings import Config

OF_NO_ROUTE = {each.code for each in (INTERNAL, METHOD_NOT_ALLOWED, TOO_SLOW)}
"""Errors that any request may get, and no operation describes."""


class Client(httpx.Client):
    """A client that holds each answer in JSON against its schema. Streams are read by the tests."""

    def request(self, method, url, **options):
        response = super().request(method, url, **options)
        asked = response.request
        if asked.method != "HEAD" and response.headers.get("content-type") == "application/json":
            wrong = mistake(asked.method, asked.url.path, response.status_code, response.json())
            assert wrong is None, wrong
        return response


def mistake(method, path, status, answer):
    """Return what is wrong with an answer by the description, None where nothing is."""
    found = _operation(method.lower(), path)
    if status >= 400:
        error = answer.get("error") if isinstance(answer, dict) else None
        if found is not None and error not in OF_NO_ROUTE:
            described = found[1]["responses"].get(str(status), {})
            codes = described.get("content", {}).get("application/json", {}).get("examples", {})
            if error not in codes:
                return f"{method} {found[0]} does not describe {status} {error!r}"
        return _first_error(_refusal(), answer, f"{method} {path}: {status}")
    if found is None:
        return None
    template, operation = found
    response = operation["responses"].get(str(status))
    if response is None:
        return f"{method} {template} does not describe {status}"
    return _first_error(
        _validator(method.lower(), template, status), answer, f"{method} {template}: {status}"
    )


def closed(schema, document):
    """Return a schema in which every field of ours is needed, and no other may be."""
    if isinstance(schema, list):
        return [closed(each, document) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return closed(document["components"]["schemas"][name], document)
    plain = {name: closed(each, document) for name, each in schema.items() if name != "examples"}
    if isinstance(schema.get("properties"), dict):
        plain |= {"required": list(schema["properties"]), "additionalProperties": False}
    return plain


@cache
def description():
    """Return the API description, as a client gets it."""
    made = make_routes(Gateway(Config(), blueprints=Blueprints([]))).openapi()
    return json.loads(json.dumps(made))


@cache
def _operation(method, path):
    for template, operations in description()["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if method in operations and re.fullmatch(pattern, path):
            return template, operations[method]
    return None


@cache
def _validator(method, template, status):
    content = description()["paths"][template][method]["responses"][str(status)]["content"]
    schema = closed(content["application/json"]["schema"], description())
    return jsonschema_rs.validator_for(schema)


@cache
def _refusal():
    return jsonschema_rs.validator_for(description()["components"]["schemas"]["Refusal"])


def _first_error(validator, answer, place):
    error = next(iter(validator.iter_errors(answer)), None)
    return None if error is None else f"{place}: {error}"
