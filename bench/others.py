"""The gateway beside what somebody would otherwise run: ADK's API server, the MCP and A2A SDKs.

Beside `gateway`. Their packages live in a virtual environment of their own (`.venv-others`), made
by `python -m bench others --install`. Where it is not there, the rows say so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from bench import others_scenes as scenes
from bench.plan import Plan, ServerPlan
from bench.scene import ROOT, Figures, controls_of, play, say
from bench.table import Row, Section

NAMES = {
    "adk": "Google ADK's API server",
    "mcp_sdk": "MCP SDK's session manager",
    "a2a_sdk": "A2A SDK's server",
}
FOLDER = ROOT / ".venv-others"
PYTHON = FOLDER / "bin" / "python"
MISSING = (
    "The other servers are not installed, so the rows against them are not measured: "
    "`python -m bench others --install` installs them into `.venv-others`."
)


def install() -> None:
    """Make the virtual environment of the other servers."""
    requirements = ROOT / "requirements" / "others.txt"
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
    subprocess.run(install, check=True)


def measure(plan: Plan) -> Section:
    """Hold the same dialogue with each server and with the gateway."""
    if not PYTHON.exists():
        rows = tuple(row for name in NAMES.values() for row in _rows(name, {}))
        return Section("others", rows, (), (MISSING,))
    taken: dict[str, Figures] = {}
    for other, name in NAMES.items():
        say(f"others: {name}")
        taken[name] = play(
            scenes.dialogues,
            other=other,
            python=str(PYTHON),
            prompts=plan.servers.other_prompts,
            sessions=plan.servers.other_sessions,
        )
    rows = tuple(row for name, figures in taken.items() for row in _rows(name, figures))
    return Section("others", rows, (), _notes(plan.servers), controls_of(list(taken.values())))


def _rows(name: str, taken: Figures) -> Iterator[Row]:
    for what, figure in (
        ("session opened, median", "open_ns"),
        ("prompt to the first word of its answer, median", "first_ns"),
        ("memory of an idle session that has answered once", "bytes"),
    ):
        ours, theirs = taken.get(f"ours_{figure}"), taken.get(f"theirs_{figure}")
        if taken and ours is None:
            continue
        yield Row(what, ours, theirs, name, unit="B" if figure == "bytes" else "ns")


def _notes(servers: ServerPlan) -> tuple[str, ...]:
    return (
        "The other servers run in processes of their own, under uvicorn with the same loop and "
        "parser, everything in memory, each with an agent that says one word without a model: "
        "ADK with a `BaseAgent` of its own, MCP with a tool, A2A with an executor that then asks "
        "for more input. They check no key, count no limit and write no log; the gateway does.",
        f"Each dialogue is a session of its own ({servers.other_prompts} of each, in turn): opened "
        "(ADK: its session route; MCP: `initialize` and `initialized`; A2A opens with the first "
        "message, so there is nothing to compare), prompted over a new connection, and read to "
        "the end. The gateway takes two requests for a prompt, the prompt and then the stream; "
        "the others answer a prompt with its stream.",
        f"Memory is the growth of the resident set over {servers.other_sessions:,} such "
        "dialogues, as they are left: idle, open for the next prompt.",
    )
