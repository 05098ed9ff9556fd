"""ACP agents that behave: what they say becomes events, what clients do reaches them."""

import json
import os
import signal

import pytest

from frontdesk.agents.errors import CreateFailed
from frontdesk.errors import InvalidArgument, SessionNotFound
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.messages import ProcessLimits
from frontdesk.sessions.errors import SessionDead
from support.acp import acp, open_acp_service, open_acp_session, open_session, turn_of
from support.processes import lives
from support.sessions import Stream, data_of, info_of, names, soon, stats_of, text

pytestmark = pytest.mark.anyio

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")


IN_SHELL = (
    "/bin/sh",
    "-c",
    """
    read -r line; echo '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1}}'
    read -r line; echo '{"jsonrpc":"2.0","id":1,"result":{"sessionId":"s"}}'
    read -r line
    text="$(id -un) in $(stat -c %U .)"
    chunk='{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"'"$text"'"}}'
    params='{"sessionId":"s","update":'"$chunk"'}'
    echo '{"jsonrpc":"2.0","method":"session/update","params":'"$params"'}'
    echo '{"jsonrpc":"2.0","id":2,"result":{"stopReason":"end_turn"}}'
    read -r line
    """,
)
"""An agent that needs nothing but a shell, and says who it is and whose its directory is."""


def of_kind(events, kind):
    """Return the data of the events of one kind, without what every event has."""
    found = [data_of(event) for event in events if event.name == kind]
    return [{name: one[name] for name in one if name != "requestId"} for one in found]


def the(events, kind):
    (one,) = of_kind(events, kind)
    return one


# -- turns -------------------------------------------------------------------------------------


async def test_an_agent_answers_one_prompt_after_another():
    async with open_acp_session("Agent") as conversation:
        first = await turn_of(conversation, "hello")
        assert names(first) == [
            "prompt_received",
            "agent_start",
            "message_start",
            "message_delta",
            "agent_end",
        ]
        assert text(first) == "hello"
        assert text(await turn_of(conversation, "again")) == "again"
        assert stats_of(conversation)["turns"] == 2


async def test_everything_that_an_agent_reports_becomes_events():
    async with open_acp_session("Teller") as conversation:
        events = await turn_of(conversation, "go")
        assert names(events) == [
            "prompt_received",
            "agent_start",
            "thinking_start",
            "thinking_delta",
            "thinking_delta",
            "message_start",
            "message_delta",
            "message_delta",
            "tool_execution_start",
            "tool_execution_end",
            "tool_execution_start",
            "tool_execution_end",
            "tool_execution_start",
            "message_start",
            "message_delta",
            "message_delta",
            "tool_execution_end",
            "agent_end",
        ]
        thoughts = "".join(one["delta"] for one in of_kind(events, "thinking_delta"))
        assert thoughts == "hmPlan:\n[x] look\n[ ] mend\n"
        assert text(events) == "first messagesecond[a](file:///a)"
        assert the(events, "agent_end")["lastMessage"]["content"] == "second[a](file:///a)"


async def test_a_call_begins_once_it_runs_and_ends_with_its_result():
    async with open_acp_session("Teller") as conversation:
        events = await turn_of(conversation, "go")
        begun = of_kind(events, "tool_execution_start")
        assert [(one["callId"], one["toolName"], one["args"]) for one in begun] == [
            ("c1", "read", {"path": "a"}),
            ("c2", "edit", None),
            ("c3", "run", None),
        ]
        ended = of_kind(events, "tool_execution_end")
        assert [(one["callId"], one["status"], one["result"]) for one in ended] == [
            ("c1", "ok", "the text of a"),
            ("c2", "error", {"no": 1}),
            ("c3", "ok", None),
        ]
        assert stats_of(conversation)["turns"] == 1
        assert info_of(conversation)["toolCalls"] == 3


async def test_tokens_and_cost_reach_the_meters_once():
    async with open_acp_session("Teller") as conversation:
        events = await turn_of(conversation, "go")
        assert the(events, "agent_end")["tokenUsage"]["totalTokens"] == 30
        await turn_of(conversation, "again")
        stats = stats_of(conversation)
        assert stats["tokenUsage"] == {
            "promptTokens": 40,
            "completionTokens": 20,
            "totalTokens": 60,
            "cachedTokens": 10,
            "unknownTurns": 0,
        }
        # The agent reports the sum of the session, which did not grow in the second turn.
        assert stats["costUsd"] == 0.75


@pytest.mark.parametrize("reason", ["max_tokens", "max_turn_requests", "refusal", "cancelled"])
async def test_an_early_stop_of_the_agents_own_is_explained(reason):
    async with open_acp_session("Stopping") as conversation:
        events = await turn_of(conversation, reason)
        assert names(events)[-2:] == ["error", "agent_end"]
        assert the(events, "error")["reason"] == reason


async def test_steering_is_the_next_thing_that_the_agent_is_asked():
    async with open_acp_session("Careful") as conversation:
        stream = Stream(conversation)
        conversation.prompt("allow_once")
        asked = the(await stream.until("approval_required"), "approval_required")
        conversation.steer("reject_once")
        conversation.approve(asked["approvalId"])
        asked = the(await stream.until("approval_required"), "approval_required")
        conversation.reject(asked["approvalId"])
        events = await stream.until("agent_end")
        stream.close()
        assert text(events) == "selected opt-reject_once"
        assert names(stream.events).count("agent_end") == 1


async def test_an_error_that_an_agent_answers_ends_the_turn_and_not_the_session(caplog):
    async with open_acp_session("Failing") as conversation:
        for _ in range(2):
            events = await turn_of(conversation, "go")
            assert names(events)[-2:] == ["error", "agent_abort"]
            assert the(events, "error")["reason"] == "AgentFailed"
        assert "out of luck" in caplog.text
        assert "the moon" in caplog.text


# -- approvals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "options", "outcome"),
    [
        ("approve", "allow_always allow_once reject_once", "selected opt-allow_once"),
        ("approve", "reject_once allow_always", "selected opt-allow_always"),
        ("approve", "reject_once", "cancelled None"),
        ("reject", "allow_once reject_always reject_once", "selected opt-reject_once"),
        ("reject", "allow_once reject_always", "selected opt-reject_always"),
        ("reject", "allow_once", "cancelled None"),
    ],
)
async def test_an_answer_stands_for_the_option_of_its_kind(deed, options, outcome):
    async with open_acp_session("Careful") as conversation:
        stream = Stream(conversation)
        conversation.prompt(options)
        asked = the(await stream.until("approval_required"), "approval_required")
        assert (asked["toolName"], asked["args"], asked["hint"]) == ("rm", {"path": "/"}, "rm")
        assert conversation.state == "waiting_approval"
        getattr(conversation, deed)(asked["approvalId"])
        events = await stream.until("agent_end")
        stream.close()
        assert text(events) == outcome


@pytest.mark.parametrize(("deed", "status"), [("approve", "ok"), ("reject", "rejected")])
async def test_a_rejected_call_ends_as_rejected(deed, status):
    async with open_acp_session("Careful") as conversation:
        stream = Stream(conversation)
        conversation.prompt("allow_once reject_once")
        asked = the(await stream.until("approval_required"), "approval_required")
        getattr(conversation, deed)(asked["approvalId"])
        events = await stream.until("agent_end")
        stream.close()
        assert the(events, "tool_execution_end")["status"] == status


async def test_an_approval_that_nobody_answers_expires_as_a_no():
    options = {"service": {"approval_timeout_s": 0.05}}
    async with open_acp_session("Careful", **options) as conversation:
        events = await turn_of(conversation, "allow_once reject_once")
        assert the(events, "approval_resolved")["status"] == "expired"
        assert the(events, "tool_execution_end")["status"] == "expired"
        assert text(events) == "selected opt-reject_once"


async def test_an_abort_answers_what_waits_for_an_approval(caplog):
    caplog.set_level("INFO")
    async with open_acp_session("Asking", service={"abort_grace_s": 20}) as conversation:
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("approval_required")
        conversation.abort("changed my mind")
        events = await stream.until("agent_abort")
        stream.close()
        assert the(events, "approval_resolved")["status"] == "cancelled"
        await soon(lambda: "the permission was cancelled" in caplog.text)


# -- aborts ------------------------------------------------------------------------------------


async def test_an_abort_cancels_the_agents_turn_and_the_session_goes_on():
    async with open_acp_session("Patient", service={"abort_grace_s": 20}) as conversation:
        for _ in range(2):
            stream = Stream(conversation, since=None, from_now=True)
            conversation.prompt("dig")
            await stream.until("message_delta")
            conversation.abort("enough")
            events = await stream.until("agent_abort")
            stream.close()
            assert the(events, "tool_execution_end")["status"] == "cancelled"
            assert the(events, "agent_abort")["reason"] == "enough"


async def test_an_agent_that_is_deaf_to_an_abort_is_lost_at_the_next_turn():
    async with open_acp_session("Deaf", cancel_patience_s=0.1) as conversation:
        stream = Stream(conversation)
        conversation.prompt("one")
        await stream.until("message_delta")
        conversation.abort()
        await stream.until("agent_abort")
        conversation.prompt("two")
        events = await stream.rest()
        stream.close()
        assert names(events) == [
            "prompt_received",
            "agent_start",
            "error",
            "agent_abort",
            "session_end",
        ]


async def test_a_deaf_agent_is_restarted_where_the_policy_says_so():
    options = {"cancel_patience_s": 0.1, "restart": "on_crash"}
    async with open_acp_session("Deaf", **options) as conversation:
        stream = Stream(conversation)
        conversation.prompt("one")
        await stream.until("message_delta")
        conversation.abort()
        await stream.until("agent_abort")
        conversation.prompt("two")
        await stream.until("agent_restarted")
        conversation.prompt("three")
        events = await stream.until("message_delta")
        stream.close()
        assert text(events) == "working"


# -- the process -------------------------------------------------------------------------------


async def test_an_agent_sees_its_directory_and_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_OF_THE_GATEWAY", "swordfish")
    monkeypatch.setenv("OPENCODE_SETTING", "yes")
    async with open_acp_session("Inquisitive", env=("OPENCODE_*",)) as conversation:
        seen = json.loads(text(await turn_of(conversation, "look")))
        assert seen["env"]["OPENCODE_SETTING"] == "yes"
        assert "swordfish" not in json.dumps(seen)
        assert seen["cwd"] == seen["told"]
        assert os.listdir(seen["cwd"]) == []


async def test_an_agent_works_in_the_directory_that_its_client_chose(tmp_path):
    (tmp_path / "acme" / "project").mkdir(parents=True)
    options = {"service": {"tenants_root": tmp_path}, "order": {"working_dir": "project"}}
    async with open_acp_session("Inquisitive", **options) as conversation:
        seen = json.loads(text(await turn_of(conversation, "look")))
        assert seen["cwd"] == seen["told"] == str((tmp_path / "acme" / "project").resolve())
    assert (tmp_path / "acme" / "project").is_dir()


async def test_the_program_is_never_taken_from_a_sessions_directory(tmp_path, monkeypatch):
    place = tmp_path / "acme" / "project"
    place.mkdir(parents=True)
    trap = place / "frontdesk-test-coder"
    trap.write_text("#!/bin/sh\nexit 0\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    service = {"tenants_root": tmp_path}
    async with open_acp_service(("frontdesk-test-coder",), service=service) as service:
        with pytest.raises(CreateFailed, match="not installed"):
            await open_session(service, working_dir="project")


@pytest.mark.parametrize("option", ["system_prompt", "prompt_mode"])
async def test_an_option_that_the_protocol_has_no_words_for_is_refused(option):
    async with open_acp_service("Agent") as service:
        with pytest.raises(CreateFailed, match="does not know"):
            await open_session(service, **{option: "minimal"})


async def test_the_session_ends_the_moment_its_process_is_killed():
    async with open_acp_service("Patient") as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("dig")
        await stream.until("message_delta")
        registry_agent = service.store.get(f"acme/{conversation.session_id}")
        os.kill(registry_agent.metadata.pid, signal.SIGKILL)
        events = await stream.rest()
        stream.close()
        assert names(events) == ["error", "tool_execution_end", "agent_abort", "session_end"] or (
            names(events)[-2:] == ["agent_abort", "session_end"]
        )
        assert the(events, "session_end")["reason"] == "signalled: 9 (SIGKILL)"
        with pytest.raises(SessionDead):
            service.tenant("acme", "key-1").find(conversation.session_id)


async def test_an_agent_and_its_grandchild_that_are_deaf_to_everything_are_gone_after_delete():
    async with open_acp_service("Family") as service:
        conversation = await open_session(service)
        family = lives(text(await turn_of(conversation, "who?")))
        assert len(family) == 2
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        assert all(life.over for life in family)


async def test_an_agent_leaves_by_itself_when_its_input_ends():
    async with open_acp_service("Agent", service={"end_grace_s": 40.0}) as service:
        conversation = await open_session(service)
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        ended = service.store.ended(f"acme/{conversation.session_id}")
        assert ended.reason.kind == "deleted"


async def test_a_refused_create_leaves_no_entry_and_no_process():
    async with open_acp_service("Refusing") as service:
        with pytest.raises(CreateFailed):
            await open_session(service, session_id="s")
        assert not len(service.keeper)
        with pytest.raises(SessionNotFound):
            service.tenant("acme", "key-1").find("s")


async def test_limits_hold_for_the_program():
    limits = ProcessLimits(open_files=40)
    async with open_acp_service("Inquisitive", limits=limits) as service:
        conversation = await open_session(service)
        registry_agent = service.store.get(f"acme/{conversation.session_id}")
        with open(f"/proc/{registry_agent.metadata.pid}/limits") as file:
            line = next(line for line in file if line.startswith("Max open files"))
        assert line.split()[3:5] == ["40", "40"]


@needs_root
async def test_an_agent_of_another_account_owns_its_directory():
    async with open_acp_session(IN_SHELL, account="nobody") as conversation:
        assert text(await turn_of(conversation, "who?")) == "nobody in nobody"


@needs_root
async def test_files_are_not_opened_for_an_agent_of_another_account():
    async with Keeper() as keeper:
        with pytest.raises(InvalidArgument, match="account"):
            acp(keeper, "Agent", files="read", account="nobody")


async def test_a_command_that_is_empty_is_refused_at_once():
    async with Keeper() as keeper:
        with pytest.raises(InvalidArgument, match="command"):
            acp(keeper, ())
