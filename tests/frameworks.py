"""Run the adapters' suite, `tests/adapters`, where the frameworks are installed.

Part of `make test-all`. Their packages do not agree with all of ours, so they have a virtual
environment of their own, `.venv-frameworks`, with the pins of `requirements/frameworks.txt`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-frameworks"
PYTHON = VENV / "bin/python"
PINS = ROOT / "requirements/frameworks.txt"
SUITE = "tests/adapters"
ALL = {"TESTED_FRAMEWORKS": "all"}
"""Makes a framework that is missing here a failure; elsewhere the suite leaves it out.

Not `FRONTDESK_...`, which would be a setting, and one that there is not.
"""


def main(arguments: list[str]) -> int:
    if not set_up():
        return 1
    chosen = arguments or [SUITE]
    pytest = [str(PYTHON), "-m", "pytest", "-q"]
    # What failed beside others has to pass alone, as in `make test`.
    alone = [*pytest, "--last-failed", "--last-failed-no-failures", "none", *chosen]
    passed = ran_well([*pytest, "-n", "2", "--dist", "loadfile", *chosen]) or ran_well(alone)
    return 0 if passed else 1


def set_up() -> bool:
    """Make the environment, unless it is there with these pins."""
    ready = VENV / ".ready"
    if ready.exists() and ready.read_text() == PINS.read_text():
        return True
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    made = all(
        ran_well(step)
        for step in (
            [sys.executable, "-m", "venv", str(VENV)],
            [*pip, "-r", str(PINS)],
            [*pip, "--no-build-isolation", "-e", "."],
        )
    )
    if made:
        ready.write_text(PINS.read_text())
    return made


def ran_well(step: list[str]) -> bool:
    return subprocess.run(step, cwd=ROOT, env=os.environ | ALL, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
