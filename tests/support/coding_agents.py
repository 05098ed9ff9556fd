"""The coding agents that are tried: one record each, of what to install, to set and to expect.

They are installed when a test asks for one (`installed.py`), at these versions, and given a model
on loopback (`model_server.py`) in their provider's own dialect. Telemetry, updates, downloads are
switched off.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from frontdesk.agents.acp.mcp_servers import McpServer
from support.installed import from_npm, from_pip, missing, needs_linux_on_x86, newer_python


@dataclass(frozen=True, kw_only=True)
class CodingAgent:
    """A program that speaks ACP.

    `command` installs a version, and returns its command line; `environment` the variables that it
    needs, by the address of the model's server and the agent's home, where it may write files.
    `made_by` is the call of a tool that makes a file of a name, once it is allowed. `model` is what
    it is asked for, `served` what the server is asked for then. The rest is what a trial finds:
    whether models can be chosen, which options there are, what its tokens count, whether it has its
    session back after a restart, how a turn ends in which its tool was rejected.
    """

    name: str
    version: str
    shown: str
    set: str
    command: Callable[[str], tuple[str, ...]]
    environment: Callable[[str, object], dict[str, str]]
    made_by: Callable[[str], tuple[str, dict]]
    settings: dict = field(default_factory=dict)
    model: str
    served: str
    models: bool = True
    thinks: bool = True
    options: tuple[str, ...] = ()
    tokens: str = "turn"
    restart: str = "its session back"
    rejected: str = "agent_end"
    cheap: bool = False


def node_program(package, path, *arguments):
    """Return how a version of a package that runs on Node is installed and run."""

    def command(version):
        node = shutil.which("node") or missing("node")
        return (node, str(from_npm(package, version) / path), *arguments)

    return command


def python_program(package, name, *arguments, versions=((3, 12), (3, 13), (3, 14))):
    """Return how a version of a package from PyPI is installed, and a program of it run."""

    def command(version):
        python, interpreter = newer_python(*versions)
        wanted = {"python": python, "version": interpreter}
        installed = from_pip(f"{package}-{version}", f"{package}=={version}", **wanted)
        return (str(installed.with_name(name)), *arguments)

    return command


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


# -- OpenCode --------------------------------------------------------------------------------------


def opencode_command(version):
    needs_linux_on_x86()
    return (str(from_npm("opencode-linux-x64-baseline", version) / "bin" / "opencode"), "acp")


def opencode_environment(url, _):
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Stub",
        "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
        "models": {"small": {"name": "Small"}, "large": {"name": "Large"}},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "model": "stub/small",
        "small_model": "stub/small",
        "permission": {"bash": "ask", "edit": "ask"},
        "provider": {"stub": provider},
    }
    switches = ("AUTOUPDATE", "LSP_DOWNLOAD", "MODELS_FETCH", "DEFAULT_PLUGINS", "SHARE")
    return {
        "OPENCODE_CONFIG_CONTENT": json.dumps(config),
        **{f"OPENCODE_DISABLE_{each}": "1" for each in switches},
    }


# -- Gemini CLI and its kin ------------------------------------------------------------------------

QUIET = {
    "telemetry": {"enabled": False},
    "privacy": {"usageStatisticsEnabled": False},
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
}


def gemini_environment(url, home):
    write(home / ".gemini" / "settings.json", QUIET)
    return {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": url}


def qwen_environment(url, home):
    write(home / ".qwen" / "settings.json", QUIET)
    return {
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_MODEL": "small",
    }


# -- Claude Code -----------------------------------------------------------------------------------


def anthropic_environment(url, _):
    return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none"}


def claude_environment(url, home):
    return {
        **anthropic_environment(url, home),
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


# -- Codex -----------------------------------------------------------------------------------------

CODEX_CONFIG = """
model = "gpt-5"
model_provider = "stub"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.stub]
name = "stub"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "CODEX_STUB_KEY"
"""


def codex_environment(url, home):
    write(home / ".codex" / "config.toml", CODEX_CONFIG.format(url=url))
    return {"CODEX_STUB_KEY": "none"}


# -- on the Python SDK -----------------------------------------------------------------------------

VIBE_CONFIG = """
active_model = "small"
enable_telemetry = false
enable_update_checks = false
[[providers]]
name = "stub"
api_base = "{url}/v1"
api_key_env_var = ""
backend = "generic"
[[models]]
name = "small-1"
provider = "stub"
alias = "small"
[[models]]
name = "large-1"
provider = "stub"
alias = "large"
"""


def vibe_environment(url, home):
    write(home / ".vibe" / "config.toml", VIBE_CONFIG.format(url=url))
    return {}


def fast_agent_environment(url, _):
    return {"GENERIC_API_KEY": "none", "GENERIC_BASE_URL": f"{url}/v1"}


PROGRAMS = Path(__file__).with_name("programs")
TOUCH = McpServer(name="touch", command=(sys.executable, str(PROGRAMS / "mcp_touch.py")))


def by_command(tool, **more):
    """Return how a tool that runs command lines makes a file."""
    return lambda name: (tool, {"command": f"touch {name}", **more})


CODING_AGENTS = (
    CodingAgent(
        name="opencode",
        version="1.18.33",
        shown="OpenCode (`opencode acp`)",
        set='`permission = {"bash": "ask", "edit": "ask"}` in its own settings',
        command=opencode_command,
        environment=opencode_environment,
        made_by=by_command("bash", description="make a file"),
        model="large",
        served="large",
        options=("mode",),
        tokens="last call",
        cheap=True,
    ),
    CodingAgent(
        name="gemini",
        version="0.61.0",
        shown="Gemini CLI (`gemini --acp`)",
        set='`auth_method = "gemini-api-key"`',
        command=node_program("@google/gemini-cli", "bundle/gemini.js", "--acp"),
        environment=gemini_environment,
        settings={"auth_method": "gemini-api-key"},
        made_by=by_command("run_shell_command"),
        model="gemini-2.5-pro",
        served="gemini-2.5-pro",
        options=("mode",),
        restart="begins anew, now and then its session back",
        cheap=True,
    ),
    CodingAgent(
        name="claude",
        version="0.101.0",
        shown="Claude Code (`claude-agent-acp`)",
        set='`options = {mode = "default"}`: asks; its own default decides by a model',
        command=node_program("@agentclientprotocol/claude-agent-acp", "dist/index.js"),
        environment=claude_environment,
        settings={"settings": {"mode": "default"}},
        made_by=by_command("Bash", description="make a file"),
        model="haiku",
        served="claude-haiku-5-5",
        options=("mode", "effort", "ultracode"),
    ),
    CodingAgent(
        name="codex",
        version="2.6.0",
        shown="Codex (`codex-acp`)",
        set='`options = {mode = "read-only"}`: asks; its own default decides by a model',
        command=node_program("@agentclientprotocol/codex-acp", "dist/index.js"),
        environment=codex_environment,
        settings={"settings": {"mode": "read-only"}},
        made_by=lambda name: (
            "exec_command",
            {
                "cmd": f"touch {name}",
                "sandbox_permissions": "require_escalated",
                "justification": "may I?",
            },
        ),
        model="default",
        served="gpt-5",
        options=("mode", "collaboration_mode"),
        rejected="error",
    ),
    CodingAgent(
        name="qwen",
        version="0.24.4",
        shown="Qwen Code (`qwen --acp`)",
        set='`auth_method = "openai"`, `options = {mode = "default"}`: asks',
        command=node_program("@qwen-code/qwen-code", "cli-entry.js", "--acp"),
        environment=qwen_environment,
        settings={"auth_method": "openai", "settings": {"mode": "default"}},
        made_by=by_command("run_shell_command", is_background=False),
        model="small",
        served="small",
        options=("mode",),
    ),
    CodingAgent(
        name="vibe",
        version="3.0.2",
        shown="Mistral Vibe (`vibe-acp`)",
        set='`options = {mode = "ask"}`: asks for edits, too',
        command=python_program("mistral-vibe", "vibe-acp"),
        environment=vibe_environment,
        settings={"settings": {"mode": "ask"}},
        made_by=by_command("bash"),
        model="large",
        served="large-1",
        options=("mode", "thinking"),
        tokens="session",
        cheap=True,
    ),
    CodingAgent(
        name="fast-agent",
        version="0.10.48",
        shown="fast-agent (`fast-agent acp`)",
        set="`--model` on its command line; it asks for tools of MCP servers, not for `--shell`",
        command=python_program(
            "fast-agent-mcp",
            "fast-agent",
            "acp",
            "--model",
            "generic.small",
            versions=((3, 13), (3, 14)),
        ),
        environment=fast_agent_environment,
        settings={"mcp_servers": (TOUCH,)},
        made_by=lambda name: ("touch__touch", {"name": name}),
        thinks=False,
        model="default",
        served="small",
        models=False,
        options=("mode",),
        tokens="not said",
    ),
    CodingAgent(
        name="deepagents",
        version="0.0.13",
        shown="deepagents (a program with `AgentServerACP`)",
        set="`interrupt_on` in the program",
        command=python_program("deepagents-acp", "python", str(PROGRAMS / "deep_agent.py")),
        environment=anthropic_environment,
        made_by=lambda name: ("write_file", {"file_path": f"/{name}", "content": "made"}),
        model="default",
        served="claude-haiku-4-5",
        models=False,
        tokens="not said",
        restart="begins anew",
    ),
)


def chosen_agents():
    """Return those that are tried here: the cheap ones, or those of `FRONTDESK_CODING_AGENTS`."""
    named = os.environ.get("FRONTDESK_CODING_AGENTS", "")
    if named == "all":
        return CODING_AGENTS
    by_name = {each.name: each for each in CODING_AGENTS}
    if named:
        return tuple(by_name[name] for name in named.split(","))
    return tuple(each for each in CODING_AGENTS if each.cheap)
