"""ACP agents that others have made: the protocol's own example, and two whole coding agents.

They are installed when these tests run. The coding agents, one on the protocol's TypeScript SDK and
one on its Python SDK, are given a model on loopback, and their updates and downloads are switched
off.
"""

import asyncio
import contextlib
import json
import os
import shutil

import pytest

from frontdesk.agents.errors import ModelRefused
from support.acp import open_acp_service, open_acp_session, open_session
from support.installed import (
    EXAMPLE_AGENT,
    OPENCODE,
    VIBE,
    from_npm,
    from_pip,
    missing,
    needs_linux_on_x86,
    newer_python,
)
from support.openai_server import OpenAIServer, tool_call
from support.sessions import Stream, data_of, names, soon, stats_of, text

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = "small"
START_S = 120
PATIENCE_S = 120


@pytest.fixture
def example_agent():
    """The command line of the example agent of the protocol's TypeScript SDK."""
    node = shutil.which("node") or missing("node")
    return (node, str(from_npm(*EXAMPLE_AGENT) / "dist" / "examples" / "agent.js"))


@contextlib.asynccontextmanager
async def opencode(tmp_path, monkeypatch, script):
    """Give OpenCode's command line, and the server whose model it calls; with a home of its own."""
    needs_linux_on_x86()
    program = from_npm(*OPENCODE) / "bin" / "opencode"
    (tmp_path / "home").mkdir()
    async with OpenAIServer(script) as server:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("OPENCODE_CONFIG_CONTENT", json.dumps(opencode_config(server.base_url)))
        for switch in ("AUTOUPDATE", "LSP_DOWNLOAD", "MODELS_FETCH", "DEFAULT_PLUGINS", "SHARE"):
            monkeypatch.setenv(f"OPENCODE_DISABLE_{switch}", "1")
        for name in [name for name in os.environ if name.startswith("XDG_")]:
            monkeypatch.delenv(name)
        yield (str(program), "acp"), server


def opencode_config(url):
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Stub",
        "options": {"baseURL": url, "apiKey": "none"},
        "models": {MODEL: {"name": "Stub"}},
    }
    return {
        "autoupdate": False,
        "share": "disabled",
        "model": f"stub/{MODEL}",
        "small_model": f"stub/{MODEL}",
        "permission": {"bash": "ask", "edit": "ask"},
        "provider": {"stub": provider},
    }


def rules(**more):
    return {
        "env": ("OPENCODE_*",),
        "start_timeout_s": START_S,
        **more,
    }


def of_kind(events, kind):
    return [data_of(event) for event in events if event.name == kind]


# -- the example of the protocol's makers -----------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "said"), [("approve", "changes have been applied"), ("reject", "skip the configur")]
)
async def test_the_example_agent_asks_and_goes_on_with_the_answer(example_agent, deed, said):
    async with open_acp_session(example_agent, start_timeout_s=START_S) as conversation:
        stream = Stream(conversation, bound_s=PATIENCE_S)
        conversation.prompt("tidy up")
        asked = data_of((await stream.until("approval_required"))[-1])
        assert asked["toolName"] == "Modifying critical configuration file"
        assert asked["args"]["path"] == "/home/user/project/config.json"
        getattr(conversation, deed)(asked["approvalId"])
        await stream.until("agent_end", "agent_abort")
        stream.close()
        assert said in text(stream.events)
        ended = [data_of(each) for each in stream.events if each.name == "tool_execution_end"]
        assert ended[0]["result"] == {"content": "# My Project\n\nThis is a sample project..."}
        assert names(stream.events)[-1] == "agent_end"


async def test_the_example_agent_is_aborted_and_asked_again(example_agent):
    options = {"start_timeout_s": START_S, "service": {"abort_grace_s": 60}}
    async with open_acp_session(example_agent, **options) as conversation:
        for _ in range(2):
            stream = Stream(conversation, since=None, from_now=True, bound_s=PATIENCE_S)
            conversation.prompt("tidy up")
            await stream.until("message_delta")
            conversation.abort("enough")
            events = await stream.until("agent_abort")
            stream.close()
            assert data_of(events[-1])["reason"] == "enough"


# -- a whole coding agent ----------------------------------------------------------------------


async def look_around(body):
    """List the directory, and say what was seen; short of tools, it is asked for a title."""
    last = body["messages"][-1]
    if not body.get("tools"):
        yield "A title"
    elif last["role"] == "user":
        yield {"reasoning_content": "I wonder"}
        yield "Let me look. "
        yield tool_call("bash", {"command": "ls", "description": "Look around"})
    else:
        yield f"I see {last['content'].strip()}"


async def dawdle(body):
    """Begin, and then say nothing more."""
    yield "well "
    await asyncio.sleep(1000)


async def nod(body):
    """Say yes."""
    yield "yes"


async def test_a_coding_agent_thinks_asks_runs_a_tool_and_answers(tmp_path, monkeypatch):
    project = tmp_path / "acme" / "project"
    project.mkdir(parents=True)
    (project / "notes.txt").write_text("remember the milk\n")
    options = rules(
        order={"working_dir": "project", "model": MODEL}, service={"tenants_root": tmp_path}
    )
    async with (
        opencode(tmp_path, monkeypatch, look_around) as (command, server),
        open_acp_session(command, **options) as session,
    ):
        stream = Stream(session, bound_s=PATIENCE_S)
        session.prompt("what is here?")
        asked = data_of((await stream.until("approval_required", "agent_end", "agent_abort"))[-1])
        assert (asked["toolName"], asked["args"]["command"]) == ("bash", "ls")
        session.approve(asked["approvalId"])
        await stream.until("agent_end", "agent_abort")
        stream.close()
        events = stream.events
        assert of_kind(events, "thinking_delta")[0]["delta"] == "I wonder"
        (ended,) = of_kind(events, "tool_execution_end")
        assert (ended["toolName"], ended["status"]) == ("bash", "ok")
        assert "notes.txt" in json.dumps(ended["result"])
        assert text(events) == "Let me look. I see notes.txt"
        end = data_of(events[-1])
        assert end["lastMessage"]["content"] == "I see notes.txt"
        assert end["tokenUsage"] == {"promptTokens": 11, "completionTokens": 7, "totalTokens": 18}
        # Two calls were served: it tells of the last one alone, and that is known of it.
        assert stats_of(session)["tokenUsage"]["unknownTurns"] == 1
        assert str(project) in json.dumps([each["body"] for each in server.requests])


async def test_a_coding_agent_is_told_that_it_may_not(tmp_path, monkeypatch):
    options = rules(order={"model": "default"})
    async with (
        opencode(tmp_path, monkeypatch, look_around) as (command, _),
        open_acp_session(command, **options) as session,
    ):
        stream = Stream(session, bound_s=PATIENCE_S)
        session.prompt("what is here?")
        asked = data_of((await stream.until("approval_required", "agent_end", "agent_abort"))[-1])
        session.reject(asked["approvalId"])
        events = await stream.until("agent_end", "agent_abort")
        stream.close()
        (ended,) = of_kind(events, "tool_execution_end")
        assert ended["status"] == "rejected"


async def test_a_coding_agent_is_aborted_in_the_middle_and_asked_again(tmp_path, monkeypatch):
    options = rules(order={"model": MODEL}, service={"abort_grace_s": 60})
    async with (
        opencode(tmp_path, monkeypatch, dawdle) as (command, server),
        open_acp_session(command, **options) as session,
    ):
        stream = Stream(session, bound_s=PATIENCE_S)
        session.prompt("say something long")
        await stream.until("message_delta", "agent_end", "agent_abort")
        session.abort("enough")
        events = await stream.until("agent_end", "agent_abort")
        assert data_of(events[-1])["reason"] == "enough"
        server.script = nod
        server.left.clear()
        session.prompt("are you there?")
        events = await stream.until("agent_end", "agent_abort")
        stream.close()
        assert text(events) == "yes"


async def test_a_coding_agent_refuses_a_model_that_it_does_not_have(tmp_path, monkeypatch):
    async with (
        opencode(tmp_path, monkeypatch, nod) as (command, _),
        open_acp_service(command, **rules()) as service,
    ):
        with pytest.raises(ModelRefused, match=f"stub/{MODEL}"):
            await open_session(service, model="gpt-of-the-future")


async def test_nothing_of_a_coding_agent_is_left_when_its_session_is_deleted(tmp_path, monkeypatch):
    async with (
        opencode(tmp_path, monkeypatch, nod) as (command, _),
        open_acp_service(command, **rules()) as service,
    ):
        session = await open_session(service, model=MODEL)
        await service.tenant("acme", "key-1").delete(session.session_id)
        await soon(lambda: not len(service.keeper))


# -- a coding agent on the official Python SDK ----------------------------------------------------


VIBE_CONFIG = """
active_model = "small"
enable_telemetry = false
enable_update_checks = false
[[providers]]
name = "stub"
api_base = "{url}"
api_key_env_var = ""
backend = "generic"
[[models]]
name = "small-1"
provider = "stub"
alias = "small"
[[models]]
name = "large-1"
provider = "stub"
alias = "large"
"""


@contextlib.asynccontextmanager
async def vibe(tmp_path, monkeypatch, script):
    """Give Mistral Vibe's command line, and the server whose models it calls."""
    python, version = newer_python((3, 12), (3, 13), (3, 14))
    program = from_pip("vibe", *VIBE, python=python, version=version).with_name("vibe-acp")
    home = tmp_path / "vibe"
    home.mkdir()
    async with OpenAIServer(script) as server:
        (home / "config.toml").write_text(VIBE_CONFIG.format(url=server.base_url))
        monkeypatch.setenv("VIBE_HOME", str(home))
        yield (str(program),), server


async def test_a_coding_agent_on_the_python_sdk_answers_with_the_model_that_was_asked_for(
    tmp_path, monkeypatch
):
    options = rules(env=("VIBE_*",), order={"model": "large"})
    async with (
        vibe(tmp_path, monkeypatch, nod) as (command, server),
        open_acp_session(command, **options) as session,
    ):
        for _ in range(3):
            stream = Stream(session, since=None, from_now=True, bound_s=PATIENCE_S)
            session.prompt("are you there?")
            events = await stream.until("agent_end", "agent_abort")
            stream.close()
            assert text(events) == "yes"
            # It counts what the session has used so far; the turn used one call.
            assert data_of(events[-1])["tokenUsage"]["totalTokens"] == 18
        assert {each["body"]["model"] for each in server.requests} == {"large-1"}
        assert stats_of(session)["tokenUsage"]["totalTokens"] == 3 * 18
        assert stats_of(session)["tokenUsage"]["unknownTurns"] == 0


@pytest.mark.parametrize(("deed", "status"), [("approve", "ok"), ("reject", "rejected")])
async def test_a_coding_agent_on_the_python_sdk_shows_what_it_is_about_to_do(
    tmp_path, monkeypatch, deed, status
):
    options = rules(env=("VIBE_*",), order={"model": "default"})
    async with (
        vibe(tmp_path, monkeypatch, run_once) as (command, _),
        open_acp_session(command, **options) as session,
    ):
        stream = Stream(session, bound_s=PATIENCE_S)
        session.prompt("make a file")
        asked = data_of((await stream.until("approval_required", "agent_end", "agent_abort"))[-1])
        assert "touch made" in json.dumps(asked)
        assert asked["details"]["kind"] == "execute"
        kinds = {each["kind"] for each in asked["details"]["options"]}
        assert {"allow_once", "reject_once"} <= kinds
        getattr(session, deed)(asked["approvalId"])
        events = await stream.until("agent_end", "agent_abort")
        stream.close()
        assert names(events)[-1] == "agent_end"
        ended = of_kind(stream.events, "tool_execution_end")
        assert [each["status"] for each in ended] == [status]


async def run_once(body):
    """Run one command, and then say that it was done."""
    if body["messages"][-1]["role"] == "tool":
        yield "done"
    else:
        yield tool_call("bash", {"command": "touch made"})


async def test_a_coding_agent_on_the_python_sdk_refuses_a_model_that_it_does_not_have(
    tmp_path, monkeypatch
):
    async with (
        vibe(tmp_path, monkeypatch, nod) as (command, _),
        open_acp_service(command, **rules(env=("VIBE_*",))) as service,
    ):
        with pytest.raises(ModelRefused, match="small, large"):
            await open_session(service, model="gpt-of-the-future")
