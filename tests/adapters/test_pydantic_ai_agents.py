"""What a Pydantic AI agent keeps of its own when it is served by name, beyond the suite of all."""

import asyncio
import json

import pytest

from adapters.frameworks import FRAMEWORKS
from adapters.model_server import Call, Final
from adapters.scenes import ENDS, last_message, scene, tool_ends
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.targets import import_target
from support.sessions import (
    RecordingToolCaller,
    callback_tool,
    data_of,
    names,
    open_session,
    text,
)

pytestmark = pytest.mark.anyio

PYDANTIC_AI = next(each for each in FRAMEWORKS if each.kind == "pydantic-ai")


@pytest.fixture
def serve(keeper):
    """Open a session of one of `pydantic_ai_more`, whose model does what a script says."""

    def serve(name, script=None, *, table=None, **options):
        target = f"adapters.programs.pydantic_ai_more:{name}"
        own = {"target": target, **(table or {})}
        return scene(PYDANTIC_AI, "task", script or echo, keeper=keeper, table=own, **options)

    return serve


async def echo(asked):
    yield f"said {asked.prompt}"


def calls(tool, **args):
    async def script(asked):
        if not asked.results:
            yield Call(tool, args)
        else:
            yield f"read {asked.results[-1]}"

    return script


# -- deps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "tenant"),
    [("plain_shop", "plain acme"), ("awaited_shop", "awaited acme"), ("shop_of", "acme")],
)
async def test_its_deps_are_what_the_factory_makes_of_the_turn(serve, factory, tenant):
    table = {"deps": f"adapters.programs.pydantic_ai_more:{factory}"}
    async with serve("keeper_of_a_shop", calls("whose"), table=table) as here:
        assert last_message(await here.turn()) == f"read {tenant}"
        assert here.server.asked[0].system == f"Of {tenant}."


async def test_deps_that_are_yielded_are_cleaned_up_behind_each_turn(serve):
    table = {"deps": "adapters.programs.pydantic_ai_more:shop_of"}
    async with serve("keeper_of_a_shop", calls("whose"), table=table) as here:
        opened = import_target("adapters.programs.pydantic_ai_more:OPENED")
        opened.clear()
        await here.turn()
        await here.turn()
        assert [shop.log for shop in opened] == [["asked", "closed"], ["closed"]]


async def test_tools_of_a_turn_find_it_in_their_deps_without_a_factory(serve):
    async with serve("asks", calls("ask_user", question="which?")) as here:
        here.session.prompt("go")
        asked = data_of((await here.stream.until("ask_user"))[-1])
        here.session.respond(asked["ref"], "that one")
        assert last_message(await here.stream.until(*ENDS)) == "read that one"


# -- what is its own -----------------------------------------------------------------------------


async def test_its_instructions_and_its_system_prompt_are_in_every_request(serve):
    async with serve("prompted") as here:
        await here.turn("one")
        await here.turn("two")
        for asked in here.server.asked:
            assert sorted(asked.system.split("\n")) == ["Be brief.", "You are old."]


async def test_a_clients_system_prompt_is_refused_unless_the_table_opens_it(serve):
    order = {"system_prompt": "Be kind."}
    with pytest.raises(CreateFailed, match="systemPrompt"):
        async with serve("prompted", order=order):
            pass
    async with serve("prompted", order=order, table={"system_prompt": True}) as here:
        await here.turn()
        assert {"Be brief.", "Be kind."} < set(
            here.server.asked[0].system.replace("\n\n", "\n").split("\n")
        )


async def test_its_history_processors_decide_what_is_asked_and_what_is_kept(serve):
    async with serve("forgetful") as here:
        for word in ("one", "two", "three"):
            assert last_message(await here.turn(word)) == f"said {word}"
        assert [each.users for each in here.server.asked] == [["one"], ["two"], ["three"]]
        assert here.server.asked[-1].said == ["said two"]


async def test_a_clients_tools_narrow_its_own(serve):
    async with serve("prompted") as here:
        await here.turn()
        assert here.server.asked[0].tools == ["add"]
        with pytest.raises(CreateFailed):
            await open_session(here.service, model="default", tools=("rm",))


async def test_a_callback_tool_does_not_take_the_name_of_one_of_its_own(serve):
    caller = RecordingToolCaller()
    async with serve("prompted", calls("add", a=1, b=2), call_tool=caller) as here:
        here.session.attach_tool(callback_tool("add"))
        events = await here.turn()
        assert last_message(events) == "read 3"
        assert not caller.calls
        assert here.server.asked[0].tools == ["add"]


# -- what it says --------------------------------------------------------------------------------


async def test_thoughts_and_tools_of_the_provider_are_told(serve):
    async with serve("searcher") as here:
        events = await here.turn()
        assert "thinking_delta" in names(events)
        assert tool_ends(events) == [("web_search", "ok", {"found": 3})]
        assert last_message(events) == "found it"
        assert text(events) == "found it"


CITY = {"city": "Bern", "population": 134_000}


async def test_output_that_the_model_writes_as_json_is_streamed_and_told_once(serve):
    async def script(asked):
        yield '{"city": "Bern", '
        yield '"population": 134000}'

    async with serve("native", script) as here:
        events = await here.turn()
        assert names(events).count("message_start") == 1
        assert json.loads(last_message(events)) == CITY


async def test_text_before_a_structured_answer_is_a_message_of_its_own(serve):
    async def script(asked):
        yield "I know that one. "
        yield Final(CITY)

    async with serve("either", script) as here:
        events = await here.turn()
        assert json.loads(last_message(events)) == CITY
        assert text(events).startswith("I know that one. ")
        assert "tool_calls" not in names(events)


async def test_an_answer_that_is_not_valid_is_not_told_and_tried_again_as_often_as_it_says(serve):
    async def script(asked):
        yield Final({**CITY, "population": 0 if len(server.asked) < 3 else 134_000})

    async with serve("strict", script) as here:
        server = here.server
        assert json.loads(text(await here.turn())) == CITY
        assert len(server.asked) == 3


# -- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["default", "openai-chat:theirs"])
@pytest.mark.parametrize("name", ["baseUrl", "apiKey"])
async def test_a_client_names_no_server_and_no_key_for_it(serve, name, model):
    order = {"model": model, "provider_opts": {name: "https://models.example/v1"}}
    with pytest.raises(CreateFailed, match="no baseUrl and no apiKey"):
        async with serve("prompted", order=order):
            pass


async def test_a_clients_settings_reach_the_model_over_its_own(serve):
    order = {"max_tokens": 17, "provider_opts": {"temperature": 0.5}}
    async with serve("prompted", order=order) as here:
        await here.turn()
        body = here.server.asked[0].body
        assert (body["max_completion_tokens"], body["temperature"]) == (17, 0.5)


async def test_an_agent_without_a_model_of_its_own_is_asked_with_the_clients(serve):
    with pytest.raises(ModelRefused, match="no model of its own"):
        async with serve("without_model"):
            pass
    order = {"model": "openai-chat:theirs"}
    async with serve("without_model", order=order) as here:
        await here.turn()
        assert here.server.asked[0].model == "theirs"


async def test_a_model_that_the_table_does_not_open_is_refused(serve):
    async with serve("prompted", table={"models": ["default"]}) as here:
        with pytest.raises(ModelRefused):
            here.session.switch_model("openai-chat:other")


async def test_without_a_list_of_models_only_its_own_is_open(serve):
    async with serve("prompted", table={"models": None}) as here:
        await here.turn()
        with pytest.raises(ModelRefused):
            here.session.switch_model("test")


# -- made for a session --------------------------------------------------------------------------


async def test_a_function_of_the_session_makes_the_agent(serve):
    async with serve("made_for") as here:
        await here.turn()
        assert here.server.asked[0].system == "For acme."
    async with serve("made_for_all") as here:
        await here.turn()
        assert here.server.asked[0].system == "For all."


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("refuse", "this customer has no agent"),
        ("fail", "the agent could not be made (KeyError)"),
        ("nothing", "the agent could not be made (no agent was returned)"),
    ],
)
async def test_a_function_that_makes_no_agent_makes_no_session(serve, data, told, caplog):
    with pytest.raises(CreateFailed) as refused:
        async with serve("made_for", order={"user_data": data}):
            pass
    assert str(refused.value) == told
    assert data == "refuse" or "pydantic_ai_more:made_for" in caplog.text


# -- bounds --------------------------------------------------------------------------------------


async def test_a_client_may_bound_the_calls_of_the_model(serve):
    async def script(asked):
        yield Call("add", {"a": 1, "b": 2})

    async with serve("prompted", script, order={"max_turns": 2}) as here:
        events = await here.turn()
        assert data_of(events[-2])["reason"] == "UsageLimitExceeded"
        assert len(here.server.asked) == 2


async def test_two_turns_at_once_do_not_know_of_each_other(serve):
    both = asyncio.Barrier(2)

    async def script(asked):
        if not asked.results:
            await both.wait()
            yield Call("add", {"a": len(asked.prompt), "b": 0})
        else:
            yield f"read {asked.results[-1]}"

    async with serve("prompted", script) as here:
        other = await here.another()
        ended = await asyncio.gather(here.turn("one"), other.turn("three"))
        assert [last_message(events) for events in ended] == ["read 3", "read 5"]
        other.stream.close()
