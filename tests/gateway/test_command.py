"""The command line: keys, a development run, agents in processes of their own."""

import asyncio
import json
import os
import re
import signal
import subprocess

import pytest

from frontdesk import __version__
from frontdesk.cli.dev import dev_keys
from frontdesk.cli.welcome import welcome
from frontdesk.gateway.blueprint_config import blueprints_of
from frontdesk.gateway.config import load_config
from frontdesk.gateway.state_dir import StateDir
from frontdesk.keeper.client import Keeper
from gateway.command import IN_MEMORY, frontdesk, serving
from gateway.requirements import covers
from gateway.running import create, events, until
from support.processes import descendants
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_the_version_is_printed(tmp_path):
    for asked in ("version", "--version"):
        assert frontdesk(tmp_path, asked).stdout.strip() == __version__


def test_a_second_gateway_on_a_state_directory_is_refused_until_the_first_has_ended(tmp_path):
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(tmp_path) as first:
        # One that stores conversations would wait for a while.
        with serving(tmp_path / "again", *state, config=IN_MEMORY, wait=False) as second:
            assert second.wait() == 2
            place = tmp_path / "state"
            assert second.log.splitlines() == [
                f"frontdesk: the state directory cannot be used: {place}: "
                f"another gateway that runs has its state here (process {first.process.pid}): "
                "--state-dir names another"
            ]
        with first.client() as client:
            create(client, "s")
        first.process.kill()  # its lock goes with it, however it ends
        first.wait()
        with serving(tmp_path / "again", *state) as second, second.client() as client:
            assert client.get("/v1/sessions/s").json()["live"] is False
            create(client, "t")


@covers("keys.command-line", "keys.revocation")
def test_keys_are_made_listed_and_revoked_beside_a_running_server(tmp_path):
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(tmp_path, keys="") as server:
        made = frontdesk(tmp_path, "keys", "create", "--tenant", "acme", "--name", "ci", *state)
        assert made.returncode == 0, made.stderr
        key_id = re.search(r"^id\s+(\S+)$", made.stdout, re.MULTILINE)[1]
        secret = re.search(r"^secret\s+(\S+)$", made.stdout, re.MULTILINE)[1]
        assert re.search(r"^signing\s+[0-9a-f]{64}$", made.stdout, re.MULTILINE)
        signing = re.search(r"^signing\s+(\S+)$", made.stdout, re.MULTILINE)[1]
        assert frontdesk(tmp_path, "keys", "signing", key_id, *state).stdout.strip() == signing
        with server.client(secret) as client:
            eventually(lambda: client.get("/v1/sessions").status_code == 200)
            listed = frontdesk(tmp_path, "keys", "list", *state).stdout
            assert key_id in listed
            assert "acme\tci" in listed
            assert secret not in listed
            create(client, "s")
            with events(client, "s") as stream:
                assert frontdesk(tmp_path, "keys", "revoke", key_id, *state).returncode == 0
                assert list(stream) == []
            eventually(lambda: client.get("/v1/sessions").status_code == 401, within_s=5)
        assert frontdesk(tmp_path, "keys", "list", *state).stdout == ""
        again = frontdesk(tmp_path, "keys", "revoke", key_id, *state)
        assert again.returncode == 2
        assert key_id in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["create"],
        ["create", "--tenant", "Acme"],
        ["create", "--tenant", "acme", "--operator"],
        ["create", "--tenant", "acme", "--expires", "soon"],
        ["create", "--tenant", "acme", "--expires", "0s"],
        ["create", "--operator", "--scope", "read"],
        ["create", "--tenant", "acme", "--name", "a b"],
        ["rotate", "key_none"],
        ["rotate", "key_none", "--overlap", "soon"],
        ["revoke", "key_none"],
    ],
)
def test_what_makes_no_sense_is_one_clear_sentence(tmp_path, arguments):
    run = frontdesk(tmp_path, "keys", *arguments, "--state-dir", str(tmp_path / "state"))
    assert run.returncode == 2
    assert run.stderr.startswith("frontdesk: ")
    assert len(run.stderr.splitlines()) == 1


@covers("keys.operator")
def test_an_operators_key_and_an_expiring_one_are_listed_as_such(tmp_path):
    state = ("--state-dir", str(tmp_path / "state"))
    frontdesk(tmp_path, "keys", "create", "--operator", "--name", "root", *state)
    frontdesk(tmp_path, "keys", "create", "--tenant", "acme", "--expires", "90d", *state)
    first, second = frontdesk(tmp_path, "keys", "list", *state).stdout.splitlines()
    assert first.split("\t")[1:4] == ["(operator)", "root", ""]
    assert first.split("\t")[5] == ""
    assert second.split("\t")[1:3] == ["acme", "default"]
    assert second.split("\t")[5].startswith("2")


@covers("keys.scopes", "keys.rotation", "keys.last-use")
def test_a_key_is_made_with_scopes_rotated_and_listed_with_its_last_use(tmp_path):
    state = ("--state-dir", str(tmp_path / "state"))
    scopes = ("--scope", "read", "--scope", "prompt")
    with serving(tmp_path, keys="") as server:
        made = frontdesk(tmp_path, "keys", "create", "--tenant", "acme", *scopes, *state)
        key_id, old = (each.split()[1] for each in made.stdout.splitlines()[:2])
        assert "read,prompt" in frontdesk(tmp_path, "keys", "list", *state).stdout
        assert frontdesk(tmp_path, "keys", "list", *state).stdout.rstrip("\n").split("\t")[6] == ""
        with server.client(old) as client:
            eventually(lambda: client.get("/v1/sessions").status_code == 200)
            assert client.post("/v1/sessions", json={"model": "test"}).status_code == 403
        rotated = frontdesk(tmp_path, "keys", "rotate", key_id, *state)
        again, new = (each.split()[1] for each in rotated.stdout.splitlines()[:2])
        assert again == key_id
        with server.client(new) as client, server.client(old) as still:
            eventually(lambda: client.get("/v1/sessions").status_code == 200)
            assert still.get("/v1/sessions").status_code == 200
        listed = frontdesk(tmp_path, "keys", "list", *state).stdout
        last_used, old_until = listed.rstrip("\n").split("\t")[6:]
        assert last_used.startswith("2")
        assert old_until > last_used
        assert new not in listed


def pasted(output):
    """What a development run says to paste: the line that names address and key, then the three."""
    lines = [line for line in output.splitlines() if line.startswith(("  curl ", "  export "))]
    assert [line.split()[0] for line in lines] == ["export", "curl", "curl", "curl"]
    return lines


def typed(*lines, **options):
    """Type lines into a shell."""
    return subprocess.Popen(
        ["bash", "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True, **options
    )


def printed(*lines):
    """Return what lines print that are typed into a shell."""
    with typed(*lines) as shell:
        return shell.communicate(timeout=60)[0]


@covers("wire.default-address")
def test_a_development_run_prints_three_lines_that_work_when_pasted(tmp_path):
    with serving(tmp_path, "--dev", config=None, keys="") as server:
        eventually(lambda: "Ctrl-C" in server.output)
        export, *lines = pasted(server.output)
        answers = [printed(export, line) for line in lines[:2]]
        assert '"sessionId":"hello"' in answers[0]
        assert '"blueprint":"demo"' in answers[0]
        assert '"requestId"' in answers[1]
        with typed(export, f"exec {lines[2].strip()}") as stream:
            shown = []
            for line in stream.stdout:
                shown.append(line)
                if line.startswith("event: agent_end"):
                    break
            stream.kill()
        assert "building" in "".join(shown)
        assert "event: thinking_delta\n" in shown
        assert "/docs" in server.output
        assert server.terminate() == 0
    assert not (tmp_path / ".frontdesk").exists()


OWN = """
default_blueprint = "second"
[blueprints.first]
kind = "python"
target = "gateway.agents:patient"
isolation = "process"
[blueprints.second]
kind = "pydantic-ai"
models = ["test"]
tools = ["gateway.agents:lookup_order"]
"""


OF_THEIR_OWN = '[blueprints.a]\nkind = "pydantic-ai"\ntarget = "support.programs.own_agent:agent"\n'


def test_the_welcome_names_what_is_open_here_and_can_be_typed_as_it_stands(tmp_path):
    with serving(tmp_path, "--dev", config=OWN, keys="") as server:
        eventually(lambda: "Ctrl-C" in server.output)
        said = server.output
        export, *lines = pasted(said)
        made, prompted = (json.loads(printed(export, line)) for line in lines[:2])
        assert (made["blueprint"], made["model"], prompted["status"]) == (
            "second", "test", "accepted",
        )  # fmt: skip
        assert 'name another of: "first", "second"' in said
        assert 'With "blueprint":"first" a session is a process of its own' in said
        assert '"process"' not in said
        tools = '"tools":["ask_user","lookup_order"]'
        assert f'Sessions of "second" may choose: {tools}.' in said
        assert server.terminate() == 0


@pytest.mark.parametrize(
    ("table", "model", "more"),
    [
        ('[blueprints.a]\nkind = "acp"\ncommand = ["true"]\n', "default",
         "a session is a process of its own"),
        ('[blueprints.a]\nkind = "python"\ntarget = "gateway.agents:parrot"\n', "default",
         "unless they name another"),
        ('[blueprints.a]\nkind = "pydantic-ai"\nmodels = ["openai:*"]\n', "MODEL",
         "For MODEL name one of: openai:*."),
        (OF_THEIR_OWN, "default", "unless they name another"),
        (f'{OF_THEIR_OWN}isolation = "process"\n', "default", "a session is a process of its own"),
    ],
)  # fmt: skip
def test_the_welcome_names_a_model_that_the_default_blueprint_takes(table, model, more, tmp_path):
    keys = dev_keys(StateDir.make(tmp_path / "state"))
    (tmp_path / "frontdesk.toml").write_text(table)
    config = load_config(path=tmp_path / "frontdesk.toml")

    async def said():
        async with Keeper() as keeper:
            return welcome("http://x", keys, blueprints_of(config, keeper))

    text = asyncio.run(said())
    assert f'"sessionId":"hello","model":"{model}"' in text
    assert '"blueprint":"a"' in text
    assert more in text
    assert "assistant" not in text
    assert ('"test" of "a" needs' in text) is ("pydantic-ai" in table and "target" not in table)


def alive(pid):
    """Say whether a process runs; one that is dead and not yet reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


PROCESSES = """
[blueprints.process]
kind = "process"
"""


@covers("events.killed-in-the-middle", "errors.session-dead")
def test_kill_9_of_an_agents_process_in_the_middle_of_a_turn_ends_its_session_at_once(tmp_path):
    with (
        serving(tmp_path, config=PROCESSES) as server,
        server.client() as client,
    ):
        create(client, "s", blueprint="process")
        state = ("--state-dir", str(tmp_path / "state"))
        made = frontdesk(tmp_path, "keys", "create", "--operator", *state).stdout
        operator = re.search(r"^secret\s+(\S+)$", made, re.MULTILINE)[1]
        with server.client(operator) as ops:
            eventually(lambda: ops.get("/ops/sessions").status_code == 200)
            pid = ops.get("/ops/sessions").json()["sessions"][0]["pid"]
        assert pid != server.process.pid
        os.kill(pid, signal.SIGSTOP)  # so that its turn cannot be over before it is killed
        client.post("/v1/sessions/s/prompt", json={"text": "hello"})
        with events(client, "s", since="0") as stream:
            until(stream, "prompt_received")
            os.kill(pid, signal.SIGKILL)
            *_, abort, end = list(stream)
            assert abort[1] == "agent_abort"
            assert end[1:] == ("session_end", {"reason": "signalled: 9 (SIGKILL)"})
        gone = client.get("/v1/sessions/s")
        assert (gone.status_code, gone.json()["error"]) == (404, "session_dead")
        assert "signalled: 9" in gone.json()["reason"]
        assert client.get("/healthz").json()["sessions"]["active"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_of_an_agent_outlives_the_server(tmp_path, number):
    with (
        serving(tmp_path, config=PROCESSES) as server,
        server.client() as client,
    ):
        for name in ("a", "b"):
            create(client, name, blueprint="process")
            client.post(f"/v1/sessions/{name}/prompt", json={"text": "hello"})
        with events(client, "a") as stream:
            until(stream, "agent_end")
        family = descendants(server.process.pid)
        assert len(family) >= 3
        server.signal(number)
        assert server.wait() == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        eventually(lambda: not any(map(alive, family)))
