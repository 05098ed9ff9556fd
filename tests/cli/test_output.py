"""How commands print, and how they end: the parts, in this process."""

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import msgspec
import pytest
import typer

from frontdesk.cli import exit_codes, output
from frontdesk.cli.exit_codes import BY_CODE, CommandFailed, ExitCode, exiting, failure_of
from frontdesk.cli.output import Column, one_line, print_fields, print_json, print_rows
from frontdesk.cli.times import age, milliseconds, moment
from frontdesk.client import errors as client_errors
from frontdesk.errors import InvalidArgument, MissingExtra
from frontdesk.gateway.errors import ConfigurationWrong, KeyNotFound

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202egnp.exe\r\n\tend\\"


class ATerminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Standard output as a terminal of 60 columns, to be read."""
    screen = ATerminal()
    # Not `sys.stdout` itself, which pytest puts in its place again before the test runs.
    monkeypatch.setattr(output, "sys", SimpleNamespace(stdout=screen, stderr=ATerminal()))
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    return screen


@pytest.fixture
def pipe(monkeypatch):
    """Standard output as a pipe, to be read."""
    read = io.StringIO()
    monkeypatch.setattr(output, "sys", SimpleNamespace(stdout=read))
    return read


# -- values ----------------------------------------------------------------------------------------


def test_a_value_is_one_line_that_moves_no_cursor_and_can_be_read_back():
    line = one_line(HOSTILE)
    assert line.isprintable()
    assert line.encode().decode("unicode_escape") == HOSTILE


@pytest.mark.parametrize("value", [None, "", 0, 1.5, "ümläut 日本 👩‍🚀".replace("\u200d", "")])
def test_ordinary_values_stay_as_they_are(value):
    assert one_line(value) == ("" if value is None else str(value))


def test_a_table_has_no_control_character_of_a_hostile_id(terminal):
    print_rows([HOSTILE], [Column("id", lambda row: row, fold=True)], none="")
    shown = terminal.getvalue()
    assert not set(shown) & set("\x07\x9b\u202e\r\t")
    assert "\x1b]0" not in shown
    assert "\x1b[31m" not in shown


def test_json_on_a_terminal_has_no_control_character_and_is_the_same_document(terminal):
    print_json({"id": HOSTILE})
    assert terminal.getvalue().rstrip("\n").replace("\n", "").isprintable()
    assert json.loads(terminal.getvalue()) == {"id": HOSTILE}


def test_a_pipe_has_every_column_of_every_row_without_headings_and_colour(pipe):
    columns = [
        Column("a", lambda row: row[0]),
        Column("b", lambda row: row[1], display=lambda row: "never", from_width=10_000),
        Column("c", None, display=lambda row: "for eyes"),
    ]
    print_rows([("x\ty", None), ("1\n2", "z" * 300)], columns, none="nothing")
    assert pipe.getvalue() == "x\\ty\t\n" + "1\\n2\t" + "z" * 300 + "\n"


def test_a_narrow_terminal_goes_without_columns(terminal):
    columns = [
        Column("first", lambda row: row),
        Column("second", lambda row: row, from_width=61),
        Column("third", lambda row: row, from_width=60),
    ]
    print_rows(["x"], columns, none="")
    assert terminal.getvalue().split() == ["first", "third", "x", "x"]


def test_no_rows_are_nothing_in_a_pipe_and_a_sentence_beside_a_table(terminal, capsys):
    print_rows([], [Column("id", str)], none="there is nobody")
    assert terminal.getvalue() == ""
    assert capsys.readouterr().err == "there is nobody\n"


def test_fields_are_aligned_for_eyes(terminal):
    print_fields([("id", 1), ("long name", None)])
    assert terminal.getvalue() == "id         1\nlong name\n"


def test_fields_are_tab_separated_into_a_pipe(pipe):
    print_fields([("id", "a\tb"), ("long name", None)])
    assert pipe.getvalue() == "id\ta\\tb\nlong name\t\n"


def test_a_reader_that_leaves_ends_the_command_without_a_word():
    program = (
        "from frontdesk.cli.exit_codes import exiting\n"
        "from frontdesk.cli.output import emit\n"
        "with exiting():\n"
        "    while True: emit('x' * 65536)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    writer.stdout.read(10)
    writer.stdout.close()
    assert (writer.stderr.read(), writer.wait(60)) == (b"", 0)
    writer.stderr.close()


# -- how a command ends ----------------------------------------------------------------------------


def test_every_code_of_the_gateways_and_the_clients_has_an_exit_code_and_says_what_to_do():
    kinds = [client_errors.CLASS_OF_CODE, *vars(client_errors).values()]
    codes = set(client_errors.CLASS_OF_CODE) | {
        kind.code
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, client_errors.ClientError)
    }
    of_programs = {"error", "client_closed", "no_event_loop"}
    assert codes - of_programs == set(BY_CODE)
    for exit_code, advice in BY_CODE.values():
        assert exit_code not in (ExitCode.OK, ExitCode.INTERRUPTED)
        assert advice


def refused(code, status):
    return client_errors.CLASS_OF_CODE[code](code, "no", status=status)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("--x", expected="y", got="z"), 2),
        (ConfigurationWrong("file", mistakes=("wrong",)), 2),
        (MissingExtra("cli", part="top", missing="textual"), 2),
        (KeyNotFound("key_none"), 2),
        (refused("bad_request", 400), 2),
        (refused("not_found", 404), 3),
        (refused("session_dead", 404), 3),
        (refused("unauthorized", 401), 4),
        (refused("forbidden", 403), 4),
        (refused("guardrail", 422), 4),
        (refused("unavailable", 503), 5),
        (refused("internal", 500), 5),
        (client_errors.UnreachableError("nobody"), 5),
        (refused("rate_limited", 429), 6),
        (refused("budget_exceeded", 429), 6),
        (refused("session_limit", 429), 6),
        (client_errors.RefusedError("newer", "no", status=503), 5),
        (client_errors.RefusedError("newer", "no", status=429), 6),
        (client_errors.RefusedError("newer", "no", status=403), 4),
        (client_errors.RefusedError("newer", "no", status=422), 2),
        (CommandFailed("mine", "why", exit_code=ExitCode.WRONG), 1),
    ],
    ids=lambda each: getattr(each, "code", None) or type(each).__name__,
)
def test_each_kind_of_error_has_its_exit_code(error, code, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["frontdesk", "x", "--json"])
    with pytest.raises(SystemExit) as ended, exiting():
        raise error
    assert ended.value.code == code
    told = json.loads(capsys.readouterr().err)
    assert set(told) == {"error", "message", "exitCode"}
    assert told["exitCode"] == code
    assert str(error) in told["message"]


def test_an_error_is_a_sentence_with_what_to_do_next(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["frontdesk", "keys", "revoke", "--", "--json"])
    with pytest.raises(SystemExit), exiting():
        raise KeyNotFound("\x1b[2J")
    assert capsys.readouterr().err == (
        "frontdesk: no key '\\x1b[2J': `frontdesk keys list` shows them\n"
    )


@pytest.mark.parametrize("kind", [KeyboardInterrupt, typer.Abort])
def test_what_is_interrupted_ends_with_130_and_says_nothing(kind, capsys):
    with pytest.raises(SystemExit) as ended, exiting():
        raise kind
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError), exiting():
        raise ZeroDivisionError
    assert failure_of(ValueError("ours")) is None


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [(0, "0s"), (59_999, "59s"), (60_000, "1m"), (3_725_000, "1h2m"), (90_000_000, "1d1h"),
     (86_400_000, "1d"), (-5, "0s")],
)  # fmt: skip
def test_an_age_has_its_two_greatest_units(span_ms, text):
    assert age(span_ms) == text


@pytest.mark.parametrize("text", ["", "5", "5y", "-5s", "1.5h", "0s", "99999999s", "5 s"])
def test_a_duration_that_is_none_is_refused_by_its_option(text):
    with pytest.raises(InvalidArgument, match="--expires"):
        milliseconds(text, "--expires")


def test_durations_and_moments_are_read_and_written_in_one_way():
    assert milliseconds("2w", "--expires") == 14 * 86_400_000
    assert milliseconds("0s", "--older-than") == 0
    assert moment(1_795_339_860_042) == "2026-11-22T09:31:00.042Z"


def test_what_is_printed_is_the_record_that_the_gateway_sends(pipe):
    record = msgspec.defstruct("Row", [("tenant_id", str)], rename="camel")(tenant_id="acme")
    print_json({"sessions": [record]})
    assert pipe.getvalue() == '{"sessions":[{"tenantId":"acme"}]}\n'


# -- what is imported ------------------------------------------------------------------------------

HEAVY = (
    "rich.console",
    "textual",
    "httpx2",
    "pydantic_settings",
    "fastapi",
    "frontdesk.gateway.config",
)


def test_the_version_is_printed_without_anything_heavy():
    program = (
        "import sys\nsys.argv = ['frontdesk', 'version']\n"
        "from frontdesk.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.stdout.splitlines()[1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["textual", "httpx2", "msgspec"])
def test_without_the_extra_other_commands_name_it(missing, monkeypatch, capsys):
    arguments = {"textual": ["top"]}.get(missing, ["sessions", "ls"])
    program = (
        f"import sys\nsys.modules[{missing!r}] = None\n"
        f"sys.argv = ['frontdesk', *{arguments!r}]\n"
        "from frontdesk.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2)
    assert "pip install 'frontdesk[" in done.stderr
    assert "Traceback" not in done.stderr


def test_there_is_one_place_for_control_characters():
    assert output.CONTROL is exit_codes.CONTROL
