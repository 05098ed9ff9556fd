"""Run the quick suites of library, agents and gateway on every other CPython that is promised.

Part of `make test-all`. Each interpreter gets a virtual environment of its own (`.venv-3.12`) with
the same pinned packages. They come from the path, from pyenv, or, where Debian has them and this
may be done, from `.ci/interpreters`. A missing one is told of, and is a failure where CI is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

PROMISED = ("3.11", "3.12", "3.13", "3.14", "3.15")
# Not promised: run where somebody has one.
FREE_THREADED = ("3.14t", "3.15t")
FROM_DEBIAN = frozenset({"3.14", "3.15"})
# A pinned package that says it is not for this interpreter: installed and tested all the same.
FORCED = {"3.15": "agent-client-protocol, which says <3.15"}
ROOT = Path(__file__).resolve().parent.parent
# Not the documents nor the benchmark's own tests: slow, and alike on all of them.
SUITES = (
    *("unit", "laws", "property", "keeper", "cluster", "agents"),
    *("persistence", "sessions", "gateway", "cli"),
)
ELSEWHERE = ("tests/unit/test_bench.py", "tests/unit/test_bench_gateway.py")


def main() -> int:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    others = [version for version in (*PROMISED, *FREE_THREADED) if version != here]
    found = {version: find(version) for version in others}
    if FROM_DEBIAN & {version for version, python in found.items() if python is None}:
        found |= from_debian(found)
    for version, python in found.items():
        say(f"CPython {version}: {python or 'not at hand, not tested'}")
    missing = [version for version in PROMISED if found.get(version, here) is None]
    if missing and os.environ.get("CI"):
        say(f"failed: no CPython {', '.join(missing)}; .ci/interpreters has 3.14 and 3.15")
        return 1
    failed = [
        version for version, python in found.items() if python and not passes(version, python)
    ]
    say(f"failed on: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def find(version: str, folders: Iterable[Path] = ()) -> str | None:
    """Return an interpreter of exactly this version, from the path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(pyenv.glob(f"{version.rstrip('t')}.*{'t' if version[-1] == 't' else ''}"))
    candidates = [
        shutil.which(f"python{version}"),
        *(str(one / "bin/python") for one in installed),
        *(str(one / f"python{version}") for one in folders),
    ]
    return next((one for one in candidates if one and answers(one, version)), None)


def from_debian(found: dict[str, str | None]) -> dict[str, str | None]:
    """Return what is still missing and Debian has, where it may be set up here."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        say("3.14 and 3.15: .ci/interpreters sets them up, as root, with debootstrap installed")
        return {}
    made = subprocess.run([ROOT / ".ci/interpreters"], stdout=subprocess.PIPE, text=True)
    if made.returncode != 0:
        return {}
    folder = Path(made.stdout.strip())
    return {
        version: find(version, [folder])
        for version in sorted(FROM_DEBIAN)
        if version in found and found[version] is None
    }


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
    started = time.monotonic()
    venv = ROOT / f".venv-{version}"
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    setting_up = [
        [python, "-m", "venv", str(venv)],
        [*pip, "--no-deps", *forced(version), "-r", "requirements/dev.txt"],
        [*pip, "--no-build-isolation", "--no-deps", "-e", "."],
    ]
    pytest = [str(venv / "bin/python"), "-m", "pytest"]
    suites = [f"tests/{name}" for name in SUITES]
    suite = [
        *(*pytest, "-q", "-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"),
        *("-m", "not slow and not chaos and not browser"),
        *(f"--ignore={file}" for file in ELSEWHERE),
        *suites,
    ]
    # What failed beside others has to pass alone, as in `make test`.
    alone = [*pytest, "--last-failed", "--last-failed-no-failures", "none", *suites]
    passed = all(ran_well(step) for step in setting_up) and (ran_well(suite) or ran_well(alone))
    outcome = "passed" if passed else "failed"
    say(f"CPython {version}: {outcome} after {time.monotonic() - started:.0f} s")
    return passed


def forced(version: str) -> list[str]:
    if version not in FORCED:
        return []
    say(f"CPython {version}: installed against its word: {FORCED[version]}")
    return ["--ignore-requires-python"]


def ran_well(step: list[str]) -> bool:
    return subprocess.run(step, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
