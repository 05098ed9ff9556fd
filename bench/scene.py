"""A scene: one measurement in an interpreter of its own, so that no heap and no loop is inherited.

The groups describe scenes as functions that return figures by name; `play` runs one in a fresh
interpreter, with the control measure before and after it. The module is also what that interpreter
executes: `python -m bench.scene MODULE:FUNCTION FACTS`.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.machine import control_ns

ROOT = Path(__file__).resolve().parent.parent
CONTROLS = "controls"

Figures = dict[str, Any]


class SceneFailed(Exception):
    """A scene ended without figures; `report` is what it said."""

    def __init__(self, scene: str, *, report: str) -> None:
        self.scene, self.report = scene, report
        super().__init__(f"{scene} failed:\n{report}")


def play(scene: Callable[..., Mapping[str, Any]], **facts: object) -> Figures:
    """Run a scene in a fresh interpreter and return its figures and controls.

    What stands in PYTHONPATH comes before the `src` of this repository, so that another build can
    be measured.
    """
    name = f"{scene.__module__}:{scene.__qualname__}"
    command = [sys.executable, "-m", "bench.scene", name, json.dumps(facts)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SceneFailed(f"{name} {facts}", report=done.stderr)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def environment() -> dict[str, str]:
    """Return the environment in which a fresh interpreter finds `frontdesk`."""
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT / "src")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def least(takes: list[Figures], figure: str) -> float | None:
    """Return the least of a figure over several takes of a scene, None where none has it."""
    known = [take[figure] for take in takes if take.get(figure) is not None]
    return min(known) if known else None


def controls_of(takes: list[Figures]) -> tuple[float, ...]:
    """Return every control measure of the takes."""
    return tuple(value for take in takes for value in take.get(CONTROLS, ()))


def say(what: str) -> None:
    """Tell whoever waits what is being measured."""
    print(what, file=sys.stderr, flush=True)


def _perform(name: str, facts: dict[str, Any]) -> None:
    module, _, function = name.partition(":")
    before = control_ns()
    figures = getattr(importlib.import_module(module), function)(**facts)
    print(json.dumps({**figures, CONTROLS: [before, control_ns()]}), flush=True)


if __name__ == "__main__":
    _perform(sys.argv[1], json.loads(sys.argv[2]))
    # A million pending tasks are not worth ending one by one: the process takes them with it.
    os._exit(0)
