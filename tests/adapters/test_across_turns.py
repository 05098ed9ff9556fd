"""What every framework's agent keeps from turn to turn, and what an abort leaves of one."""

import asyncio

import pytest

from adapters.model_server import Call
from adapters.scenes import ENDS, last_message, tool_ends
from frontdesk.agents.tool_run import ToolRun
from support.processes import Life
from support.sessions import BOUND_S, text

pytestmark = pytest.mark.anyio


async def echo(asked):
    """Say the prompt again."""
    yield f"said {asked.prompt}"


async def test_the_turns_before_are_in_the_next_request(play, framework, isolation):
    async with play(isolation, echo) as here:
        for word in ("one", "two", "three"):
            assert last_message(await here.turn(word)) == f"said {word}"
        last = here.server.asked[-1]
        assert last.users == (["one", "two", "three"] if framework.can("history") else ["three"])
        if framework.can("history"):
            assert last.said == ["said one", "said two"]


async def test_the_turns_before_are_in_the_next_request_after_a_restart(play, framework):
    async with play("process", echo, table={"restart": "on_crash"}) as here:
        await here.turn("one")
        key = f"{here.session.tenant_id}/{here.session.session_id}"
        Life(here.service.store.get(key).pid).kill()
        await here.stream.until("agent_restarted")
        await here.turn("two")
        last = here.server.asked[-1]
        assert last.users == (["one", "two"] if framework.can("restart") else ["two"])
        if framework.can("restart"):
            assert last.said == ["said one"]


async def test_a_second_session_shares_nothing(play, framework, isolation):
    async with play(isolation, echo) as here:
        await here.turn("one")
        other = await here.another()
        assert last_message(await other.turn("two")) == "said two"
        assert here.server.asked[-1].users == ["two"]
        await here.turn("three")
        assert here.server.asked[-1].users[-1] == "three"
        assert "two" not in here.server.asked[-1].users
        other.stream.close()


# -- cut short -----------------------------------------------------------------------------------


async def test_an_abort_stops_the_call_of_the_model(play, framework, isolation):
    async def script(asked):
        yield "begun "
        if asked.prompt == "hang":
            await asyncio.Event().wait()

    async with play(isolation, script) as here:
        here.session.prompt("hang")
        await here.stream.until("message_delta")
        here.session.abort()
        events = await here.stream.until(*ENDS)
        assert events[-1].name == "agent_abort"
        await asyncio.wait_for(here.server.asked[0].left.wait(), BOUND_S)
        assert here.service.stuck == 0
        assert text(await here.turn("go on")) == "begun "


async def test_an_abort_stops_the_tool_which_cleans_up(play, framework, isolation, tmp_path):
    mark = tmp_path / "mark"
    if not framework.can("tools"):
        return

    async def script(asked):
        yield Call("stuck", {"path": str(mark)})

    async with play(isolation, script, abort_grace_s=10) as here:
        here.session.prompt("hang")
        await here.stream.until("tool_execution_start")
        await until_there(mark.with_name("mark.begun"))
        here.session.abort()
        events = await here.stream.until(*ENDS)
        assert events[-1].name == "agent_abort"
        assert [each[:2] for each in tool_ends(events)] == [("stuck", "cancelled")]
        assert mark.with_name("mark.ended").exists()


async def test_what_tools_did_in_a_turn_that_was_cut_short_is_in_the_next_request(
    play, framework, isolation
):
    async def script(asked):
        if asked.prompt == "tell":
            yield "told"
        elif not asked.results:
            yield Call("add", {"a": 40, "b": 2})
        else:
            yield "so far "
            await asyncio.Event().wait()

    async with play(isolation, script) as here:
        here.session.prompt("go")
        await here.stream.until("message_delta")
        here.session.abort()
        await here.stream.until("agent_abort")
        assert last_message(await here.turn("tell")) == "told"
        results = here.server.asked[-1].results
        assert results == (["42"] if framework.can("cut_turns") else [])


MOMENTS = 40
"""Turns of the event loop after a tool's end in which the turn is aborted, one after another."""


async def test_a_result_that_was_shown_is_in_the_next_request_whenever_the_abort_comes(
    play, framework, monkeypatch
):
    # Pydantic AI has a property of its own, over all that happens: test_pydantic_ai_cut_turns.py.
    if not framework.can("cut_turns") or framework.kind == "pydantic-ai":
        return
    loop, ended = asyncio.get_running_loop(), ToolRun.end
    moment, shown = 0, []

    def abort(turns_left):
        if turns_left:
            loop.call_soon(abort, turns_left - 1)
        else:
            here.session.abort()

    def end(run, status, result=None):
        ended(run, status, result)
        if status == "ok":
            shown.append(run.call_id)
            abort(moment)

    async def script(asked):
        if asked.prompt == "tell":
            yield "told"
        elif not asked.results:
            yield Call("add", {"a": 40, "b": 2})
        else:
            yield "done"

    monkeypatch.setattr(ToolRun, "end", end)
    for moment in range(MOMENTS):
        async with play("task", script) as here:
            await here.turn("go")
            await here.turn("tell")
            assert here.server.asked[-1].results == ["42"], f"aborted {moment} turns later"
            await here.server.hang_up()
    assert len(shown) == MOMENTS


async def until_there(path):
    """Wait until a tool has made a file: nothing else tells of it."""
    async with asyncio.timeout(BOUND_S):
        while not path.exists():
            await asyncio.sleep(0.005)
