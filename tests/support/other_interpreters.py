"""Interpreters beside the tests' own: with packages of their own, or wrong in one way each."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

PACKAGES = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def virtual(place, *, with_msgspec=True, **modules):
    """Make a virtual environment that has msgspec and these modules; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    packages = place / PACKAGES
    if with_msgspec:
        os.symlink(Path(msgspec.__file__).parent, packages / "msgspec")
    for name, source in modules.items():
        (packages / f"{name}.py").write_text(source, encoding="utf-8")
    return str(place / "bin" / "python")


def program(place, source):
    """Make a program of this Python that is started in the place of an interpreter."""
    place.write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
    place.chmod(0o755)
    return str(place)


OLD = """
import sys
_, option, text, *arguments = sys.argv
assert option == "-c"
sys.version_info = (3, 10, 13, "final", 0)
sys.argv = ["-c", *arguments]
exec(text)
"""
"""Runs the text that it is given as a Python that is too old would."""
