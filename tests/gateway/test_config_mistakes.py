"""Wrong configurations: all mistakes in one go, each at its place, in plain words."""

import sys

import pytest

from frontdesk.gateway.config import load_config
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.guardrails import Rules
from frontdesk.gateway.settings import GuardrailSettings
from frontdesk.gateway.surroundings import mistakes_around
from gateway.command import frontdesk, serving
from support.waiting import eventually


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRONTDESK_KEYS", raising=False)
    monkeypatch.delenv("FRONTDESK_NO_PIDFD", raising=False)


def mistakes_of(tmp_path, text, *, overrides=None):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationWrong) as caught:
        load_config(path=path, overrides=overrides, around=mistakes_around)
    return list(caught.value.mistakes)


ACP = "[blueprints.x]\nkind = 'acp'\ncommand = ['sh']\n"

ALL_KINDS = """\
[server]
port = "x"
tls_certificate = "none.pem"
tls_key = "none.pem"
[guardrails]
filter = "no.such:filter"
[tenants.acme.guardrails]
filter = "os:no_such_name"
[blueprints.python]
kind = "python"
target = "no_such_module:agent"
[blueprints.alone]
kind = "python"
target = "no_such_package.inside:agent"
isolation = "process"
account = "no-such-account"
[blueprints.program]
kind = "acp"
command = ["no-such-program", "--acp"]
[blueprints.tools]
kind = "pydantic-ai"
tools = [
  "os:getcwd",
  "no_such_tools:x",
]
[blueprints.odd]
kind = "pydanticai"
"""


def test_mistakes_of_every_kind_are_told_in_one_go_each_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTDESK_KEYS", "acme/ci:short")
    monkeypatch.setenv("FRONTDESK_SERVR__PORT", "4001")
    found = mistakes_of(tmp_path, ALL_KINDS)
    assert [mistake.split(": ")[:2] for mistake in found] == [
        ["FRONTDESK_KEYS", "key 1"],
        ["FRONTDESK_SERVR__PORT", "there is no such setting; is FRONTDESK_SERVER__PORT meant?"],
        ["line 2", "server.port"],
        ["line 3", "server.tls_certificate"],
        ["line 6", "guardrails.filter"],
        ["line 8", "tenants.acme.guardrails.filter"],
        ["line 11", "blueprints.python.target"],
        ["line 14", "blueprints.alone.target"],
        ["line 16", "blueprints.alone.account"],
        ["line 19", "blueprints.program.command"],
        ["line 22", "blueprints.tools.tools.1"],
        ["line 26", "blueprints.odd"],
    ]


def test_a_certificate_that_cannot_be_read_is_told_with_its_line(tmp_path):
    text = '[server]\ntls_certificate = "none.pem"\ntls_key = "none.pem"\n'
    (mistake,) = mistakes_of(tmp_path, text)
    assert mistake.startswith("line 2: server.tls_certificate: cannot be used: No such file")


PLAIN = {
    "[server]\nport = 'x'": "server.port: must be a whole number",
    "[server]\nport = 1.5": "server.port: must be a whole number",
    "[server]\nport = -1": "server.port: must be at least 0",
    "[server]\nport = 70000": "server.port: must be at most 65535",
    "[server]\ngrace_s = 'soon'": "server.grace_s: must be a number",
    "[server]\nhost = 5": "server.host: must be a text, in quotes",
    "[server]\nstate_dir = 5": "server.state_dir: must be a path, in quotes",
    "[server]\nprot = 5": "server.prot: there is no such setting; is port meant?",
    "server = 5": "server: must be a table",
    "[limit]\nx = 1": "limit: there is no such setting; is limits meant?",
    "[limits]\nzzz = 1": "limits.zzz: there is no such setting",
    "[limits]\nrequests_per_minute = 0": "limits.requests_per_minute: must be over 0",
    "[limits]\nhead_timeout_s = inf": "limits.head_timeout_s: must be ",
    "[guardrails]\ndenied_words = 'x'": "guardrails.denied_words: must be a list, in brackets",
    "[log]\nlevel = 'loud'": "log.level: must be 'debug', 'info', 'warning' or 'error'",
    "[tenants.acme]\nlimits = 1": "tenants.acme.limits: there is no such setting",
    "[tenants.acme.guardrails]\nfliter = 'a:b'": "is filter meant?",
    "[blueprints.x]\nkind = 'acp'": "blueprints.x.command: is missing",
    "[blueprints.x]\nkind = 'acp'\ncommand = []": "blueprints.x.command: needs at least 1",
    "[blueprints.x]\nmodels = ['m']": "blueprints.x: kind is missing",
    "[blueprints.x]\nkind = 'pyhton'": "blueprints.x: kind must be one of 'pydantic-ai', 'python'",
    "[blueprints.x]\nkind='acp'\ncommand=['sh']\nterminal=true": "is terminals meant?",
    "[blueprints.x]\nkind='acp'\ncommand=['sh']\nterminals=7": "terminals: must be true or false",
    f"{ACP}options={{model='m'}}": "is no option: a session's model",
    f"{ACP}options={{mode=3}}": "blueprints.x.options.mode: must be a text, or true or false",
    f"{ACP}mcp_servers=[{{name='a'}}]": "needs command, or else url",
    f"{ACP}mcp_servers=[{{name='a',command=['x'],headers={{A='B'}}}}]": "headers: not with command",
    f"{ACP}mcp_servers=[{{name='a',url='file:///x'}}]": "must be an http address",
    f"{ACP}mcp_servers=[{{name='a',command=['x'],environment=['A=s']}}]": "environment variable",
    "[blueprints.x]\nkind = 'python'\ntarget = 'mine'": "blueprints.x.target: must be module:name",
    "[blueprints.x]\nkind='python'\ntarget='os:getcwd'\nmemory_mb=64": "a task has no such limits",
    "[blueprints.x]\nkind='process'\nisolation='task'": "blueprints.x.isolation: must be 'process'",
    "[blueprints.x]\nkind='process'\nrestart='often'": "restart: must be 'never', 'on_crash' or",
    "[blueprints.x]\nkind='process'\nmax_age_s=0": "blueprints.x.max_age_s: must be over 0",
    "[blueprints.'a b']\nkind = 'process'": "a blueprint's name is 1 to 64 of",
    "[tenants.Acme]": "a tenant is 1 to 64 of a-z 0-9 _ -",
    "[server]\ntls_key = 'k.pem'": "tls_certificate and tls_key belong together",
    "[server]\ntrusted_proxies = ['nowhere']": "server.trusted_proxies.0: ",
    "[guardrails]\ndenied_patterns = ['(']": "guardrails.denied_patterns.0: ",
    "default_blueprint = 'none'": "default_blueprint: there is no table of this name",
}


@pytest.mark.parametrize("text", PLAIN)
def test_a_mistake_is_said_in_words_of_the_file_and_not_of_a_validator(tmp_path, text):
    (mistake,) = mistakes_of(tmp_path, text + "\n")
    assert mistake.startswith("line ")
    assert PLAIN[text] in mistake
    for jargon in ("Input", "input", "valid ", "tag", "type=", "pydantic.dev"):
        assert jargon not in mistake.replace("pydantic-ai", "")


@pytest.mark.parametrize(
    "text",
    [
        "[server]\ntls_key = 'k.pem'\n",
        "default_blueprint = 'none'\n",
        "[server]\nprot = 1\n",
        "[blueprints.x]\nkind = 'acp'\n",
    ],
)
@pytest.mark.parametrize("overrides", [{}, {"server": {"port": 0, "state_dir": "s"}}])
def test_a_mistake_of_the_file_is_not_blamed_on_the_command_line(tmp_path, text, overrides):
    (mistake,) = mistakes_of(tmp_path, text, overrides=overrides)
    assert "the command line" not in mistake


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("FRONTDESK_KEYES", "; is FRONTDESK_KEYS meant?"),
        ("FRONTDESK_SERVER_PORT", "; is FRONTDESK_SERVER meant?"),
        ("frontdesk_limit__streams_per_key", "; is FRONTDESK_LIMITS__STREAMS_PER_KEY meant?"),
        ("FRONTDESK_ZZZZZZ", ""),
    ],
)
def test_a_misspelt_variable_is_not_taken_in_silence(tmp_path, monkeypatch, variable, hint):
    monkeypatch.setenv(variable, "x")
    assert mistakes_of(tmp_path, "") == [f"{variable}: there is no such setting{hint}"]


def test_a_wrong_variable_of_a_known_table_is_named_by_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTDESK_SERVER__PROT", "1")
    (mistake,) = mistakes_of(tmp_path, "")
    assert mistake.startswith("FRONTDESK_SERVER__PROT: server.prot: there is no such setting")


def test_no_value_is_shown_that_could_be_a_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("FRONTDESK_KEYS", "acme/ci:hunter2")
    monkeypatch.setenv("FRONTDESK_SERVER__PORT", "hunter2")
    text = "[limits]\nstreams_per_key = 'hunter2'\n[log]\nlevel = 'hunter2'\n"
    assert "hunter2" not in "\n".join(mistakes_of(tmp_path, text))


def test_a_process_blueprint_is_looked_for_and_not_run(tmp_path, monkeypatch):
    (tmp_path / "loud_module.py").write_text("raise SystemExit('run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mine.toml"
    table = '[blueprints.x]\nkind = "python"\ntarget = "loud_module:agent"\nisolation = "process"\n'
    path.write_text(table)
    load_config(path=path, around=mistakes_around)
    assert "loud_module" not in sys.modules


def test_without_denied_words_the_package_for_them_is_not_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    assert Rules.of(GuardrailSettings()).refuse_input("acme", "x", limit=None) is None


def test_config_check_says_all_that_would_stop_the_start_and_starts_nothing(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[log]\nlevel = "loud"\n[blueprints.x]\nkind = "acp"\ncommand = ["no-such"]\n')
    wrong = frontdesk(tmp_path, "config", "check", "--config", str(path))
    assert wrong.returncode == 2
    assert "line 2: log.level" in wrong.stderr
    assert "line 5: blueprints.x.command: there is no program" in wrong.stderr

    path.write_text('[blueprints.x]\nkind = "acp"\ncommand = ["sh"]\n')
    right = frontdesk(tmp_path, "config", "check", "--config", str(path))
    assert (right.returncode, right.stderr) == (0, "nothing is wrong\n")
    assert right.stdout == "x\tacp\tprocess\n"
    assert {each.name for each in tmp_path.iterdir()} == {"mine.toml"}


def test_config_check_finds_the_modules_that_serve_finds(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "beside_it.py").write_text("async def agent(turn):\n    yield 'x'\n")
    path = tmp_path / "elsewhere" / "mine.toml"
    path.write_text('[blueprints.x]\nkind = "python"\ntarget = "beside_it:agent"\n')
    ran = frontdesk(tmp_path, "config", "check", "--config", str(path))
    assert ran.returncode == 0, ran.stderr


REMOTE = """\
[blueprints.far]
kind = "openai"
target = "https://agents.example/v1"
credential = "NO_SUCH_KEY"
[blueprints.pasted]
kind = "openai"
target = "https://user:word@agents.example/v1"
credential = "sk-the-credential-itself"
"""


def test_a_remote_agent_without_its_credential_is_told_with_its_line_and_shows_no_secret(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert mistakes_of(tmp_path, REMOTE.partition("[blueprints.pasted]")[0]) == [
        "line 4: blueprints.far.credential: the environment has no variable NO_SUCH_KEY, or it is"
        " empty"
    ]
    assert mistakes_of(tmp_path, REMOTE) == [
        "line 7: blueprints.pasted.target: must be an http or https address without user, query"
        " and fragment",
        "line 8: blueprints.pasted.credential: must be the name of a variable: A-Z 0-9 _",
    ]


def test_the_start_tells_all_of_it_and_a_reload_too(tmp_path):
    config = '[log]\nlevel = "loud"\n[blueprints.x]\nkind = "acp"\ncommand = ["no-such-program"]\n'
    with serving(tmp_path, config=config, wait=False) as server:
        assert server.wait() == 2
        assert "line 2: log.level" in server.log
        assert "line 5: blueprints.x.command: there is no program" in server.log
        assert "Traceback" not in server.log
    with serving(tmp_path) as server:
        (tmp_path / "frontdesk.toml").write_text(config)
        server.signal(1)
        for told in ("not reloaded", "line 5: blueprints.x.command: there is no program"):
            eventually(lambda told=told: told in server.log)
