"""ACP agents from the configuration, over HTTP."""

import json
import os
import signal

import pytest
from websockets.sync.client import connect

from gateway.command import serving
from gateway.running import create, events, turn_of, until
from support.acp import command_of, session_command
from support.processes import lives

pytestmark = pytest.mark.slow

CONFIG = """
[blueprints.coder]
kind = "acp"
command = {command!r}
restart = "on_crash"
files = "write"
environment = ["SOME_SETTING"]
"""


def config(habit):
    return CONFIG.format(command=list(command_of(habit)))


def gateway(folder, text):
    """Serve a configuration; what a killed gateway leaves is in the test's folder."""
    return serving(folder, config=text, TMPDIR=str(folder))


def text_of(frames):
    return "".join(data["delta"] for _, name, data in frames if name == "message_delta")


def test_an_agent_of_the_configuration_answers_over_http(tmp_path):
    with gateway(tmp_path, config("Agent")) as server, server.client() as client:
        made = create(client, "s", blueprint="coder", model="default")
        assert made["blueprint"] == "coder"
        assert text_of(turn_of(client, "s", "hello")) == "hello"
        assert client.delete("/v1/sessions/s").status_code == 200


def test_a_permission_is_given_over_http(tmp_path):
    with gateway(tmp_path, config("Careful")) as server, server.client() as client:
        create(client, "s", blueprint="coder", model="default")
        client.post("/v1/sessions/s/prompt", json={"text": "allow_once reject_once"})
        with events(client, "s") as stream:
            *_, (_, _, asked) = until(stream, "approval_required")
            body = {"approvalId": asked["approvalId"]}
            assert client.post("/v1/sessions/s/approve", json=body).status_code == 200
            assert text_of(until(stream, "agent_end")) == "selected opt-allow_once"


def test_an_option_is_chosen_by_its_id_over_http_and_on_a_websocket(tmp_path):
    asking = {"text": "allow_once allow_always reject_once"}
    with gateway(tmp_path, config("Careful")) as server, server.client() as client:
        create(client, "s", blueprint="coder", model="default")
        address = f"{server.url.replace('http', 'ws')}/v1/sessions/s/ws"
        with (
            connect(address, additional_headers=dict(client.headers), proxy=None) as socket,
            events(client, "s", since=0) as stream,
        ):
            client.post("/v1/sessions/s/prompt", json=asking)
            *_, (_, _, asked) = until(stream, "approval_required")
            body = {"approvalId": asked["approvalId"], "optionId": "opt-nope"}
            refused = client.post("/v1/sessions/s/approve", json=body)
            assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
            assert refused.json()["message"] == (
                "optionId 'opt-nope' is none of those that are offered: "
                "opt-allow_once, opt-allow_always, opt-reject_once"
            )
            body["optionId"] = "opt-allow_always"
            assert client.post("/v1/sessions/s/approve", json=body).status_code == 200
            frames = until(stream, "agent_end")
            assert text_of(frames) == "selected opt-allow_always"
            (resolved,) = [data for _, name, data in frames if name == "approval_resolved"]
            assert (resolved["status"], resolved["optionId"]) == ("approved", "opt-allow_always")
            client.post("/v1/sessions/s/prompt", json=asking)
            *_, (_, _, asked) = until(stream, "approval_required")
            body = {"approvalId": asked["approvalId"], "optionId": "opt-reject_once"}
            socket.send(json.dumps({"action": "reject", **body}))
            assert text_of(until(stream, "agent_end")) == "selected opt-reject_once"


SET = """
options = {{effort = "high", fast = true}}
[[blueprints.coder.mcp_servers]]
name = "files"
command = [{program!r}]
environment = ["SECRET_OF_FILES"]
"""


def test_options_and_mcp_servers_of_the_table_reach_the_agent_and_options_are_listed(tmp_path):
    program = str(command_of("Agent")[0])
    settable = CONFIG.format(command=list(session_command("Settable")))
    table = settable + SET.format(program=program)
    files = {"config": table, "TMPDIR": str(tmp_path), "SECRET_OF_FILES": "s-1"}
    with serving(tmp_path, **files) as server, server.client() as client:
        (offer,) = client.get("/v1/blueprints").json()["blueprints"]
        assert offer["agentOptions"] is None
        create(client, "s", blueprint="coder", model="default")
        assert json.loads(text_of(turn_of(client, "s", "which?"))) == {
            "mode": "build",
            "effort": "high",
            "fast": True,
            "servers": ["files"],
        }
        (offer,) = client.get("/v1/blueprints").json()["blueprints"]
        listed = {each["optionId"]: each["value"] for each in offer["agentOptions"]}
        assert listed == {"mode": "build", "effort": "high", "fast": True}
        assert "s-1" not in str(offer)


def test_a_program_that_is_missing_gives_create_failed_and_names_no_path(tmp_path):
    program = tmp_path / "secret-place" / "agent"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    missing = config("Agent").replace(str(command_of("Agent")[0]), str(program))
    with gateway(tmp_path, missing) as server, server.client() as client:
        program.unlink()  # one that is not there at the start would stop it
        body = {"model": "default", "sessionId": "s"}
        answer = client.post("/v1/sessions", json=body)
        assert answer.status_code == 422
        assert answer.json() == {
            "error": "create_failed",
            "message": "the agent's program is not installed on this server",
        }


def test_a_killed_agent_is_restarted_and_goes_on_in_the_same_conversation(tmp_path):
    with gateway(tmp_path, config("Family")) as server, server.client() as client:
        create(client, "s", blueprint="coder", model="default")
        family = lives(text_of(turn_of(client, "s", "who?")))
        with events(client, "s", since="0") as stream:
            os.kill(family[0].pid, signal.SIGKILL)
            until(stream, "agent_restarted")
        for life in family:
            life.await_end()
        again = lives(text_of(turn_of(client, "s", "who?")))
        assert again[0].pid != family[0].pid
        assert server.terminate() == 0
        for life in again:
            life.await_end()


def test_nothing_of_an_acp_agent_outlives_a_gateway_that_is_killed(tmp_path):
    with gateway(tmp_path, config("Family")) as server, server.client() as client:
        create(client, "s", blueprint="coder", model="default")
        family = lives(text_of(turn_of(client, "s", "who?")))
        server.signal(signal.SIGKILL)
        server.wait()
    for life in family:
        life.await_end()
