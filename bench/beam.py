"""Runs the BEAM baseline, `session_store.exs`, where `elixir` is installed.

`registry` compares with its figures. Where there is no `elixir`, `version` says so and every row
against it reads `not measured`: nothing is left out in silence.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from bench.scene import Figures, SceneFailed

SCRIPT = Path(__file__).with_name("session_store.exs")
MISSING = "elixir is not installed here (Debian's package is `elixir`): the rows against the BEAM "
MISSING += "are not measured"


def version() -> str | None:
    """Return the versions of Elixir and OTP, or None where `elixir` is not installed."""
    if not shutil.which("elixir"):
        return None
    code = 'IO.puts("Elixir #{System.version()}, OTP #{System.otp_release()}")'
    done = subprocess.run(["elixir", "-e", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def figures(*, sessions: int, tenants: int) -> Figures:
    """Run the baseline once in a BEAM of its own; no figures where `elixir` is not installed."""
    if not shutil.which("elixir"):
        return {}
    # The BEAM's default limit is 262,144 processes, and an agent is one.
    limit = f"+P {max(4 * sessions, 262_144)}"
    command = ["elixir", "--erl", limit, str(SCRIPT), str(sessions), str(tenants), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SceneFailed(" ".join(command), report=done.stderr)
    taken: Figures = json.loads(done.stdout.splitlines()[-1])
    return taken
