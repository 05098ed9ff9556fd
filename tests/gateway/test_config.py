"""The configuration: file, environment over it, command line over both, and every mistake found."""

from dataclasses import replace

import pytest

from frontdesk.gateway.blueprint_config import blueprint_of
from frontdesk.gateway.blueprint_kinds import BlueprintServices
from frontdesk.gateway.blueprint_settings import PythonSettings
from frontdesk.gateway.config import lines_of, load_config
from frontdesk.gateway.errors import ConfigurationWrong
from gateway.requirements import covers
from support.programs.ruled_agents import ruled


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@covers("wire.default-address")
def test_the_defaults_listen_on_loopback_port_4000():
    config = load_config()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 4000)
    assert config.limits.requests_per_minute == 600


def test_the_file_of_the_working_directory_is_read(tmp_path):
    (tmp_path / "frontdesk.toml").write_text("[server]\nport = 4001\n")
    assert load_config().server.port == 4001


def test_the_environment_is_over_the_file_and_the_command_line_over_both(tmp_path, monkeypatch):
    path = written(tmp_path, "[server]\nport = 1\nhost = 'a'\ngrace_s = 1\n")
    monkeypatch.setenv("FRONTDESK_SERVER__PORT", "2")
    monkeypatch.setenv("FRONTDESK_SERVER__HOST", "b")
    config = load_config(path=path, overrides={"server": {"port": 3}})
    assert (config.server.port, config.server.host, config.server.grace_s) == (3, "b", 1)


@covers("shutdown.mistakes-by-line")
def test_every_mistake_is_listed_with_its_line(tmp_path):
    path = written(
        tmp_path,
        '[server]\nport = "x"\nhots = 1\n\n[limits]\nrequests_per_minute = 0 # none\n'
        '[tenants.UPPER]\n[guardrails]\ndenied_patterns = ["("]\n[surprise]\na = 1\n',
    )
    with pytest.raises(ConfigurationWrong) as caught:
        load_config(path=path)
    starts = [mistake.split(":")[0:2] for mistake in caught.value.mistakes]
    assert starts == [
        ["line 2", " server.port"],
        ["line 3", " server.hots"],
        ["line 6", " limits.requests_per_minute"],
        ["line 7", " tenants.UPPER"],
        ["line 9", " guardrails.denied_patterns.0"],
        ["line 10", " surprise"],
    ]


def test_a_mistake_of_the_environment_or_the_command_line_is_named_as_theirs(tmp_path, monkeypatch):
    path = written(tmp_path, "[limits]\nstreams_per_key = 5\n")
    monkeypatch.setenv("FRONTDESK_LIMITS__STREAMS_PER_KEY", "-1")
    with pytest.raises(ConfigurationWrong) as caught:
        load_config(path=path, overrides={"server": {"port": 70_000}})
    text = str(caught.value)
    assert "FRONTDESK_LIMITS__STREAMS_PER_KEY: limits.streams_per_key" in text
    assert "the command line: server.port" in text


def test_a_file_that_is_no_toml_is_said_to_be_wrong_with_its_line(tmp_path):
    with pytest.raises(ConfigurationWrong, match="line 2"):
        load_config(path=written(tmp_path, "[server]\nport = = 3\n"))


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigurationWrong, match="cannot be read"):
        load_config(path=tmp_path / "none.toml")


def test_certificate_and_key_belong_together(tmp_path):
    with pytest.raises(ConfigurationWrong, match="belong together"):
        load_config(path=written(tmp_path, "[server]\ntls_key = 'k.pem'\n"))


def test_lines_are_found_past_multi_line_strings_and_quoted_names():
    text = 'a = """\n[not.a.table]\nb = 1\n"""\n["x y".z]\n"c.d" = 2\n'
    assert dict(lines_of(text)) == {("a",): 1, ("x y", "z"): 5, ("x y", "z", "c.d"): 6}


ON_A_TASK = {
    "memory_mb": "64",
    "cpu_s": "1",
    "open_files": "64",
    "account": "'nobody'",
    "environment": "['HOME']",
}


@pytest.mark.parametrize("names", [[name] for name in ON_A_TASK] + [["cpu_s", "account"]])
@pytest.mark.parametrize("isolation", ["", 'isolation = "task"\n'])
def test_a_limit_that_a_task_cannot_have_stops_the_start(tmp_path, names, isolation):
    lines = "".join(f"{name} = {ON_A_TASK[name]}\n" for name in names)
    table = f'[blueprints.mine]\nkind = "python"\ntarget = "m:agent"\n{isolation}{lines}'
    with pytest.raises(ConfigurationWrong) as caught:
        load_config(path=written(tmp_path, table))
    (mistake,) = caught.value.mistakes
    assert ", ".join(sorted(names)) in mistake
    assert 'isolation = "process"' in mistake


def test_the_same_limits_are_taken_for_a_process(tmp_path):
    lines = "".join(f"{name} = {value}\n" for name, value in ON_A_TASK.items())
    table = f'[blueprints.mine]\nkind = "python"\ntarget = "m:a"\nisolation = "process"\n{lines}'
    assert load_config(path=written(tmp_path, table)).blueprints["mine"].memory_mb == 64


def test_a_limit_of_a_task_from_the_environment_stops_the_start_too(tmp_path, monkeypatch):
    path = written(tmp_path, '[blueprints.mine]\nkind = "python"\ntarget = "m:agent"\n')
    monkeypatch.setenv("FRONTDESK_BLUEPRINTS__MINE__MEMORY_MB", "64")
    with pytest.raises(ConfigurationWrong):
        load_config(path=path)


def test_rules_that_a_blueprint_was_written_with_hold_but_for_those_of_its_table(tmp_path):
    written(tmp_path, "")
    target = "support.programs.ruled_agents:ruled"
    plain = blueprint_of(
        "mine",
        PythonSettings(kind="python", target=target),
        BlueprintServices(keeper=None, guard=None),
    )
    assert plain == replace(ruled, name="mine")
    some = PythonSettings(
        kind="python", target=target, models=("table-*",), restart_limit=9, max_age_s=7.0
    )
    mixed = blueprint_of("mine", some, BlueprintServices(keeper=None, guard=None))
    assert (mixed.models, mixed.max_age_s) == (("table-*",), 7.0)
    assert mixed.restart_limit.max_restarts == 9
    assert mixed.tools == ruled.tools
    assert mixed.options == ruled.options
    assert mixed.turn_timeout_s == ruled.turn_timeout_s
    assert mixed.idle_timeout_s is None
    assert mixed.max_sessions_per_tenant == ruled.max_sessions_per_tenant
