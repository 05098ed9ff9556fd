"""What `import frontdesk` costs against `import asyncio`, each in fresh interpreters.

Beside `registry`. The interpreter times its own import statement, so its start is in no figure.
The two take turns and the median of each counts: the first, which still compiles, does not.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from bench.plan import Plan
from bench.scene import ROOT, environment
from bench.table import Bound, Row, Section

PROGRAM = """
from time import perf_counter_ns
start = perf_counter_ns()
import {module}
print(perf_counter_ns() - start)
"""


def measure(plan: Plan) -> Section:
    """Import each module in so many interpreters and compare the medians."""
    taken: dict[str, list[int]] = {"asyncio": [], "frontdesk": []}
    for _ in range(plan.interpreters):
        for module, figures in taken.items():
            figures.append(import_ns(module))
    ours, theirs = (statistics.median(taken[name]) for name in ("frontdesk", "asyncio"))
    row = Row("import frontdesk", ours, theirs, "import asyncio", Bound("at_most", 2))
    note = f"Imports are the median of {plan.interpreters} fresh interpreters each."
    return Section("imports", (row,), (), (note,))


def import_ns(module: str) -> int:
    """Import a module in a fresh interpreter and return how long the statement took."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)
