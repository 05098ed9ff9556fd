"""`frontdesk agents check` tries blueprints, and says in plain words what is wrong with them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.acp import command_of
from support.other_interpreters import virtual

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TESTS = Path(__file__).parents[1]
KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")
BOUND_S = 200

AGENTS = """
import asyncio, os, sys

async def nodding(turn):
    if not await turn.approval("refund"):
        answer = await turn.ask("Why?")
        yield f"refused: {answer}"

async def failing(turn):
    yield "I will "
    raise RuntimeError("the moon is in the wrong house")

async def stalling(turn):
    yield "well "
    await asyncio.sleep(1000)

async def exiting(turn):
    print("out of paper", file=sys.stderr, flush=True)
    os._exit(3)
    yield
"""


class Checked:
    """How a check went."""

    def __init__(self, ran):
        self.code, self.said, self.complained = ran.returncode, ran.stdout, ran.stderr


def check(folder, config, *arguments, **environment):
    """Write a configuration, and check it."""
    (folder / "frontdesk.toml").write_text(config, encoding="utf-8")
    (folder / "some_agents.py").write_text(AGENTS, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in KEYS}
    ran = subprocess.run(
        [sys.executable, "-m", "frontdesk.cli", "agents", "check", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Checked(ran)


@pytest.mark.parametrize("program", ["the script", "the module"])
@pytest.mark.parametrize("place", ["beside", "above", "elsewhere"])
def test_agents_beside_the_configuration_are_found_without_a_search_path(tmp_path, program, place):
    folder = tmp_path / "above" / "conf"
    folder.mkdir(parents=True)
    config = python("nodding") + python("nodding", isolation="process").replace("mine", "apart")
    (folder / "frontdesk.toml").write_text(config, encoding="utf-8")
    (folder / "some_agents.py").write_text(AGENTS, encoding="utf-8")
    script = [str(Path(sys.executable).parent / "frontdesk")]
    command = script if program == "the script" else [sys.executable, "-m", "frontdesk.cli"]
    cwd = {"beside": folder, "above": folder.parent, "elsewhere": Path("/")}[place]
    given = [] if place == "beside" else ["--config", str(folder / "frontdesk.toml")]
    ran = subprocess.run(
        [*command, "agents", "check", *given],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("): ok, default answered") == 2


def python(function, **more):
    lines = "".join(f"{name} = {value!r}\n" for name, value in more.items())
    return f"""
[blueprints.mine]
kind = "python"
target = "some_agents:{function}"
{lines}"""


def acp(*command, **more):
    lines = "".join(f"{name} = {value!r}\n" for name, value in more.items())
    return f"""
[blueprints.coder]
kind = "acp"
command = {list(command)!r}
{lines}"""


# -- what works --------------------------------------------------------------------------------


def test_what_comes_built_in_answers_without_a_key(tmp_path):
    checked = check(tmp_path, "")
    assert checked.code == 0, checked.said
    assert [line.partition(": ")[0] for line in checked.said.splitlines()] == [
        "assistant (pydantic-ai)",
        "process (process)",
    ]
    assert checked.said.count("ok, test answered in") == 2


@pytest.mark.parametrize("isolation", ["task", "process"])
def test_an_agent_that_asks_is_answered_with_no_and_with_a_sentence(tmp_path, isolation):
    checked = check(tmp_path, python("nodding", isolation=isolation))
    assert checked.code == 0, checked.said
    assert "mine (python): ok, default answered in" in checked.said
    assert "'refused: This is only a check: please go on without an answer.'" in checked.said


def test_a_program_that_speaks_the_protocol_answers(tmp_path):
    checked = check(tmp_path, acp(*command_of("Agent")), "coder", "--prompt", "are you there?")
    assert checked.code == 0, checked.said
    assert checked.said.endswith("'are you there?'\n")


def test_an_agent_answers_in_the_interpreter_that_its_blueprint_names(tmp_path):
    virtual(tmp_path / "venv")
    config = python("nodding", isolation="process", python="venv/bin/python")
    checked = check(tmp_path, config)
    assert checked.code == 0, checked.said
    assert "mine (python): ok, default answered in" in checked.said


def test_an_interpreter_that_cannot_serve_is_told_with_what_to_do(tmp_path):
    virtual(tmp_path / "venv", with_msgspec=False)
    config = python("nodding", isolation="process", python="venv/bin/python")
    checked = check(tmp_path, config)
    assert checked.code == 1
    assert "-m pip install 'msgspec>=0.20'" in checked.said
    assert "msgspec cannot be imported" in checked.said


# -- what is wrong -----------------------------------------------------------------------------


def test_a_missing_key_is_named_by_its_variable(tmp_path):
    models = '[blueprints.assistant]\nkind = "pydantic-ai"\nmodels = ["anthropic:*", "test"]\n'
    checked = check(tmp_path, models)
    assert checked.code == 1
    wrong, well = checked.said.splitlines()
    assert "models 'anthropic:*'" in wrong
    assert wrong.endswith("the server needs the environment variable ANTHROPIC_API_KEY")
    assert "ok, test answered" in well


def test_a_key_that_is_there_is_not_complained_of_and_not_used(tmp_path):
    models = '[blueprints.assistant]\nkind = "pydantic-ai"\nmodels = ["anthropic:*"]\n'
    checked = check(tmp_path, models, ANTHROPIC_API_KEY="sk-none")
    assert checked.code == 0
    assert "nothing wrong was found; name a model with --model" in checked.said


def test_a_key_that_does_not_reach_the_process_is_found_out(tmp_path):
    config = """
[blueprints.apart]
kind = "process"
models = ["openai:gpt-5"]
environment = ["SOMETHING_ELSE"]
"""
    checked = check(tmp_path, config, OPENAI_API_KEY="sk-none")
    assert checked.code == 1
    assert "needs the environment variable OPENAI_API_KEY" in checked.said
    assert "OPENAI_API_KEY is set here, but `environment`" in checked.said


def test_a_program_that_is_not_installed_is_named(tmp_path):
    checked = check(tmp_path, acp("no-such-agent", "acp"))
    assert checked.code == 1
    assert "not installed on this server" in checked.said
    assert "'no-such-agent'" in checked.said


def test_what_a_program_says_last_is_shown(tmp_path):
    checked = check(tmp_path, acp("/bin/sh", "-c", "echo please log in first >&2; exit 3"))
    assert checked.code == 1
    assert "exited: 3" in checked.said
    assert "please log in first" in checked.said


def test_what_a_program_answers_as_it_refuses_is_shown(tmp_path):
    checked = check(tmp_path, acp(*command_of("Refusing")))
    assert checked.code == 1
    assert "no seats" in checked.said


def test_a_program_that_never_gets_ready_is_given_up(tmp_path):
    checked = check(tmp_path, acp(*command_of("Silent"), start_timeout_s=1))
    assert checked.code == 1
    assert "not ready after 1 s" in checked.said


@pytest.mark.parametrize(
    "config",
    [python("stalling"), python("stalling", isolation="process"), acp(*command_of("Deaf"))],
)
def test_an_agent_that_never_answers_is_given_up(tmp_path, config):
    checked = check(tmp_path, config, "--timeout-s", "1")
    assert checked.code == 1
    assert "no answer within 1 s" in checked.said


@pytest.mark.parametrize("isolation", ["task", "process"])
def test_what_an_agent_raises_is_told_with_its_text(tmp_path, isolation):
    checked = check(tmp_path, python("failing", isolation=isolation))
    assert checked.code == 1
    assert "RuntimeError: the moon is in the wrong house" in checked.said


def test_a_process_that_exits_is_told_with_its_code_and_its_last_words(tmp_path):
    checked = check(tmp_path, python("exiting", isolation="process"))
    assert checked.code == 1
    assert "exited: 3" in checked.said
    assert "out of paper" in checked.said


def test_a_target_that_cannot_be_imported_is_named_and_the_others_are_tried(tmp_path):
    lost = '[blueprints.lost]\nkind = "python"\ntarget = "some_agents:nobody"\n'
    checked = check(tmp_path, lost + python("nodding"))
    assert checked.code == 1
    assert "lost (python): 'some_agents:nobody' cannot be imported" in checked.said
    assert "mine (python): ok" in checked.said


def test_a_wrong_option_is_named_with_its_line(tmp_path):
    checked = check(tmp_path, python("nodding", mood="good"))
    assert checked.code == 1
    assert "mood" in checked.said
    assert "line 5" in checked.said


def test_a_blueprint_that_is_not_there_is_said_to_be_missing(tmp_path):
    checked = check(tmp_path, python("nodding"), "yours")
    assert checked.code == 1
    assert checked.said == "there is no blueprint 'yours'; there are: mine\n"


def test_a_model_that_the_blueprint_does_not_allow_is_refused(tmp_path):
    config = '[blueprints.assistant]\nkind = "pydantic-ai"\nmodels = ["test"]\n'
    checked = check(tmp_path, config, "--model", "openai:gpt-5")
    assert checked.code == 1
    assert "does not allow it" in checked.said
