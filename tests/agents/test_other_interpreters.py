"""Agents in an interpreter of the operator's: its packages and none of ours, or a clear refusal."""

import ast
import asyncio
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import frontdesk
from frontdesk.agents.builtin import python_process_blueprint
from frontdesk.agents.process.factory import ProcessOptions, fork_server, located
from frontdesk.agents.process.messages import ProgramSource
from frontdesk.keeper.errors import ForkServerFailed
from frontdesk.keeper.interpreters import OLDEST_MSGSPEC, OLDEST_PYTHON, command_of
from frontdesk.keeper.messages import ProcessLimits
from frontdesk.keeper.modules_behind import find_behind
from interpreters import find
from support.installed import from_pip, missing
from support.isolated_sessions import open_isolated
from support.keeper import with_keeper
from support.other_interpreters import OLD, program, virtual
from support.sessions import Stream, open_session, text

pytestmark = pytest.mark.anyio

ROOT = Path(frontdesk.__file__).parents[2]

AGENTS = """
import os, resource, sys
from frontdesk.agents import Turn, blueprint

class Words:
    pass

@blueprint("telling", models=("telling-*",))
async def telling(turn: Turn):
    try:
        yield repr(eval(turn.text))
    except Exception as error:
        yield repr(error)

def version_of(name):
    return __import__(name).__version__

def found(*names):
    from importlib.util import find_spec
    return [name for name in names if find_spec(name)]
"""

FOREIGN = "raise AssertionError('this frontdesk is another one')"


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A directory that modules are found in behind all others, as one beside a configuration."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    (tmp_path / "told.py").write_text(AGENTS)
    find_behind([tmp_path])
    return tmp_path


def telling(python, **options):
    """Return what makes a blueprint that evaluates its prompts in an interpreter."""
    return lambda keeper: python_process_blueprint(
        "telling", "told:telling", keeper=keeper, python=python, **options
    )


async def answers(python, *prompts, **options):
    """Return what an agent in an interpreter says to each prompt."""
    async with open_isolated(blueprints=[telling(python, **options)]) as service:
        conversation = await open_session(service, blueprint="telling", model="telling-one")
        said, stream = [], Stream(conversation)
        for prompt in prompts:
            conversation.prompt(prompt)
            said.append(ast.literal_eval(text(await stream.until("agent_end"))))
        stream.close()
        return said


def refusal(python, target="told:telling"):
    """Return why no agent can be served by an interpreter."""
    spec = fork_server(ProgramSource(target=target), rules=ProcessOptions(), python=python)

    async def scenario(keeper):
        with pytest.raises(ForkServerFailed) as refused:
            await keeper.warm(spec, timeout_s=2)
        return refused.value

    return with_keeper(scenario)


# -- what is there -----------------------------------------------------------------------------


async def test_an_agent_answers_in_the_interpreter_that_its_blueprint_names(tmp_path, beside):
    python = virtual(tmp_path / "venv")
    assert await answers(python, "sys.prefix", "turn.model") == [
        str(tmp_path / "venv"),
        "telling-one",
    ]


async def test_it_has_its_own_packages_and_none_of_ours_but_this(tmp_path, beside):
    ours = sorted({"pydantic", "fastapi", "pytest", "anyio", "typing_extensions", "psutil"})
    python = virtual(tmp_path / "venv", pydantic="__version__ = 'its own'")
    version, found, path = await answers(
        python, "version_of('pydantic')", f"found(*{ours})", "sys.path"
    )
    assert (version, found) == ("its own", ["pydantic"])
    assert not [place for place in path if ".venv" in place or place in ("", str(ROOT / "src"))]


async def test_another_frontdesk_that_is_installed_there_is_not_taken(tmp_path, beside):
    python = virtual(tmp_path / "venv", frontdesk=FOREIGN)
    (file,) = await answers(python, "sys.modules['frontdesk'].__file__")
    assert file == frontdesk.__file__


async def test_neither_its_start_nor_its_agents_take_modules_from_the_working_directory(
    tmp_path, beside, monkeypatch
):
    for name in ("sitecustomize", "usercustomize", "json", "runpy", "msgspec", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken')")
    python = virtual(tmp_path / "venv")
    monkeypatch.chdir(tmp_path)
    assert await answers(python, "version_of('msgspec') > '0.2'") == [True]


async def test_variables_that_change_an_interpreter_are_those_that_its_blueprint_names(
    tmp_path, beside, monkeypatch
):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "extra.py").write_text("__version__ = 'extra'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    python = virtual(tmp_path / "venv")
    assert await answers(python, "found('extra')") == [[]]
    named = ProcessOptions(env=("PYTHONPATH",))
    assert await answers(python, "version_of('extra')", rules=named) == ["extra"]


async def test_its_processes_are_confined_as_any_other(tmp_path, beside):
    rules = ProcessOptions(limits=ProcessLimits(open_files=77))
    limit, core, environment = await answers(
        virtual(tmp_path / "venv"),
        "resource.getrlimit(resource.RLIMIT_NOFILE)",
        "resource.getrlimit(resource.RLIMIT_CORE)",
        "sorted(os.environ)",
        rules=rules,
    )
    assert (limit, core) == ((77, 77), (0, 0))
    assert not [name for name in environment if name.startswith(("PYTHON", "FRONTDESK", "PYTEST"))]


async def test_the_rules_that_its_author_wrote_come_from_there(tmp_path, beside):
    async with open_isolated(blueprints=[telling(virtual(tmp_path / "venv"))]) as service:
        completed = await service.blueprints.completed("telling")
    assert completed["telling"].models == ("telling-*",)


def test_a_worker_imports_the_standard_library_msgspec_and_this_package_and_no_more(tmp_path):
    """So that nothing else has to be installed in another interpreter."""
    listing = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import frontdesk.keeper.forkserver, frontdesk.agents.process.worker\n"
        "print({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    python = virtual(tmp_path / "venv")
    ran = subprocess.run(
        [python, "-c", listing, str(ROOT / "src")], capture_output=True, text=True, check=True
    )
    # What a distributor adds to CPython 3.15's standard library, for the texts of its errors.
    own = {"__main__", "sitecustomize", "_missing_stdlib_info"}
    assert ast.literal_eval(ran.stdout) - own == {"frontdesk", "msgspec"}


# -- what is refused ---------------------------------------------------------------------------


def test_a_python_that_is_too_old_is_refused_with_its_version(tmp_path):
    error = refusal(program(tmp_path / "python3.10", OLD))
    assert error.problem == "Python 3.10.13 cannot serve agents: it takes 3.11 or newer"
    assert str(error).startswith(
        f"cannot prepare frontdesk.agents.process.worker, told in {tmp_path}"
    )


@pytest.mark.parametrize("version", [(3, 4), (3, 8), (3, 10)])
def test_what_a_python_that_is_too_old_is_started_with_is_a_program_to_it(version):
    _, _, text, _ = command_of("python", channel=3)
    ast.parse(text, feature_version=version)


def test_an_interpreter_without_msgspec_is_refused_with_what_to_install(tmp_path):
    python = virtual(tmp_path / "venv", with_msgspec=False)
    assert refusal(python).problem == (
        "msgspec cannot be imported (No module named 'msgspec'); "
        f"install it there: {python} -m pip install 'msgspec>=0.20'"
    )


def test_an_interpreter_whose_msgspec_is_too_old_is_refused_with_what_to_install(tmp_path):
    python = virtual(tmp_path / "venv", with_msgspec=False, msgspec="__version__ = '0.19.0'")
    assert refusal(python).problem == (
        "its msgspec is 0.19.0, which is too old; "
        f"install it there: {python} -m pip install 'msgspec>=0.20'"
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "it ended before it was ready; it may be no Python"),
        ("raise SystemExit(3)", "it ended before it was ready; it may be no Python"),
        ("import sys; sys.stdin.read(); import time; time.sleep(1000)", "not done after 2 s"),
    ],
    ids=["ends", "fails", "hangs"],
)
def test_a_program_that_is_no_python_is_refused_within_a_bound(tmp_path, source, problem):
    assert refusal(program(tmp_path / "python", source)).problem == problem


def test_a_program_that_is_gone_before_it_is_spoken_to_does_no_harm_to_others(tmp_path):
    """Ten at once: which of them is quick enough is chance."""
    specs = [
        fork_server(ProgramSource(target=f"told:t{n}"), rules=ProcessOptions(), python="/bin/true")
        for n in range(10)
    ]

    async def scenario(keeper):
        pid = keeper.pid
        warmed = (keeper.warm(each, timeout_s=10) for each in specs)
        problems = await asyncio.gather(*warmed, return_exceptions=True)
        assert keeper.pid == pid
        return {getattr(each, "problem", each) for each in problems}

    assert with_keeper(scenario) == {"it ended before it was ready; it may be no Python"}


def test_an_interpreter_that_is_not_there_is_refused(tmp_path):
    assert "No such file" in refusal(str(tmp_path / "python")).problem


def test_a_target_that_is_not_there_is_refused_as_anywhere(tmp_path):
    python = virtual(tmp_path / "venv")
    problem = refusal(python, "pytest:main").problem
    assert problem.startswith("ModuleNotFoundError: No module named 'pytest'")


def test_the_oldest_versions_that_serve_are_those_that_this_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, OLDEST_PYTHON))
    asked = [each for extra in project["optional-dependencies"].values() for each in extra]
    assert {each for each in asked if each.startswith("msgspec")} == {
        "msgspec>=" + ".".join(map(str, OLDEST_MSGSPEC))
    }


def test_a_bare_name_is_looked_for_in_the_path_and_a_link_is_not_followed(tmp_path, monkeypatch):
    os.symlink(sys.executable, tmp_path / "my-python")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("my-python", "./my-python", "../" + tmp_path.name + "/my-python"):
        assert located(name) == str(tmp_path / "my-python")


# -- real ones ---------------------------------------------------------------------------------

CONFLICTING = ("msgspec==0.20.0", "pydantic==2.11.10")
"""The oldest msgspec that serves, and a pydantic that does not agree with ours."""


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("version", [(3, 11), (3, 13)])
async def test_packages_that_do_not_agree_with_ours_serve_in_another_python(version, beside):
    name = "{}.{}".format(*version)
    python = find(name) or missing(f"CPython {name}")
    installed = from_pip("conflicting", *CONFLICTING, python=python, version=version)
    serving, found = await answers(
        str(installed), "sys.version_info[:2]", "version_of('pydantic'), version_of('msgspec')"
    )
    assert (serving, found) == (version, ("2.11.10", "0.20.0"))
