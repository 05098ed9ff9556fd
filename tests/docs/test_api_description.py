"""The API description is valid by the specification that it names.

`make check` installs what judges it; where that is missing there is nothing to ask.
"""

import importlib.util
import json
import os

import pytest

from frontdesk.agents.blueprints import Blueprints
from frontdesk.gateway.app import make_routes
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.settings import Config

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openapi_spec_validator") is None and not os.environ.get("CI"),
    reason="requirements/docs.txt is not installed",
)


@pytest.fixture
def document():
    """The description, of a gateway that was never opened."""
    described = make_routes(Gateway(Config(), blueprints=Blueprints([]))).openapi()
    return json.loads(json.dumps(described))


def mistakes(document):
    from openapi_spec_validator import OpenAPIV31SpecValidator

    return [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]


def test_the_description_is_valid_openapi(document):
    assert document["openapi"].startswith("3.1")
    assert mistakes(document) == []


def spoilt_default(document):
    parameters = document["paths"]["/v1/sessions"]["post"]["parameters"]
    parameters[0]["schema"] |= {"default": "", "minLength": 1}


def spoilt_name(document):
    document["paths"]["/v1/usage"]["get"]["operationId"] = "createSession"


def spoilt_reference(document):
    del document["components"]["schemas"]["Refusal"]


def spoilt_path(document):
    document["paths"]["/v1/sessions/{sessionId}"]["get"]["parameters"] = []


@pytest.mark.parametrize(
    "spoil", [spoilt_default, spoilt_name, spoilt_reference, spoilt_path], ids=lambda f: f.__name__
)
def test_the_mistakes_that_it_is_judged_for_are_found(document, spoil):
    from referencing.exceptions import Unresolvable

    spoil(document)
    try:
        found = mistakes(document)
    except Unresolvable as error:  # a reference to nothing is raised, not listed
        found = [str(error)]
    assert found != []
