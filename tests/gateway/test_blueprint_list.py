"""What a caller may open, as it is listed: blueprints and models."""

import pytest

from frontdesk.agents.blueprints import Blueprint, Blueprints, blueprint
from frontdesk.agents.builtin import python_process_blueprint
from frontdesk.agents.pydantic_ai import pydantic_ai_blueprint
from frontdesk.gateway.known_blueprints import KnownBlueprints
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.errors import ForkServerFailed
from frontdesk.sessions.admission import OPTIONS
from gateway.agents import BLUEPRINTS
from gateway.requirements import covers
from gateway.running import RunningGateway, create

AGENT = "support.programs.ruled_agents:ruled"


def listed(client):
    return client.get("/v1/blueprints").json()["blueprints"]


@covers("routes.blueprints")
def test_every_blueprint_is_listed_in_the_operators_order_and_the_default_is_marked(acme):
    offers = listed(acme)
    assert [each["name"] for each in offers] == list(BLUEPRINTS)
    assert [each["name"] for each in offers if each["default"]] == ["parrot"]
    assert {each["kind"] for each in offers} == {"python"}


def test_a_blueprint_that_knows_every_option_lists_them_all_by_their_wire_names(acme):
    assert len(listed(acme)[0]["options"]) == len(OPTIONS)
    assert {"systemPrompt", "maxTurns", "userData"} <= set(listed(acme)[0]["options"])


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """A gateway whose blueprints are tables: two in processes, one of which cannot be imported."""
    tables = {
        "shown": {"kind": "pydantic-ai", "models": ["anthropic:*", "test"],
                  "tools": ["gateway.agents:lookup_order"]},
        "ruled": {"kind": "python", "target": AGENT, "isolation": "process"},
        "broken": {"kind": "python", "target": "no_such_module:x", "isolation": "process"},
        "narrowed": {"kind": "python", "target": AGENT, "models": ["test"]},
    }  # fmt: skip
    state = tmp_path_factory.mktemp("state")
    with RunningGateway(state, agents=None, blueprints=tables) as running:
        yield running


@pytest.fixture
def client(configured):
    with configured.client() as opened:
        yield opened


def test_what_the_author_wrote_is_listed_of_a_process_as_of_a_task(client):
    offers = {each["name"]: each for each in listed(client)}
    for name, isolation, models in (
        ("ruled", "process", ["author-*"]),
        ("narrowed", "task", ["test"]),
    ):
        assert offers[name] == {
            "name": name,
            "kind": "python",
            "isolation": isolation,
            "default": False,
            "models": models,
            "options": ["systemPrompt"],
            "tools": ["look"],
            "plugins": ["shell"],
            "attachments": ["author/*"],
            "agentOptions": [],
        }


def test_the_media_types_that_a_blueprint_takes_are_listed(client):
    offers = {each["name"]: each for each in listed(client)}
    taken = pydantic_ai_blueprint("any").attachments
    assert offers["shown"]["attachments"] == list(taken) != []


def test_what_is_listed_can_be_opened(client, sid):
    for each in listed(client):
        model = next(name for name in (*each["models"], "author-1") if "*" not in name)
        tools = [name for name in each["tools"] if name == "lookup_order"]
        create(client, f"{sid}-{each['name']}", blueprint=each["name"], model=model, tools=tools)


def test_a_blueprint_whose_imports_failed_is_not_listed(client):
    assert [each["name"] for each in listed(client)] == ["shown", "ruled", "narrowed"]


@covers("routes.blueprints")
def test_models_are_listed_once_with_the_blueprints_that_allow_them(client):
    assert client.get("/v1/models").json() == {
        "models": [
            {"model": "anthropic:*", "pattern": True, "blueprints": ["shown"]},
            {"model": "test", "pattern": False, "blueprints": ["shown", "narrowed"]},
            {"model": "author-*", "pattern": True, "blueprints": ["ruled"]},
        ]
    }


def test_a_reload_changes_what_is_listed(tmp_path):
    with RunningGateway(
        tmp_path, agents=None, blueprints={"a": {"kind": "python", "target": AGENT}}
    ) as gateway:
        tables = {"b": {"kind": "python", "target": AGENT, "isolation": "process"}}
        other = RunningGateway(tmp_path, agents=None, blueprints=tables).config
        with gateway.client() as client:
            assert [each["name"] for each in listed(client)] == ["a"]
            gateway.call(lambda: gateway.gateway.reload(other, keys=gateway.keys))
            assert [each["name"] for each in listed(client)] == ["b"]


def test_the_lists_need_a_tenants_key_and_know_no_query(gateway, acme):
    with gateway.client(None) as nobody:
        assert nobody.get("/v1/blueprints").status_code == 401
        assert nobody.get("/v1/models").status_code == 401
    assert acme.get("/v1/models?kind=python").status_code == 400


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_list_begins_no_import(monkeypatch):
    begun = []

    async def warm(self, server, **_):
        begun.append(server)
        raise ForkServerFailed((), problem="it always does")

    async with Keeper() as keeper:
        made = python_process_blueprint("p", AGENT, keeper=keeper)
        monkeypatch.setattr(Keeper, "warm", warm)
        async with KnownBlueprints(Blueprints([made])) as known:
            for _ in range(3):
                assert await known.all() == []
            assert len(begun) == 1  # at the start


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_list_waits_for_imports_that_are_under_way():
    @blueprint("quick")
    async def quick(turn):
        yield turn.text

    async with KnownBlueprints(Blueprints([quick])) as known:
        assert not known._warming.done()
        found = await known.all()
        assert known._warming.done()
        assert [isinstance(each, Blueprint) for each in found] == [True]
