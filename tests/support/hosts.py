"""The environment of the hosts that `docs/how-to/host-elsewhere.md` is about.

Their packages are not those of the development environment; they are installed on demand, pinned,
into `.venv-hosts`.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-hosts"
PINS = ROOT / "requirements/hosts.txt"
INSTALL_S = 600


def installed():
    """Return the folder of the environment's programs; make it first unless it is there."""
    ready = VENV / ".ready"
    if not ready.exists() or ready.read_text() != PINS.read_text():
        pip = [str(VENV / "bin/python"), "-m", "pip", "install", "-qq", "--no-deps"]
        for step in (
            [sys.executable, "-m", "venv", str(VENV)],
            [*pip, "--disable-pip-version-check", "-r", str(PINS)],
        ):
            subprocess.run(step, cwd=ROOT, check=True, timeout=INSTALL_S)
        # The library itself needs nothing: its sources will do.
        (site,) = VENV.glob("lib/python*/site-packages")
        (site / "frontdesk.pth").write_text(f"{ROOT / 'src'}\n")
        ready.write_text(PINS.read_text())
    return VENV / "bin"
