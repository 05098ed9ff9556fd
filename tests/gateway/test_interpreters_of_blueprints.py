"""`python` in a blueprint's table: where it is looked for, what is said when it cannot serve."""

import os
import sys
from pathlib import Path

import pytest

from frontdesk.gateway import interpreter_checks
from frontdesk.gateway.config import load_config
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.surroundings import mistakes_around
from frontdesk.keeper.modules_behind import find_behind
from gateway.command import serving
from gateway.running import create, turn_of
from support.other_interpreters import OLD, program, virtual

ALONE = """
from frontdesk.agents import blueprint

@blueprint("mine")
async def mine(turn):
    import only_there
    yield only_there.WORD
"""


@pytest.fixture(autouse=True)
def beside(tmp_path, monkeypatch):
    """Modules beside the configuration are found, as by the commands."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.chdir(tmp_path)
    find_behind([tmp_path])
    return tmp_path


def table(python, *, name="mine", target="my_agents:mine", isolation="process", more=""):
    return (
        f'[blueprints.{name}]\nkind = "python"\ntarget = "{target}"\n'
        f'isolation = "{isolation}"\npython = "{python}"\n{more}'
    )


def loaded(text):
    path = Path("etc/mine.toml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return load_config(path=path, around=mistakes_around)


def mistakes_of(text):
    with pytest.raises(ConfigurationWrong) as caught:
        loaded(text)
    return list(caught.value.mistakes)


def test_an_interpreter_is_for_processes_and_refused_by_name_for_a_task():
    (mistake,) = mistakes_of(table(sys.executable, isolation="task", target="os:getcwd"))
    assert 'python: only with isolation = "process"' in mistake


def test_a_relative_path_is_beside_the_file_that_has_it(tmp_path):
    (tmp_path / "my_agents.py").write_text(ALONE)
    python = virtual(tmp_path / "etc" / "venv")
    config = loaded(table("venv/bin/python"))
    assert config.blueprints["mine"].python == python
    config = loaded(table("../etc/./venv/bin/python"))
    assert config.blueprints["mine"].python == python


def test_a_bare_name_is_looked_for_as_a_shell_does(tmp_path, monkeypatch):
    (tmp_path / "my_agents.py").write_text(ALONE)
    virtual(tmp_path / "venv")
    monkeypatch.setenv("PATH", str(tmp_path / "venv" / "bin"))
    assert loaded(table("python")).blueprints["mine"].python == "python"


def test_what_cannot_serve_stops_the_start_with_its_reason_and_its_line(tmp_path):
    (tmp_path / "my_agents.py").write_text(ALONE)
    old = program(tmp_path / "old", OLD)
    bare = virtual(tmp_path / "bare", with_msgspec=False)
    found = mistakes_of(
        table("none/bin/python", name="gone")
        + table("/bin/true", name="other")
        + table(old, name="old")
        + table(bare, name="bare")
        + table(old, name="nobody", more='account = "no-such-account"\n')
    )
    assert found == [
        "line 5: blueprints.gone.python: there is no program "
        f"'{tmp_path}/etc/none/bin/python' that could be run",
        "line 10: blueprints.other.python: /bin/true: it ended before it was ready; "
        "it may be no Python",
        f"line 15: blueprints.old.python: {old}: Python 3.10.13 cannot serve agents: "
        "it takes 3.11 or newer",
        f"line 20: blueprints.bare.python: {bare}: msgspec cannot be imported (No module named "
        f"'msgspec'); install it there: {bare} -m pip install 'msgspec>=0.20'",
        "line 26: blueprints.nobody.account: this system has no account 'no-such-account'",
    ]


def test_more_than_a_keeper_has_room_for_are_all_tried():
    text = "".join(table("/bin/true", name=f"b{n}", target=f"m{n}:x") for n in range(20))
    assert len(mistakes_of(text)) == 20


def test_one_that_hangs_is_given_up_within_a_bound_and_nothing_of_it_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(interpreter_checks, "CHECK_S", 1.0)
    source = f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    hanging = program(tmp_path / "hanging", source + "import time\ntime.sleep(1000)\n")
    (mistake,) = mistakes_of(table(hanging))
    assert mistake.endswith(f"{hanging}: not done after 1 s")
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}")


def test_a_target_is_looked_for_there_and_not_run(tmp_path):
    python = virtual(tmp_path / "venv", only_there="raise SystemExit('run')")
    loaded(table(python, target="only_there:agent"))
    (mistake,) = mistakes_of(table(python, target="pytest:main"))
    assert mistake.endswith(f"{python}: ModuleNotFoundError: no module named 'pytest'")


@pytest.mark.anyio
async def test_a_reload_within_the_running_loop_tries_it_too(tmp_path):
    (mistake,) = mistakes_of(table("/bin/true"))
    assert mistake.startswith("line 5: blueprints.mine.python: /bin/true: ")


@pytest.mark.slow
def test_a_gateway_serves_a_blueprint_in_the_interpreter_beside_its_configuration(tmp_path):
    (tmp_path / "my_agents.py").write_text(ALONE)
    virtual(tmp_path / "venv", only_there="WORD = 'from there'")
    with serving(tmp_path, config=table("venv/bin/python")) as served, served.client() as client:
        create(client, "s-1", blueprint="mine")
        events = turn_of(client, "s-1", "hello")
        assert "from there" in [data.get("delta") for _, _, data in events], served.log
