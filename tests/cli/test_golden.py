"""What each command prints: on a terminal, into a pipe and as JSON, held against golden files.

Real processes and a real terminal, against two real nodes. `FRONTDESK_GOLDEN=write` with this file
writes them anew, to be read before they are taken.
"""

import json
import os
import re
from pathlib import Path

import pytest

from cli.commanding import normalised, on_terminal, run
from gateway.cluster_running import cluster
from gateway.running import ACME, OPERATOR, UMBRELLA, create, events, turn_of, until
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("FRONTDESK_GOLDEN") == "write"
HOSTILE = "\x1b[31mred\u202e\x9b2J"

COMMANDS = {
    "sessions-ls": ("sessions", "ls"),
    "sessions-ls-ops": ("sessions", "ls", "--ops", "--sort", "-tokens"),
    "sessions-ls-none": ("sessions", "ls", "--prefix", "nobody"),
    "sessions-show": ("sessions", "show", "asking"),
    "sessions-stop-dry-run": ("sessions", "stop", "--prefix", "a", "--dry-run"),
    "sessions-prompt": ("sessions", "prompt", "spoken-to", "who is in"),
    "sessions-watch": ("sessions", "watch", "told"),
    "nodes-ls": ("nodes", "ls"),
    "usage": ("usage",),
    "usage-by-model": ("usage", "--by", "model"),
    "usage-budgets": ("usage", "--budgets"),
    "keys-create": ("keys", "create", "--tenant", "acme", "--state-dir", "new-state"),
    "keys-list": ("keys", "list", "--state-dir", "state"),
    "keys-rotate-unknown": ("keys", "rotate", "key_none", "--state-dir", "state"),
    "config-check": ("config", "check"),
    "config-check-wrong": ("config", "check", "--config", "wrong.toml"),
    "version": ("version",),
    "error-usage": ("sessions", "ls", "--colour"),
    "error-not-found": ("sessions", "show", "nobody"),
    "error-not-allowed": ("nodes", "ls"),
    "error-no-approval": ("sessions", "approve", "asking", "apr_0"),
    "error-confirmation": ("sessions", "stop", "--all"),
}
KEYS = {
    "sessions-ls-ops": OPERATOR, "nodes-ls": OPERATOR, "usage": UMBRELLA,
    "usage-by-model": UMBRELLA, "usage-budgets": UMBRELLA,
}  # fmt: skip
CODES = {
    "keys-rotate-unknown": 2, "config-check-wrong": 2, "error-usage": 2, "error-not-found": 3,
    "error-not-allowed": 4, "error-no-approval": 2, "error-confirmation": 2,
}  # fmt: skip
ON_TERMINALS = [name for name in COMMANDS if name not in CODES]
"""Errors are the same there, but for the one where somebody is asked: test_flows.py."""
SESSIONS = 4
VERSION = re.compile(r"\b\d+\.\d+\.\d+\b")
DIGEST = re.compile(r"\b[0-9a-f]{8,}\b")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Two nodes with sessions on one of them; and a directory with keys and a configuration."""
    budgets = {"tokens_per_day": 1000}
    tables = {"tenants": {"umbrella": {"budgets": budgets}}, "turns": {"approval_s": 3600}}
    with cluster("desk-1", "desk-2", **tables) as nodes:
        node = nodes[0]
        with node.client() as client, node.client(UMBRELLA) as other:
            create(client, "quiet", model=HOSTILE)
            turn_of(client, "quiet", "one two three")
            create(client, "asking", blueprint="careful")
            client.post("/v1/sessions/asking/prompt", json={"text": "o1"}).raise_for_status()
            with events(client, "asking") as stream:
                until(stream, "approval_required")
            create(client, "told")
            turn_of(client, "told", "a b")
            client.delete("/v1/sessions/told").raise_for_status()
            create(other, "counted")
            turn_of(other, "counted", "one two")
        node.directory = tmp_path_factory.mktemp("at")
        for name, key in (("ci", ("--scope", "read")), ("all", ())):
            made = run("keys", "create", "--tenant", "acme", "--name", name, "--state-dir",
                       "state", *key, cwd=node.directory)  # fmt: skip
            assert made.code == 0, made.err
        (node.directory / "wrong.toml").write_text('[log]\nlevel = "loud"\n')
        yield node


def nodes_of(operator):
    return operator.get("/ops/nodes").json()["nodes"]


@pytest.fixture
def spoken_to(desk, name):
    """A session that is spoken to once; where nodes are listed, the engine knows of it."""
    with desk.client() as client, desk.client(OPERATOR) as operator:
        create(client, "spoken-to")
        if name == "nodes-ls":
            eventually(lambda: SESSIONS in [each["sessions"] for each in nodes_of(operator)])
        yield
        client.delete("/v1/sessions/spoken-to")


def steady(text):
    """Return an output without versions, digests and the width that ages give a column."""
    text = DIGEST.sub("HEX", VERSION.sub("VERSION", normalised(text)))
    return re.sub(r" {2,}", "  ", text)


def check(name, text):
    path = GOLDEN / name
    if WRITE:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path.name}: read it, then write it anew"


@pytest.mark.usefixtures("spoken_to")
@pytest.mark.parametrize("name", COMMANDS)
def test_into_a_pipe_it_is_tab_separated_and_whole(desk, name):
    done = run(*COMMANDS[name], url=desk.url, key=KEYS.get(name, ACME), cwd=desk.directory)
    assert done.code == CODES.get(name, 0), done.err
    check(f"{name}.pipe", steady(f"{done.out}--- stderr\n{done.err}"))
    assert "\x1b" not in done.out


@pytest.mark.usefixtures("spoken_to")
@pytest.mark.parametrize("name", COMMANDS)
def test_as_json_it_is_a_document_or_a_line_an_item_and_so_is_an_error(desk, name):
    done = run(
        *COMMANDS[name], "--json", url=desk.url, key=KEYS.get(name, ACME), cwd=desk.directory
    )
    assert done.code == CODES.get(name, 0), done.err
    lines = done.out.splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert len(lines) == 1 or name in ("sessions-prompt", "sessions-watch") or done.code
    if done.code:
        assert json.loads(done.err)["exitCode"] == done.code
    check(f"{name}.json", steady(f"{done.out}--- stderr\n{done.err}"))


@pytest.mark.usefixtures("spoken_to")
@pytest.mark.parametrize("name", ON_TERMINALS)
def test_on_a_terminal_it_is_a_table_without_anybodys_control_characters(desk, name):
    with on_terminal(
        *COMMANDS[name], url=desk.url, key=KEYS.get(name, ACME), cwd=desk.directory, NO_COLOR="1"
    ) as terminal:
        assert terminal.wait() == CODES.get(name, 0), terminal.output
    assert not set(terminal.output) & set("\u202e\x9b")
    assert "\x1b[31m" not in terminal.output
    check(f"{name}.terminal", steady(terminal.output))


def test_colours_are_on_terminals_only_and_no_color_takes_them_away(desk):
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with on_terminal("sessions", "ls", url=desk.url, key=ACME, **more) as terminal:
            assert terminal.wait() == 0
        assert ("\x1b[1m" in terminal.output) is coloured


def test_a_narrow_terminal_has_fewer_columns_and_no_line_is_longer(desk):
    with on_terminal(
        "sessions", "ls", url=desk.url, key=ACME, columns=80, NO_COLOR="1"
    ) as terminal:
        assert terminal.wait() == 0
    assert "blueprint" not in terminal.output
    assert max(map(len, terminal.output.splitlines())) <= 80


def test_a_node_is_drained_by_its_name_and_one_that_is_not_there_is_exit_code_3(desk):
    asked = {"url": desk.url, "key": OPERATOR}
    drained = run("nodes", "drain", "desk-2", "--json", **asked)
    assert json.loads(drained.out)["draining"] is True
    again = run("nodes", "drain", "desk-2", **asked)
    assert again.out.split("\t")[:1] == ["desk-2"]
    assert again.out.split("\t")[4] == "true"
    unknown = run("nodes", "drain", "desk-9", "--json", **asked)
    assert (unknown.code, json.loads(unknown.err)["error"]) == (3, "not_found")


def test_an_operator_sees_what_every_key_has_used(desk):
    done = run("usage", "--ops", url=desk.url, key=OPERATOR)
    assert done.code == 0, done.err
    whose = {line.split("\t")[1] for line in done.out.splitlines()}
    assert {"acme/k-acme", "umbrella/k-umbrella"} <= whose
