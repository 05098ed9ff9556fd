"""Modules beside the configuration are the operator's own, and never another module in disguise."""

import importlib.metadata
import os
import subprocess
import sys
from importlib.machinery import PathFinder

import pytest

from frontdesk.agents.targets import import_target
from frontdesk.keeper.modules_behind import directories_behind, find_behind
from gateway.command import TESTS, serving
from gateway.running import create, turn_of

# Several real gateways, each with three hundred traps.
pytestmark = pytest.mark.slow

TRAP = """
with open(__file__.rpartition("/")[0] + "/trapped", "a") as file:
    file.write(__name__ + "\\n")
"""
AGENTS = """
from my_words import WORD
from frontdesk.agents import blueprint

@blueprint("mine")
async def mine(turn):
    import anthropic, csv, sqlite3, wave, yaml
    yield WORD
"""
CONFIG = """
[blueprints.here]
kind = "python"
target = "my_agents:mine"
[blueprints.apart]
kind = "python"
target = "my_agents:mine"
isolation = "process"
[blueprints.model]
kind = "pydantic-ai"
models = ["test", "anthropic:*"]
[guardrails]
filter = "my_filter:look"
"""
KEY = {"ANTHROPIC_API_KEY": "sk-none"}


def names():
    """Return the name of every module that is installed here or Python's own, on this system."""
    installed = importlib.metadata.packages_distributions()
    found = {name for name in (*installed, *sys.stdlib_module_names) if name.isidentifier()}
    return {
        name for name in found if name in sys.builtin_module_names or PathFinder.find_spec(name)
    }


@pytest.fixture
def place(tmp_path):
    """A configuration with modules beside it: the operator's, and one for every name there is."""
    for name in names():
        (tmp_path / f"{name}.py").write_text(TRAP)
    for name in ("sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    (tmp_path / "my_agents.py").write_text(AGENTS)
    (tmp_path / "my_words.py").write_text("WORD = 'mine'")
    (tmp_path / "my_filter.py").write_text("def look(tenant, text, direction):\n    return None\n")
    (tmp_path / "frontdesk.toml").write_text(CONFIG)
    return tmp_path


def trapped(place):
    """Return the modules that were imported in another's place."""
    try:
        return sorted(set((place / "trapped").read_text().split()))
    except FileNotFoundError:
        return []


def test_a_gateway_and_its_processes_import_nothing_that_only_lies_beside_the_configuration(place):
    assert len(names()) > 300
    # As the installed command does: no directory of its start is in the search path.
    with (
        serving(place, config=CONFIG, **KEY, PYTHONSAFEPATH="1") as served,
        served.client() as client,
    ):
        for blueprint in ("here", "apart"):
            create(client, blueprint, blueprint=blueprint)
            events = turn_of(client, blueprint, "hello")
            assert "mine" in [data.get("delta") for _, _, data in events], events
        create(client, "model", blueprint="model", model="anthropic:claude-sonnet-4-5")
        assert trapped(place) == []


FRONTDESK = (os.path.join(os.path.dirname(sys.executable), "frontdesk"),)


def command(place, *arguments, program=FRONTDESK):
    """Run a command of `frontdesk` beside the configuration."""
    environment = {**os.environ, **KEY, "PYTHONPATH": str(TESTS)}
    return subprocess.run(
        [*program, *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_check_imports_nothing_that_only_lies_beside_the_configuration(place):
    done = command(place, "agents", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("'mine'") == 2
    assert trapped(place) == []


def test_a_check_started_as_a_module_takes_what_is_installed_for_its_work(place):
    """Python itself looks where it was started until the command's first line."""
    for name in sys.stdlib_module_names:
        (place / f"{name}.py").unlink(missing_ok=True)
    module = (sys.executable, "-m", "frontdesk.cli")
    model = "anthropic:claude-sonnet-4-5"
    done = command(place, "agents", "check", "model", "--model", model, program=module)
    assert "model (pydantic-ai)" in done.stdout
    assert trapped(place) == []


@pytest.mark.parametrize("name", ["anthropic", "json", "sys", "frontdesk"])
def test_a_target_that_another_module_hides_is_refused_with_the_reason(place, name):
    (place / "frontdesk.toml").write_text(
        f'[blueprints.mine]\nkind = "python"\ntarget = "{name}:mine"\n'
    )
    (place / f"{name}.py").write_text(TRAP)
    done = command(place, "agents", "check")
    assert done.returncode == 1
    assert f"{place}/{name}.py is behind " in done.stdout
    assert "rename it" in done.stdout


def test_a_module_of_a_package_that_another_hides_is_refused_with_the_reason(place, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    (place / "email").mkdir()
    (place / "email" / "__init__.py").write_text("")
    (place / "email" / "mine.py").write_text("agent = 1")
    find_behind([place])
    with pytest.raises(ImportError, match=r"email/__init__\.py is behind .*: rename it"):
        import_target("email.mine:agent")


def test_what_a_target_lacks_is_said_without_a_reason_where_nothing_is_hidden(place, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    find_behind([place])
    with pytest.raises(AttributeError, match=r"^module 'my_words' has no attribute 'X'$"):
        import_target("my_words:X")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'not_there'$"):
        import_target("not_there:X")


def test_a_directory_is_looked_through_once_and_after_all_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    find_behind([tmp_path, tmp_path / "sub" / ".."])
    find_behind([tmp_path])
    assert directories_behind() == (str(tmp_path),)
    assert sys.meta_path[-1].directory == str(tmp_path)


def test_a_package_of_parts_is_not_hidden_by_a_file_and_found_behind_itself(tmp_path, monkeypatch):
    """Python takes a file of any entry of its path before directories that are a part."""
    first, beside = tmp_path / "first", tmp_path / "beside"
    (first / "in_parts").mkdir(parents=True)
    (first / "in_parts" / "a.py").write_text("value = 'installed'")
    (beside / "parts_beside").mkdir(parents=True)
    (beside / "in_parts.py").write_text("raise AssertionError")
    (beside / "parts_beside" / "b.py").write_text("value = 'beside'")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [*sys.path, str(first)])
    find_behind([beside])
    assert import_target("in_parts.a:value") == "installed"
    assert import_target("parts_beside.b:value") == "beside"
    with pytest.raises(ImportError, match="rename it"):
        import_target("in_parts:other")
