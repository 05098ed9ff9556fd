"""The local engine: what a worker's calls cost, and how soon a worker's death is known.

Beside the other groups. Every bound is the contract's, a ratio in one run on one machine, or a time
that a person would notice.
"""

from __future__ import annotations

from bench import local_engine_scenes as scenes
from bench.plan import Plan
from bench.scene import controls_of, play, say
from bench.table import Bound, Row, Section

EMPTY = "an empty call on the same socket"
MS = 1_000_000


def measure(plan: Plan) -> Section:
    """Measure calls, changes seen elsewhere, and deaths."""
    cluster = plan.cluster
    say("calls of the local engine")
    calls = play(scenes.calls, rounds=cluster.rounds, each=cluster.each)
    say("changes on one worker, seen on another")
    changes = play(scenes.changes, count=cluster.changes)
    say(f"deaths of a worker with {cluster.sessions:,} sessions")
    deaths = play(
        scenes.deaths,
        kills=cluster.kills,
        sessions=cluster.sessions,
        followers=cluster.followers,
    )
    say(f"calls while {cluster.large:,} sessions end")
    burial = play(scenes.burial, sessions=cluster.large)
    killed = f"kill -9 of a worker with {cluster.sessions:,} sessions"
    gone, told = f"{killed}, gone from every other", f"{killed}, every end told at every other"
    during = f"a call while {cluster.large:,} sessions of a dead worker end, 99th percentile"
    rows = (
        Row(
            "create on the local engine, one after another",
            calls["create_ns"],
            calls["empty_ns"],
            EMPTY,
            Bound("at_most", 3),
        ),
        Row(
            f"creates on the local engine, {cluster.each} at a time, each",
            calls["together_ns"],
            calls["empty_ns"],
            EMPTY,
        ),
        Row(
            "a change on one worker, until another is told, median",
            changes["p50_ns"],
            bound=Bound("within", 5 * MS),
        ),
        Row(f"{gone}, median", deaths["p50_ns"]),
        Row(f"{gone}, 99th percentile", deaths["p99_ns"], bound=Bound("within", 100 * MS)),
        Row(f"{told}, median", deaths["told_p50_ns"]),
        Row(f"{told}, 99th percentile", deaths["told_p99_ns"]),
        Row(during, burial["p99_ns"], bound=Bound("within", 10 * MS)),
    )
    notes = (
        f"Deaths: from before the signal, with the supervisor as parent, until the last of "
        f"{cluster.followers} other nodes finds none of the sessions, neither one that it knew nor "
        f"one that it asks the engine for; then until it was told how the last of them ended. "
        f"{cluster.kills} kills, one after another.",
    )
    return Section("local engine", rows, (), notes, controls_of([calls, changes, deaths, burial]))
