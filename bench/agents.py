"""What sessions cost by where their agents live: in a task, or in a process of their own.

Beside `gateway`. Takes every figure from `agents_scenes` and makes the rows of the contract.
"""

from __future__ import annotations

from bench import agents_scenes as scenes
from bench.plan import Plan, ServerPlan
from bench.scene import controls_of, play, say
from bench.table import Bound, Row, Section

MS = 1_000_000
COLD = "cold interpreter, same imports"


def measure(plan: Plan) -> Section:
    """Play every scene and return the rows of agents."""
    servers = plan.servers
    say("agents: sessions with a task")
    tasks = play(scenes.task_sessions, count=servers.task_sessions)
    say("agents: sessions with a process")
    processes = play(scenes.process_sessions, count=servers.process_sessions)
    cold = play(scenes.cold_interpreters, count=servers.cold_interpreters)
    say(f"agents: {servers.at_once} processes at once")
    many = play(scenes.at_once, count=servers.at_once)
    held = f"{servers.at_once} assistants in processes of their own"
    rows = (
        Row("session with a task opened, median", tasks["p50_ns"], bound=Bound("within", MS)),
        Row(
            "session with a process opened, the built-in assistant, median",
            processes["assistant_p50_ns"],
            cold["cold_ns"],
            COLD,
            Bound("within", 50 * MS),
        ),
        Row(
            "session with a process opened, a Python function, median",
            processes["parrot_p50_ns"],
            bound=Bound("within", 50 * MS),
        ),
        Row(f"{held}, each opened", many["open_ns"], bound=Bound("within", 50 * MS)),
        Row(f"{held}, prompted at once, all answered", many["answers_ns"]),
        Row(f"{held}, memory of each", many["agent_bytes"], unit="B"),
        Row(
            f"{held}, alive when the gateway has ended",
            many["left"],
            bound=Bound("within", 0),
            unit="n",
        ),
    )
    return Section("agents", rows, (), _notes(servers), controls_of([tasks, processes, cold, many]))


def _notes(servers: ServerPlan) -> tuple[str, ...]:
    return (
        "Sessions are opened over HTTP: from before the request to the whole answer, one after "
        "another over one connection; with a process, once the process that it is forked from is "
        f"warm. Medians of {servers.task_sessions} and {servers.process_sessions}.",
        "The cold interpreter imports what the assistant's process has imported, and exits: "
        f"the median of {servers.cold_interpreters}.",
        f"The {servers.at_once} are opened by {scenes.AT_A_TIME} clients at the same time. Their "
        "memory is the growth of the proportional set of the gateway with all its processes, in "
        "which shared pages count once.",
    )
