"""Requests that are passed on to another worker, against those that are not.

Beside the other groups. The bound is the contract's: so much more at the median.
"""

from __future__ import annotations

from bench import forwarding_scenes as scenes
from bench.plan import Plan
from bench.scene import controls_of, play, say
from bench.table import Bound, Row, Section

DIRECT = "asked of the worker that has it"
MS = 1_000_000


def measure(plan: Plan) -> Section:
    """Measure one request both ways."""
    say("requests that are passed on")
    taken = play(scenes.requests, count=plan.cluster.requests)
    rows = (
        Row(
            "one GET of another worker's session, median",
            taken["passed_p50_ns"],
            taken["direct_p50_ns"],
            DIRECT,
        ),
        Row(
            "one GET of another worker's session, 99th percentile",
            taken["passed_p99_ns"],
            taken["direct_p99_ns"],
            DIRECT,
        ),
        Row(
            "what passing on adds at the median",
            taken["passed_p50_ns"] - taken["direct_p50_ns"],
            bound=Bound("within", 3 * MS),
        ),
    )
    return Section("forwarding", rows, (), (), controls_of([taken]))
