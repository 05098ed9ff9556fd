"""Which rule of a blueprint holds: the table's, where it says one, its author's, or the default.

For every rule, as a task and as a process.
"""

import dataclasses

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk.agents.blueprints import AuthorRules, Blueprint, Blueprints, blueprint
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.gateway.blueprint_config import RULES, blueprint_of
from frontdesk.gateway.blueprint_kinds import BlueprintServices
from frontdesk.gateway.blueprint_settings import PythonSettings
from frontdesk.keeper.client import Keeper
from support.programs.ruled_agents import ruled, unruled
from support.sessions import Stream, open_service, open_session, text

pytestmark = pytest.mark.anyio

ISOLATIONS = ("task", "process")
IDENTITY = {"name", "kind", "factory", "isolation", "complete", "agent_options"}
TABLE = {
    "models": ("table-*",),
    "attachments": ("table/*",),
    "restart": "on_crash",
    "restart_limit": 9,
    "restart_within_s": 7.0,
    "turn_timeout_s": 21.0,
    "idle_timeout_s": 22.0,
    "unused_timeout_s": 23.0,
    "max_age_s": 24.0,
    "max_sessions_per_tenant": 25,
}


def rules_of(made):
    """Return a blueprint's rules, those of its restarts one by one."""
    rules = {name: getattr(made, name) for name in AuthorRules.__struct_fields__}
    limit = rules.pop("restart_limit")
    return {**rules, "restart_limit": limit.max_restarts, "restart_within_s": limit.within_s}


@pytest.fixture(scope="module")
async def keeper():
    async with Keeper() as opened:
        yield opened


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


async def made_of(table, *, isolation, keeper, target="ruled"):
    """Return the blueprint that a table makes, complete."""
    target = f"support.programs.ruled_agents:{target}"
    settings = PythonSettings(kind="python", target=target, isolation=isolation, **table)
    made = Blueprints(
        [blueprint_of("mine", settings, BlueprintServices(keeper=keeper, guard=None))]
    )
    return (await made.completed(None))["mine"]


@pytest.mark.parametrize("said", [(), *((name,) for name in TABLE), tuple(TABLE)], ids=str)
@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_what_a_table_says_replaces_the_authors_rule_and_nothing_else(
    keeper, isolation, said
):
    table = {name: TABLE[name] for name in said}
    made = await made_of(table, isolation=isolation, keeper=keeper)
    assert rules_of(made) == {**rules_of(ruled), **table}
    assert (made.name, made.isolation) == ("mine", isolation)


@pytest.mark.parametrize("said", [(), *((name,) for name in TABLE)], ids=str)
@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_where_neither_says_anything_the_default_holds(keeper, isolation, said):
    table = {name: TABLE[name] for name in said}
    made = await made_of(table, isolation=isolation, keeper=keeper, target="unruled")
    assert rules_of(made) == {**rules_of(blueprint("x")(unruled)), **table}


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_client_meets_the_authors_rules(keeper, isolation):
    target = "support.programs.ruled_agents:ruled"
    table = PythonSettings(kind="python", target=target, isolation=isolation)
    async with open_service(
        blueprint_of("mine", table, BlueprintServices(keeper=keeper, guard=None))
    ) as service:
        with pytest.raises(ModelRefused):
            await open_session(service, model="other")
        with pytest.raises(CreateFailed, match="maxTurns"):
            await open_session(service, model="author-1", max_turns=3)
        conversation = await open_session(service, model="author-1", system_prompt="be kind")
        stream = Stream(conversation)
        conversation.prompt("hello")
        assert text(await stream.until("agent_end")) == "hello"
        stream.close()
        assert conversation.rules.turn_timeout_s == ruled.turn_timeout_s
        await service.tenant("acme", "key-1").delete(conversation.session_id)


async def test_a_process_whose_imports_fail_is_no_blueprint_to_open(keeper):
    table = PythonSettings(kind="python", target="no_such_module:x", isolation="process")
    async with open_service(
        blueprint_of("mine", table, BlueprintServices(keeper=keeper, guard=None))
    ) as service:
        with pytest.raises(CreateFailed, match="forkserver"):
            await open_session(service)


def test_every_rule_of_a_blueprint_is_carried_with_the_same_default():
    names = {field.name for field in dataclasses.fields(Blueprint)} - IDENTITY
    assert set(AuthorRules.__struct_fields__) == names
    assert set(RULES) <= names
    plain = Blueprint(name="x", kind="x", factory=None)
    assert AuthorRules.of(plain) == AuthorRules()


positive = st.one_of(st.none(), st.floats(0.001, 1e6))
names = st.frozensets(st.text(max_size=5), max_size=3)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rules=st.fixed_dictionaries(
        {},
        optional={
            "models": st.lists(st.text(max_size=8), max_size=3).map(tuple),
            "tools": names,
            "plugins": names,
            "options": st.one_of(st.none(), names),
            "turn_timeout_s": positive,
            "idle_timeout_s": positive,
            "unused_timeout_s": positive,
            "max_age_s": positive,
            "max_sessions_per_tenant": st.one_of(st.none(), st.integers(1, 2**40)),
        },
    )
)
def test_an_authors_rules_arrive_as_they_were_written(rules):
    own = AuthorRules.of(blueprint("x", **rules)(unruled))
    assert msgspec.json.decode(msgspec.json.encode(own), type=AuthorRules) == own
    assert {name: getattr(own, name) for name in rules} == rules
