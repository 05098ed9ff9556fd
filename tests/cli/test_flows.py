"""Commands that go on for a while or ask: Ctrl-C, approvals, stops, what is followed.

Real processes on real terminals, against a real gateway.
"""

import itertools
import json
import os
import signal
import subprocess

import pytest

from cli.commanding import BOUND_S, COMMAND, environment, on_terminal, run
from frontdesk.agents import Turn, blueprint
from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.events import ThinkingDelta, ToolExecutionEnd, ToolExecutionStart
from gateway.agents import BLUEPRINTS
from gateway.running import ACME, OPERATOR, UMBRELLA, RunningGateway, create, events, until
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
NUMBERS = itertools.count(1)


@blueprint("thinker")
async def thinker(turn: Turn):
    """Think, use a tool, and say something with control characters."""
    turn.emit(ThinkingDelta("let me see"))
    turn.emit(ToolExecutionStart("c1", "look", {"at": "x"}))
    turn.emit(ToolExecutionEnd("c1", "look", "ok", {"found": 1}, 3))
    yield "it is \x1b[31mred\n"


AGENTS = Blueprints([*BLUEPRINTS.values(), thinker], default="parrot")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with RunningGateway(tmp_path_factory.mktemp("state"), agents=AGENTS) as running:
        yield running


@pytest.fixture
def client(desk):
    with desk.client() as client:
        yield client


@pytest.fixture
def sid():
    return f"f{next(NUMBERS)}"


@pytest.fixture
def asked(desk):
    """Return how commands ask the gateway as a tenant."""
    return {"url": desk.url, "key": ACME}


def state_of(client, session_id):
    return client.get(f"/v1/sessions/{session_id}").json()["state"]


# -- prompt ----------------------------------------------------------------------------------------


def test_text_goes_to_standard_output_and_thoughts_and_tools_to_standard_error(asked, client, sid):
    create(client, sid, blueprint="thinker")
    done = run("sessions", "prompt", sid, "?", **asked)
    assert done.code == 0
    assert done.out == "it is \x1b[31mred\n"  # a pipe gets it as it is
    assert done.err == 'thinking: let me see\ntool look({"at":"x"})\ntool look: ok, 3 ms\n'
    with on_terminal("sessions", "prompt", sid, "?", **asked) as terminal:
        assert terminal.wait() == 0
    assert "it is \\x1b[31mred" in terminal.output


def test_a_prompt_is_read_from_standard_input_and_an_empty_one_is_refused(asked, client, sid):
    create(client, sid)
    assert run("sessions", "prompt", sid, "-", said="from a\nfile", **asked).out == "from a file \n"
    empty = run("sessions", "prompt", sid, "-", said="  \n", **asked)
    assert (empty.code, empty.out) == (2, "")


def test_approvals_are_asked_at_the_terminal(asked, client, sid):
    create(client, sid, blueprint="careful")
    for answer, said in (("y", "refund approved"), ("n", "refund rejected")):
        with on_terminal("sessions", "prompt", sid, "order 7", **asked) as terminal:
            terminal.read_until("Let it run? [y/n] ")
            assert 'refund({"order":"order 7"}): costs money' in terminal.output
            terminal.type("what?\n")
            terminal.type(f"{answer}\n")
            terminal.read_until(said)
            assert terminal.wait() == 0


def test_questions_are_asked_at_the_terminal(asked, client, sid):
    create(client, sid, blueprint="curious")
    with on_terminal("sessions", "prompt", sid, "?", **asked) as terminal:
        terminal.read_until("the agent asks: Which one?")
        terminal.type("the red one\n")
        terminal.read_until("so it is the red one")
        assert terminal.wait() == 0


def test_without_a_terminal_the_first_approval_ends_it_with_1_and_its_id(asked, client, sid):
    create(client, sid, blueprint="careful")
    done = run("sessions", "prompt", sid, "order 7", "--json", **asked)
    assert done.code == 1
    told = json.loads(done.err)
    (waiting,) = client.get(f"/v1/sessions/{sid}/status").json()["pendingApprovals"]
    assert told["error"] == "approval_required"
    assert waiting["approvalId"] in told["message"]
    # The turn goes on, and whoever has the id answers.
    answered = run("sessions", "approve", sid, waiting["approvalId"], **asked)
    assert (answered.code, answered.out) == (0, "")
    with events(client, sid) as stream:
        assert until(stream, "agent_end")[-1][2]["lastMessage"]["content"].startswith("refund app")


def test_without_a_terminal_a_question_ends_it_with_1_and_its_reference(asked, client, sid):
    create(client, sid, blueprint="curious")
    done = run("sessions", "prompt", sid, "?", **asked)
    assert done.code == 1
    (waiting,) = client.get(f"/v1/sessions/{sid}/status").json()["pendingQuestions"]
    assert waiting["ref"] in done.err


def test_reject_tells_the_agent_why(asked, client, sid):
    create(client, sid, blueprint="careful")
    run("sessions", "prompt", sid, "order 7", **asked)
    (waiting,) = client.get(f"/v1/sessions/{sid}/status").json()["pendingApprovals"]
    done = run(
        "sessions", "reject", sid, waiting["approvalId"], "--reason", "no", "--json", **asked
    )
    assert json.loads(done.out) == {"approvalId": waiting["approvalId"], "status": "rejected"}
    with events(client, sid) as stream:
        last = until(stream, "agent_end")[-1][2]["lastMessage"]["content"]
    assert last.startswith("refund rejected: no")


def test_a_turn_that_is_not_finished_is_exit_code_1(asked, client, sid):
    create(client, sid, blueprint="clumsy")
    done = run("sessions", "prompt", sid, "?", "--json", **asked)
    assert done.code == 1
    assert json.loads(done.err)["error"] == "turn_aborted"
    assert "swordfish" not in done.out + done.err


def test_ctrl_c_aborts_the_turn_and_the_session_lives_on(asked, client, sid):
    create(client, sid, blueprint="patient")
    with on_terminal("sessions", "prompt", sid, "?", **asked) as terminal:
        terminal.read_until("working")
        terminal.interrupt()
        assert terminal.wait() == 130
    assert "Ctrl-C again leaves" in terminal.output
    assert "Traceback" not in terminal.output
    eventually(lambda: state_of(client, sid) == "idle")


def test_ctrl_c_at_a_question_aborts_the_turn(asked, client, sid):
    create(client, sid, blueprint="careful")
    with on_terminal("sessions", "prompt", sid, "?", **asked) as terminal:
        terminal.read_until("Let it run?")
        terminal.interrupt()
        assert terminal.wait() == 130
    eventually(lambda: state_of(client, sid) == "idle")


def test_a_second_ctrl_c_leaves_at_once(asked, client, sid):
    create(client, sid, blueprint="deaf")
    with on_terminal("sessions", "prompt", sid, "?", **asked) as terminal:
        terminal.read_until("deaf")
        terminal.interrupt()
        terminal.read_until("Ctrl-C again leaves")
        terminal.interrupt()
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.output


def test_ctrl_c_while_the_prompt_waits_leaves_the_turn_of_another_alone(asked, client, sid):
    create(client, sid, blueprint="patient")
    client.post(f"/v1/sessions/{sid}/prompt", json={"text": "first"}).raise_for_status()
    eventually(lambda: state_of(client, sid) == "working")
    with on_terminal("sessions", "prompt", sid, "second", **asked) as terminal:
        terminal.read_until("the prompt waits")
        terminal.interrupt()
        assert terminal.wait() == 130
    assert "stays in the session's queue" in terminal.output
    assert state_of(client, sid) == "working"
    assert client.get(f"/v1/sessions/{sid}/status").json()["queues"]["prompts"] == 1
    client.delete(f"/v1/sessions/{sid}")


def test_what_an_encoding_lacks_is_written_out(asked, client, sid):
    create(client, sid)
    done = run("sessions", "prompt", sid, "日本 ok", PYTHONIOENCODING="ascii", **asked)
    assert (done.code, done.out) == (0, "\\u65e5\\u672c ok \n")


# -- watch -----------------------------------------------------------------------------------------


def test_watch_tells_what_is_there_what_opens_changes_and_goes(asked, client, sid):
    create(client, f"{sid}-first")
    watching = subprocess.Popen(
        [*COMMAND, "sessions", "watch", "--prefix", sid, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(asked["url"], asked["key"]), start_new_session=True,
    )  # fmt: skip
    try:
        first = json.loads(watching.stdout.readline())
        assert (first["change"], first["sessionId"]) == ("there", f"{sid}-first")
        create(client, f"{sid}-second")
        opened = json.loads(watching.stdout.readline())
        assert (opened["change"], opened["sessionId"]) == ("opened", f"{sid}-second")
        client.delete(f"/v1/sessions/{sid}-first")
        while (gone := json.loads(watching.stdout.readline()))["change"] != "gone":
            assert gone["change"] == "changed"
        assert (gone["sessionId"], gone["reason"]) == (f"{sid}-first", "deleted")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(BOUND_S) == 130
        assert "Traceback" not in watching.stderr.read()
    finally:
        watching.kill()
        watching.wait()
        watching.stdout.close()
        watching.stderr.close()


def test_a_reader_that_has_enough_ends_it_quietly(asked, client, sid):
    for number in range(3):
        create(client, f"{sid}-{number}")
    script = f"{' '.join(COMMAND)} sessions ls --prefix {sid} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False,
        env=environment(asked["url"], asked["key"]), timeout=BOUND_S,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{sid}-0\t")


# -- stop ------------------------------------------------------------------------------------------


def living(client):
    return {each["sessionId"] for each in client.get("/v1/sessions").json()["sessions"]}


def test_stop_takes_ids_and_says_which_are_not_there(asked, client, sid):
    create(client, sid)
    done = run("sessions", "stop", sid, "nobody", **asked)
    assert done.code == 3
    assert done.out == f"{sid}\t\tstopped\nnobody\t\tgone\n"
    assert "nobody" in done.err
    assert sid not in living(client)


def test_stop_by_a_filter_needs_yes_where_nobody_can_be_asked(asked, client, sid):
    create(client, f"{sid}-a")
    create(client, f"{sid}-b")
    refused = run("sessions", "stop", "--prefix", sid, **asked)
    assert (refused.code, refused.out) == (2, "")
    dry = run("sessions", "stop", "--prefix", sid, "--dry-run", "--json", **asked)
    assert [each["status"] for each in json.loads(dry.out)["sessions"]] == ["would_stop"] * 2
    assert {f"{sid}-a", f"{sid}-b"} <= living(client)
    done = run("sessions", "stop", "--prefix", sid, "--yes", **asked)
    assert done.code == 0
    assert not {f"{sid}-a", f"{sid}-b"} & living(client)


@pytest.mark.parametrize(("answer", "stops"), [("n", False), ("y", True)])
def test_stop_by_a_filter_shows_how_many_and_asks_at_a_terminal(asked, client, sid, answer, stops):
    create(client, f"{sid}-a")
    create(client, f"{sid}-b")
    with on_terminal("sessions", "stop", "--prefix", sid, **asked) as terminal:
        terminal.read_until("Stop 2 sessions, and erase what was said in them?")
        assert f"{sid}-a" in terminal.output
        terminal.type(f"{answer}\n")
        assert terminal.wait() == 0
    assert (f"{sid}-a" not in living(client)) is stops


@pytest.mark.parametrize("arguments", [(), ("x", "--all"), ("x", "--state", "idle")])
def test_stop_without_a_choice_or_with_two_is_refused(asked, arguments):
    assert run("sessions", "stop", *arguments, **asked).code == 2


def test_an_operators_key_lists_all_tenants_and_a_tenants_name_is_asked_of_operators(
    desk, client, sid
):
    create(client, sid)
    done = run("sessions", "ls", "--prefix", sid, url=desk.url, key=OPERATOR)
    assert done.out.split("\t")[:2] == [sid, "acme"]
    refused = run("sessions", "prompt", f"acme/{sid}", "?", url=desk.url, key=OPERATOR)
    assert (refused.code, "not an operator's" in refused.err) == (2, True)


def test_an_operator_shows_and_stops_by_tenant_and_id_and_sees_no_text(desk, client, sid):
    create(client, sid, blueprint="careful")
    run("sessions", "prompt", sid, "a secret order", url=desk.url, key=ACME)
    asked = {"url": desk.url, "key": OPERATOR}
    row = run("sessions", "show", f"acme/{sid}", **asked)
    assert row.code == 0, row.err
    fields = dict(line.split("\t") for line in row.out.splitlines())
    assert (fields["tenant"], fields["state"]) == ("acme", "waiting_approval")
    assert fields["waits for"] == "1 approval"
    told = run("sessions", "show", f"acme/{sid}", "--json", **asked)
    assert json.loads(told.out)["session"]["approvals"] == 1
    assert "a secret order" not in row.out + told.out
    stopped = run("sessions", "stop", f"acme/{sid}", f"umbrella/{sid}", **asked)
    assert (stopped.code, stopped.out) == (3, f"{sid}\tacme\tstopped\n{sid}\tumbrella\tgone\n")
    assert sid not in living(client)


def test_an_operator_stops_all_that_are_as_a_filter_says_of_one_tenant(desk, client, sid):
    create(client, f"{sid}-a")
    with desk.client(UMBRELLA) as other:
        create(other, f"{sid}-b")
        asked = {"url": desk.url, "key": OPERATOR}
        done = run("sessions", "stop", "--tenant", "acme", "--prefix", sid, "--yes", **asked)
        assert (done.code, done.out) == (0, f"{sid}-a\tacme\tstopped\n")
        assert f"{sid}-b" in living(other)
        other.delete(f"/v1/sessions/{sid}-b")


# -- how it ends -----------------------------------------------------------------------------------


def test_a_gateway_that_is_not_there_is_exit_code_5_and_a_wrong_key_4(desk, tmp_path):
    gone = run("sessions", "show", "x", "--json", url="http://127.0.0.1:9", key=ACME)
    assert (gone.code, json.loads(gone.err)["error"]) == (5, "unreachable")
    wrong = run("sessions", "ls", url=desk.url, key="no-key-of-this-gateway-0123")
    assert (wrong.code, "no-key-of" in wrong.err) == (4, False)
    key_file = tmp_path / "key"
    key_file.write_text(f"{ACME}\n")
    os.chmod(key_file, 0o600)
    assert run("sessions", "ls", "--key-file", str(key_file), url=desk.url).code == 0
    assert run("sessions", "ls", "--key-file", str(tmp_path / "none"), url=desk.url).code == 2


def test_a_limit_is_exit_code_6(desk, client, sid):
    create(client, sid, blueprint="patient")
    prompts = f"/v1/sessions/{sid}/prompt"
    while client.post(prompts, json={"text": "more"}).status_code == 202:
        pass
    done = run("sessions", "prompt", sid, "one more", "--json", url=desk.url, key=ACME)
    assert (done.code, json.loads(done.err)["error"]) == (6, "prompt_queue_full")
    client.delete(f"/v1/sessions/{sid}")


def test_no_option_takes_a_secret():
    from typer.main import get_command

    from docs.commands import leaves
    from frontdesk.cli.commands import app

    options = {
        option for _, each in leaves(get_command(app)) for p in each.params for option in p.opts
    }
    assert not {each for each in options if "secret" in each or each in ("--key", "--api-key")}


def test_top_runs_on_a_terminal_and_leaves_with_q(asked, client, sid):
    create(client, sid)
    with on_terminal("top", "--prefix", sid, columns=120, **asked) as terminal:
        terminal.read_until(sid)
        terminal.type("q")
        assert terminal.wait() == 0
    piped = run("top", **asked)
    assert (piped.code, "needs a terminal" in piped.err) == (2, True)
