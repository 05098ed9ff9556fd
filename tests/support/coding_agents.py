"""The coding agents that are tried: one record each, of what to install, to set and to expect.

They are installed when a test asks for one (`installed.py`), at these versions, and given a model
on loopback (`model_server.py`) in their provider's own dialect. Telemetry, updates, downloads are
switched off.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import support.programs.mcp_touch as mcp_touch
from frontdesk.agents.acp.mcp_servers import McpServer
from support.installed import from_npm, from_pip, missing, needs_linux_on_x86, newer_python


@dataclass(frozen=True, kw_only=True)
class CodingAgent:
    """A program that speaks ACP.

    `command` installs it, and returns its command line. `environment` returns the variables that it
    needs, by the address of the model's server and the agent's home, where it may write files.
    `shell` is its tool for a command line, and the arguments for one. `model` is what it is asked
    for, `served` what the server then is. `usage` says what its tokens are: `exact`, `last call` or
    `not said`.
    """

    name: str
    package: str
    version: str
    shown: str
    command: Callable[[], tuple[str, ...]]
    environment: Callable[[str, object], dict[str, str]]
    shell: Callable[[str], tuple[str, dict]]
    options: dict = field(default_factory=dict)
    model: str = "default"
    served: str | None = None
    usage: str = "exact"
    steps: frozenset = frozenset()


def node_program(package, version, path):
    node = shutil.which("node") or missing("node")
    return (node, str(from_npm(package, version) / path))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


# -- OpenCode --------------------------------------------------------------------------------------


def opencode_command():
    needs_linux_on_x86()
    return (str(from_npm("opencode-linux-x64-baseline", "1.18.33") / "bin" / "opencode"), "acp")


def opencode_environment(url, home):
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
    write(home / "gemini.json", QUIET)
    return {
        "GEMINI_API_KEY": "none",
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_CLI_SYSTEM_SETTINGS_PATH": str(home / "gemini.json"),
    }


def qwen_environment(url, home):
    write(home / "qwen.json", QUIET)
    return {
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_MODEL": "small",
        "QWEN_CODE_SYSTEM_SETTINGS_PATH": str(home / "qwen.json"),
    }


# -- Claude Code -----------------------------------------------------------------------------------


def claude_environment(url, home):
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
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


def vibe_command():
    python, version = newer_python((3, 12), (3, 13), (3, 14))
    program = from_pip("vibe", "mistral-vibe==3.0.2", python=python, version=version)
    return (str(program.with_name("vibe-acp")),)


def vibe_environment(url, home):
    write(home / ".vibe" / "config.toml", VIBE_CONFIG.format(url=url))
    return {}


def fast_agent_command():
    python, version = newer_python((3, 13), (3, 14))
    program = from_pip("fast-agent", "fast-agent-mcp==0.10.48", python=python, version=version)
    line = ("acp", "--model", "generic.small")
    return (str(program.with_name("fast-agent")), *line)


def fast_agent_environment(url, home):
    return {"GENERIC_API_KEY": "none", "GENERIC_BASE_URL": f"{url}/v1"}


TOUCH = McpServer(name="touch", command=(sys.executable, mcp_touch.__file__))


def command_argument(name):
    return lambda line: (name, {"command": line})


CODING_AGENTS = (
    CodingAgent(
        name="opencode",
        package="opencode-ai",
        version="1.18.33",
        shown="`opencode acp`",
        command=opencode_command,
        environment=opencode_environment,
        shell=lambda line: ("bash", {"command": line, "description": "make a file"}),
        model="large",
        served="large",
        usage="last call",
    ),
    CodingAgent(
        name="gemini",
        package="@google/gemini-cli",
        version="0.61.0",
        shown="`gemini --acp`",
        command=lambda: (
            *node_program("@google/gemini-cli", "0.61.0", "bundle/gemini.js"),
            "--acp",
        ),
        environment=gemini_environment,
        options={"auth_method": "gemini-api-key"},
        shell=command_argument("run_shell_command"),
        model="gemini-2.5-pro",
        served="gemini-2.5-pro",
    ),
    CodingAgent(
        name="claude",
        package="@agentclientprotocol/claude-agent-acp",
        version="0.101.0",
        shown="`claude-agent-acp`",
        command=lambda: node_program(
            "@agentclientprotocol/claude-agent-acp", "0.101.0", "dist/index.js"
        ),
        environment=claude_environment,
        options={"settings": {"mode": "default"}},
        shell=lambda line: ("Bash", {"command": line, "description": "make a file"}),
        model="haiku",
    ),
    CodingAgent(
        name="codex",
        package="@agentclientprotocol/codex-acp",
        version="2.6.0",
        shown="`codex-acp`",
        command=lambda: node_program("@agentclientprotocol/codex-acp", "2.6.0", "dist/index.js"),
        environment=codex_environment,
        options={"settings": {"mode": "read-only"}},
        shell=lambda line: (
            "exec_command",
            {"cmd": line, "sandbox_permissions": "require_escalated", "justification": "may I?"},
        ),
    ),
    CodingAgent(
        name="qwen",
        package="@qwen-code/qwen-code",
        version="0.24.4",
        shown="`qwen --acp`",
        command=lambda: (
            *node_program("@qwen-code/qwen-code", "0.24.4", "cli-entry.js"),
            "--acp",
        ),
        environment=qwen_environment,
        options={"auth_method": "openai", "settings": {"mode": "default"}},
        shell=lambda line: ("run_shell_command", {"command": line, "is_background": False}),
    ),
    CodingAgent(
        name="vibe",
        package="mistral-vibe",
        version="3.0.2",
        shown="`vibe-acp`",
        command=vibe_command,
        environment=vibe_environment,
        options={"settings": {"mode": "ask"}},
        shell=command_argument("bash"),
        model="large",
        served="large-1",
    ),
    CodingAgent(
        name="fast-agent",
        package="fast-agent-mcp",
        version="0.10.48",
        shown="`fast-agent acp`",
        command=fast_agent_command,
        environment=fast_agent_environment,
        options={"mcp_servers": (TOUCH,)},
        shell=lambda line: ("touch__touch", {"name": line.split()[-1]}),
    ),
)
