"""What is built from the tree, once a run, and environments that hold it and nothing else."""

import subprocess
import sys
from pathlib import Path

from support.installed import missing

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / ".cache" / "wheels"
PINS = ROOT / "requirements" / "dev.txt"
BUILD_S = 300


def ran(*command, cwd=ROOT, within_s=BUILD_S, check=True):
    """Run a command; fail with what it said."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def built(kind, place):
    """Return the file that is built: `wheel` or `sdist`."""
    ran(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", place, ".")
    (made,) = place.iterdir()
    return made


def wheels_of_the_pins():
    """Return a directory with a wheel of everything that is pinned, downloaded once."""
    complete = WHEELS / ".complete"
    pins = PINS.read_text(encoding="utf-8")
    if not complete.exists() or complete.read_text(encoding="utf-8") != pins:
        pip = (sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check")
        done = ran(*pip, "--no-deps", "-d", WHEELS, "-r", PINS, check=False)
        if done.returncode != 0:
            missing(f"a wheel of everything in {PINS.name} ({done.stderr[-300:]})")
        complete.write_text(pins, encoding="utf-8")
    return WHEELS


def installed(wheel, place, *, extra=None):
    """Return the interpreter of a new environment with a wheel, an extra of it, and no more."""
    ran(sys.executable, "-m", "venv", place)
    python = place / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    ran(*pip, "--no-index", "--find-links", wheels_of_the_pins(), wanted)
    return python
