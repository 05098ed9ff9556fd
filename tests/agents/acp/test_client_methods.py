"""What ACP agents ask of the gateway: files and terminals, where allowed, in their directory."""

import json
import os

import pytest

from frontdesk.agents.acp.terminals import MAX_TERMINALS
from support.acp import open_acp_session, turn_of
from support.processes import lives
from support.sessions import Stream, data_of, soon, text

pytestmark = pytest.mark.anyio

NOT_FOUND, INVALID, MISSING = -32601, -32602, -32002


async def asked(conversation, *deeds):
    """Have the agent ask for these, and return the answers, and what it was told at the start."""
    said = text(await turn_of(conversation, json.dumps(deeds)))
    *answers, capabilities = [json.loads(line) for line in said.splitlines()]
    return answers, capabilities


def code_of(answer):
    return answer["error"]["code"]


# -- files -------------------------------------------------------------------------------------


async def test_an_agent_writes_and_reads_where_the_operator_allows_it():
    async with open_acp_session("Worker", files="write") as conversation:
        (written, read), capabilities = await asked(
            conversation,
            ("fs/write_text_file", {"path": "$CWD/new/a.txt", "content": "one\ntwo\n"}),
            ("fs/read_text_file", {"path": "$CWD/new/a.txt", "line": 2, "limit": 1}),
        )
        assert "error" not in written
        assert read == {"content": "two"}
        assert capabilities["fs"] == {"readTextFile": True, "writeTextFile": True}
        assert capabilities["terminal"] is False


async def test_an_agent_that_may_only_read_cannot_write():
    async with open_acp_session("Worker", files="read") as conversation:
        (written, read), capabilities = await asked(
            conversation,
            ("fs/write_text_file", {"path": "$CWD/a.txt", "content": "text"}),
            ("fs/read_text_file", {"path": "$CWD/a.txt"}),
        )
        assert (code_of(written), code_of(read)) == (NOT_FOUND, MISSING)
        assert capabilities["fs"] == {"readTextFile": True, "writeTextFile": False}


async def test_an_agent_gets_nothing_where_nothing_is_allowed():
    async with open_acp_session("Worker") as conversation:
        answers, capabilities = await asked(
            conversation,
            ("fs/write_text_file", {"path": "$CWD/a.txt", "content": "text"}),
            ("fs/read_text_file", {"path": "$CWD/a.txt"}),
            ("terminal/create", {"command": "true"}),
            ("terminal/output", {"terminalId": "t"}),
        )
        assert [code_of(answer) for answer in answers] == [NOT_FOUND] * 4
        assert capabilities["fs"] == {"readTextFile": False, "writeTextFile": False}


async def test_nothing_outside_the_directory_is_read_or_written(tmp_path):
    place = tmp_path / "acme" / "project"
    place.mkdir(parents=True)
    (tmp_path / "secret").write_text("the secret")
    (place / "link").symlink_to(tmp_path)
    (place / "file").symlink_to(tmp_path / "secret")
    options = {"service": {"tenants_root": tmp_path}, "order": {"working_dir": "project"}}
    paths = ("/etc/passwd", "$CWD/../../secret", "$CWD/link/secret", "$CWD/file", "secret")
    async with open_acp_session("Worker", files="write", **options) as conversation:
        answers, _ = await asked(
            conversation,
            *(("fs/read_text_file", {"path": path}) for path in paths),
            *(("fs/write_text_file", {"path": path, "content": "x"}) for path in paths),
        )
        assert [code_of(answer) for answer in answers] == [INVALID] * 10
        assert "the secret" not in json.dumps(answers)
    assert (tmp_path / "secret").read_text() == "the secret"


async def test_the_requests_of_another_session_are_refused():
    async with open_acp_session("Worker", files="read") as conversation:
        deed = ("fs/read_text_file", {"path": "$CWD/a", "sessionId": "another"})
        (answer,), _ = await asked(conversation, deed)
        assert code_of(answer) == INVALID


async def test_a_file_that_is_no_text_is_refused(tmp_path):
    place = tmp_path / "acme" / "project"
    place.mkdir(parents=True)
    (place / "image").write_bytes(b"\x89PNG\xff")
    options = {"service": {"tenants_root": tmp_path}, "order": {"working_dir": "project"}}
    async with open_acp_session("Worker", files="read", **options) as conversation:
        (answer,), _ = await asked(conversation, ("fs/read_text_file", {"path": "$CWD/image"}))
        assert code_of(answer) == INVALID


# -- terminals ---------------------------------------------------------------------------------


def shell(script, **more):
    return ("terminal/create", {"command": "sh", "args": ["-c", script], **more})


WAIT = ("terminal/wait_for_exit", {"terminalId": "$TERM"})
OUTPUT = ("terminal/output", {"terminalId": "$TERM"})
KILL = ("terminal/kill", {"terminalId": "$TERM"})
RELEASE = ("terminal/release", {"terminalId": "$TERM"})


async def test_a_terminal_says_what_was_printed_and_how_it_ended():
    async with open_acp_session("Worker", terminals=True) as conversation:
        script = "echo $WORD; echo bad >&2; pwd; exit 3"
        env = [{"name": "WORD", "value": "good"}]
        (_, waited, output, released, gone), capabilities = await asked(
            conversation, shell(script, env=env), WAIT, OUTPUT, RELEASE, OUTPUT
        )
        assert capabilities["terminal"] is True
        assert waited == {"exitCode": 3}
        good, bad, where = output["output"].split()
        assert (good, bad, output["truncated"]) == ("good", "bad", False)
        assert os.path.basename(where).startswith("frontdesk-session-")
        assert output["exitStatus"] == {"exitCode": 3}
        assert "error" not in released
        assert code_of(gone) == INVALID


async def test_a_terminal_that_is_killed_says_by_what_and_keeps_its_output():
    async with open_acp_session("Worker", terminals=True) as conversation:
        (_, killed, waited, output), _ = await asked(
            conversation, shell("trap '' TERM; echo here; sleep 1000"), KILL, WAIT, OUTPUT
        )
        assert "error" not in killed
        assert waited["signal"] in ("SIGTERM", "SIGKILL")
        assert output["exitStatus"] == waited


async def test_the_newest_output_is_kept_and_cut_between_characters():
    async with open_acp_session("Worker", terminals=True) as conversation:
        script = "printf 'old'; printf '\\303\\244%.0s' 1 2 3 4 5"
        (_, _, output), _ = await asked(
            conversation, shell(script, outputByteLimit=5), WAIT, OUTPUT
        )
        assert (output["output"], output["truncated"]) == ("ää", True)


async def test_a_missing_command_is_said_in_its_output():
    async with open_acp_session("Worker", terminals=True) as conversation:
        (_, waited, output), _ = await asked(
            conversation, ("terminal/create", {"command": "no-such-command"}), WAIT, OUTPUT
        )
        assert waited == {"exitCode": 127}
        assert "no-such-command" in output["output"]


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("echo one && echo two", "one\ntwo\n"),
        ("printf 'a b\\n' | wc -w", "2\n"),
        ("WORD=good; echo $WORD >&2", "good\n"),
        ("echo 'quoted  twice'", "quoted  twice\n"),
        ("echo plain words", "plain words\n"),
        ("GREETING=hi sh -c 'echo $GREETING'", "hi\n"),
    ],
)
async def test_a_line_for_a_shell_is_run_by_one(line, printed):
    async with open_acp_session("Worker", terminals=True) as conversation:
        create = ("terminal/create", {"command": line})
        (_, waited, output), _ = await asked(conversation, create, WAIT, OUTPUT)
        assert waited == {"exitCode": 0}
        assert output["output"] == printed


async def test_a_command_with_arguments_is_never_a_line_for_a_shell():
    async with open_acp_session("Worker", terminals=True) as conversation:
        command = ("terminal/create", {"command": "echo", "args": ["a; echo b", "$HOME", "|"]})
        (_, _, output), _ = await asked(conversation, command, WAIT, OUTPUT)
        assert output["output"] == "a; echo b $HOME |\n"


async def test_a_line_that_no_shell_understands_says_so_in_its_output():
    async with open_acp_session("Worker", terminals=True) as conversation:
        line = ("terminal/create", {"command": "echo 'open"})
        (_, waited, output), _ = await asked(conversation, line, WAIT, OUTPUT)
        assert waited["exitCode"] != 0
        assert "quot" in output["output"].lower()


async def test_a_program_whose_name_has_a_blank_is_no_line(tmp_path):
    place = tmp_path / "acme" / "project"
    place.mkdir(parents=True)
    program = place / "say hello"
    program.write_text("#!/bin/sh\necho hello from $0\n")
    program.chmod(0o755)
    options = {"service": {"tenants_root": tmp_path}, "order": {"working_dir": "project"}}
    async with open_acp_session("Worker", terminals=True, **options) as conversation:
        command = ("terminal/create", {"command": "$CWD/say hello"})
        (_, _, output), _ = await asked(conversation, command, WAIT, OUTPUT)
        assert output["output"] == f"hello from {program.resolve()}\n"


async def result_of(conversation, *content):
    """Have the agent report a call of this content as done, and return its result."""
    stream = Stream(conversation, since=None, from_now=True)
    call = {"toolCallId": "c1", "title": "make", "status": "completed", "content": content}
    conversation.prompt(json.dumps([["update", call]]))
    events = await stream.until("agent_end")
    stream.close()
    (end,) = [data_of(each) for each in events if each.name == "tool_execution_end"]
    return end["result"]


@pytest.mark.parametrize("released", [False, True])
async def test_a_call_whose_output_is_a_terminal_has_what_was_printed_as_its_result(released):
    async with open_acp_session("Worker", terminals=True) as conversation:
        last = [RELEASE] if released else []
        (created, *_), _ = await asked(conversation, shell("echo built; exit 3"), WAIT, *last)
        terminal = {"type": "terminal", "terminalId": created["terminalId"]}
        told = {"type": "content", "content": {"type": "text", "text": "it says: "}}
        diff = {"type": "diff", "path": "/a", "newText": "b"}
        assert await result_of(conversation, terminal) == "built\n"
        assert await result_of(conversation, told, terminal) == "it says: built\n"
        assert await result_of(conversation, diff, terminal) == [
            diff,
            {**terminal, "output": "built\n"},
        ]


async def test_a_terminal_that_there_is_not_shows_nothing_but_itself():
    terminal = {"type": "terminal", "terminalId": "none"}
    for options in ({"terminals": True}, {}):
        async with open_acp_session("Worker", **options) as conversation:
            assert await result_of(conversation, terminal) == [{**terminal, "output": None}]


@pytest.mark.parametrize("cwd", ["/", "$CWD/..", "$CWD/link", "relative"])
async def test_a_terminal_does_not_begin_outside_the_directory(tmp_path, cwd):
    place = tmp_path / "acme" / "project"
    place.mkdir(parents=True)
    (place / "link").symlink_to("/")
    options = {"service": {"tenants_root": tmp_path}, "order": {"working_dir": "project"}}
    async with open_acp_session("Worker", terminals=True, **options) as conversation:
        (answer,), _ = await asked(conversation, shell("pwd", cwd=cwd))
        assert code_of(answer) == INVALID


async def test_a_terminal_begins_where_the_agent_says(tmp_path):
    place = tmp_path / "acme" / "project"
    (place / "src").mkdir(parents=True)
    (place / "link").symlink_to("src")
    options = {"service": {"tenants_root": tmp_path}, "order": {"working_dir": "project"}}
    async with open_acp_session("Worker", terminals=True, **options) as conversation:
        (_, _, output), _ = await asked(conversation, shell("pwd", cwd="$CWD/link"), WAIT, OUTPUT)
        assert output["output"].strip() == str((place / "src").resolve())


async def test_terminals_are_counted():
    async with open_acp_session("Worker", terminals=True) as conversation:
        answers, _ = await asked(conversation, *[shell("true")] * (MAX_TERMINALS + 1))
        assert "error" not in answers[-2]
        assert code_of(answers[-1]) == INVALID


async def test_what_runs_in_terminals_ends_with_the_session():
    async with open_acp_session("Worker", terminals=True) as conversation:
        script = "trap '' TERM; sh -c \"trap '' TERM; sleep 1000\" & echo $$ $!; wait"
        (_, output), _ = await asked(conversation, shell(script), OUTPUT)
        while len(output["output"].split()) < 2:
            (output,), _ = await asked(conversation, OUTPUT)
        family = lives(output["output"])
    await soon(lambda: all(life.over for life in family))
