"""Run the quick suite on every other CPython from 3.11 that is at hand.

Part of `make test-all`. Each interpreter gets a virtual environment of its own (`.venv-3.12`) with
the same pinned packages; the list of those that were found, and of those that were not, is printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.14t")
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = {version: find(version) for version in VERSIONS if version != here}
    for version, python in found.items():
        say(f"CPython {version}: {python or 'not at hand'}")
    failed = [
        version for version, python in found.items() if python and not passes(version, python)
    ]
    say(f"failed on: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def find(version: str) -> str | None:
    """Return an interpreter of exactly this version, from the path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(pyenv.glob(f"{version.rstrip('t')}.*{'t' if version[-1] == 't' else ''}"))
    candidates = [shutil.which(f"python{version}"), *(str(one / "bin/python") for one in installed)]
    return next((one for one in candidates if one and answers(one, version)), None)


def answers(python: str, version: str) -> bool:
    """Tell whether it starts (a shim may be there without its interpreter) and is the right one."""
    code = (
        "import sys, sysconfig;"
        "t = 't' if sysconfig.get_config_var('Py_GIL_DISABLED') else '';"
        "print('%d.%d%s' % (*sys.version_info[:2], t))"
    )
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return ran.returncode == 0 and ran.stdout.strip() == version


def passes(version: str, python: str) -> bool:
    venv = ROOT / f".venv-{version}"
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    steps = [
        [python, "-m", "venv", str(venv)],
        [*pip, "-r", "requirements/dev.txt"],
        [*pip, "--no-build-isolation", "--no-deps", "-e", "."],
        [
            str(venv / "bin/python"),
            "-m",
            "pytest",
            "-q",
            *("-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"),
            "-m",
            "not slow and not chaos and not browser",
        ],
    ]
    *setting_up, suite = steps
    if not all(ran_well(step) for step in setting_up):
        return False
    # What failed beside others has to pass alone, as in `make test`.
    alone = [*suite[:3], "--last-failed", "--last-failed-no-failures", "none"]
    return ran_well(suite) or ran_well(alone)


def ran_well(step: list[str]) -> bool:
    return subprocess.run(step, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
