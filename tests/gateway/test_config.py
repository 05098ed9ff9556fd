"""The configuration: file, environment over it, command line over both, and every mistake found."""

import pytest

from frontdesk.gateway.config import lines_of, load_config
from frontdesk.gateway.errors import ConfigurationWrong
from gateway.requirements import covers


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
