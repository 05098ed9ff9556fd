"""What is wrong with a table of kind pydantic-ai is said in the words of whoever wrote it."""

import sys

import pytest

from frontdesk.errors import InvalidArgument, InvalidType
from frontdesk.gateway.config import load_config
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.surroundings import mistakes_around

MORE = "adapters.programs.pydantic_ai_more"


def mistakes(tmp_path, *lines):
    """Return what stops the start with a table of these settings, with its line."""
    file = tmp_path / "frontdesk.toml"
    file.write_text("\n".join(["[blueprints.support]", 'kind = "pydantic-ai"', *lines]))
    try:
        load_config(path=file, around=mistakes_around)
    except ConfigurationWrong as error:
        return list(error.mistakes)
    return []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([f'target = "{MORE}:nothing"'],
         f"line 1: blueprints.support: {MORE}:nothing must be a pydantic_ai.Agent, or a plain "
         "function that returns one, got int"),
        ([f'target = "{MORE}:awaited_shop"'],
         f"line 1: blueprints.support: {MORE}:awaited_shop must be a pydantic_ai.Agent, or a plain "
         "function that returns one, got function"),
        ([f'target = "{MORE}:promptd"'],
         f"line 3: blueprints.support.target: '{MORE}:promptd' cannot be imported: AttributeError: "
         f"module '{MORE}' has no attribute 'promptd'; is 'prompted' meant?"),
        ([f'target = "{MORE}:keeper_of_a_shop"'],
         'line 1: blueprints.support: deps must be "module:name" of a function of the turn that '
         f"returns Shop, as {MORE}:keeper_of_a_shop wants, got none"),
        ([f'target = "{MORE}:keeper_of_a_shop"', f'deps = "{MORE}:nothing"'],
         f"line 1: blueprints.support: {MORE}:nothing must be a function of the turn, got int"),
        (['deps = "a:b"'],
         "line 1: blueprints.support: deps: only with a target, the agent that it is for"),
        (['isolation = "process"'],
         'line 1: blueprints.support: isolation: "process" is for a target; the agent that comes '
         'built in has a process of its own as kind = "process"'),
        ([f'target = "{MORE}:prompted"', 'instructions = "Be kind."'],
         "line 1: blueprints.support: instructions: not with a target: that agent has its own"),
    ],
)  # fmt: skip
def test_a_wrong_table_stops_the_start_with_its_line_and_what_is_wanted(lines, told, tmp_path):
    assert mistakes(tmp_path, *lines) == [told]


def test_a_right_table_is_no_mistake(tmp_path):
    assert mistakes(tmp_path, f'target = "{MORE}:prompted"', "system_prompt = true") == []


def test_a_module_that_breaks_off_is_told_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "breaks_off.py").write_text("agent = None\nimport not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    (told,) = mistakes(tmp_path, 'target = "breaks_off:agent"')
    assert told == (
        "line 3: blueprints.support.target: 'breaks_off:agent' cannot be imported: "
        "ModuleNotFoundError: No module named 'not_there_at_all' "
        f"({tmp_path}/breaks_off.py, line 2)"
    )
    sys.modules.pop("breaks_off", None)


def test_what_is_wrong_with_it_is_an_error_of_its_own_type():
    from frontdesk.agents.pydantic_ai.own_agent import OwnAgentProgram

    with pytest.raises(InvalidType):
        OwnAgentProgram(target=f"{MORE}:nothing")
    with pytest.raises(InvalidArgument):
        OwnAgentProgram(target=f"{MORE}:keeper_of_a_shop")
