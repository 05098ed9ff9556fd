"""The gateway's costs: against a bare FastAPI route, against raw ASGI streams, and by themselves.

Beside `registry` and `agents`. Takes every figure from `gateway_scenes` and `crowd_scene`, and
makes the rows of the contract from them.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import crowd_scene
from bench import gateway_scenes as scenes
from bench.plan import Plan, ServerPlan
from bench.scene import Figures, controls_of, play, say
from bench.table import Bound, Row, Section

ROUTE, STREAM = "bare FastAPI route", "raw ASGI stream"
KIB = 1024
MS = 1_000_000
SECOND = 1_000 * MS


def measure(plan: Plan) -> Section:
    """Play every scene and return the gateway's rows."""
    servers = plan.servers
    say("gateway: one GET")
    gets = play(
        scenes.gets,
        rounds=servers.load_rounds,
        seconds=servers.load_s,
        connections=servers.connections,
    )
    say(f"gateway: events to {servers.streams:,} streams")
    fan_out = play(
        scenes.fan_out,
        rounds=servers.rounds,
        streams=servers.streams,
        events=servers.events,
        paced=servers.paced_events,
    )
    say("gateway: prompts and first events")
    first = play(scenes.first_events, prompts=servers.prompts)
    say(f"gateway: {servers.held:,} sessions and streams")
    crowd = play(
        crowd_scene.crowd,
        held=servers.held,
        seconds=servers.held_s,
        prompted_each=servers.prompted_each,
        leaves=servers.leaves,
    )
    rows = (
        *_get_rows(gets, servers),
        *_event_rows(fan_out, servers),
        *_first_rows(first),
        *_memory_rows(crowd),
        *_crowd_rows(crowd, servers),
    )
    takes = [gets, fan_out, first, crowd]
    return Section("gateway", rows, (), _notes(servers, crowd), controls_of(takes))


def _get_rows(gets: Figures, servers: ServerPlan) -> Iterator[Row]:
    name = f"GET of a session, over {servers.connections} connections"
    yield Row(name, gets["ours_ns"], gets["bare_ns"], ROUTE, Bound("at_least", 0.6))
    yield Row(f"{name}, processor time", gets["ours_cpu_ns"], gets["bare_cpu_ns"], ROUTE)


def _event_rows(taken: Figures, servers: ServerPlan) -> Iterator[Row]:
    name = f"an event to each of {servers.streams:,} streams"
    yield Row(
        f"{name}, as fast as they go",
        taken["ours_ns"],
        taken["bare_ns"],
        STREAM,
        Bound("at_least", 0.7),
    )
    for way, prefix in (("as fast as they go", ""), ("one by one", "paced_")):
        ours, theirs = taken[f"{prefix}ours_cpu_ns"], taken[f"{prefix}bare_cpu_ns"]
        yield Row(f"{name}, {way}, processor time", ours, theirs, STREAM)


def _first_rows(taken: Figures) -> Iterator[Row]:
    name = "prompt posted to the agent's first event read, over its own time"
    yield Row(
        f"{name}, median",
        taken["p50_ns"],
        taken["bare_p50_ns"],
        f"{ROUTE}, one GET",
        Bound("within", 3 * MS),
    )
    yield Row(f"{name}, 99th percentile", taken["p99_ns"])


def _memory_rows(taken: Figures) -> Iterator[Row]:
    yield Row(
        "memory of an idle session with a task",
        taken["session_bytes"],
        bound=Bound("within", 15 * KIB),
        unit="B",
    )
    yield Row(
        "tasks of an idle session with a task",
        taken["session_tasks"],
        bound=Bound("within", 1),
        unit="n",
    )
    yield Row(
        "memory of an idle open stream",
        taken["stream_bytes"],
        taken["bare_stream_bytes"],
        STREAM,
        Bound("within", 16 * KIB),
        "B",
    )
    yield Row("tasks of an idle open stream", taken["stream_tasks"], unit="n")


def _crowd_rows(taken: Figures, servers: ServerPlan) -> Iterator[Row]:
    held = servers.held
    lost = 2 * held - int(taken["sessions_left"]) - int(taken["streams_left"])
    name = f"{held:,} sessions and {held:,} open streams in one process"
    yield Row(f"{name}, lost of them", lost, bound=Bound("within", 0), unit="n")
    asked = f"prompt to its answer among them, {int(taken['asked'])} prompts a second"
    yield Row(f"{asked}, greatest", taken["answer_max_ns"], bound=Bound("within", SECOND))
    yield Row(f"{asked}, median", taken["answer_p50_ns"])
    left = "a client that leaves is noticed among them"
    yield Row(f"{left}, greatest", taken["leave_max_ns"], bound=Bound("within", SECOND))


def _notes(servers: ServerPlan, crowd: Figures) -> tuple[str, ...]:
    notes = [
        "The gateway is the command `frontdesk serve`, with keys, rate limit and access log, in a "
        "process of its own; so is every baseline, under uvicorn with the same loop and parser. "
        "One more process is the client, the same one for both sides.",
        f"Rates: both servers run, and take turns at being asked; the median of {servers.rounds} "
        f"turns, for a GET {servers.load_rounds} of {servers.load_s:g} s. `Processor time` is what "
        "the server's process used, which other programs on the machine disturb less than the "
        "rate.",
        f"The bare route is FastAPI's, typed, with the answer that the gateway gives, asked over "
        f"{servers.connections} kept connections without pause.",
        f"The raw streams send {servers.events:,} ready-made frames of the same length with one "
        "`send` each; the gateway's agent says as many words, which are encoded, numbered and "
        "logged, and go out in as few pieces as there are wake-ups. One by one: an event every "
        "20 ms, for which each raw stream waits on one `asyncio.Event`.",
        "A prompt is posted into a session whose stream is open; the time is from before the "
        "request to the first `message_delta` in the client's hands, less what the agent says that "
        "it worked. One GET of the bare route in the same rhythm stands beside it: much of both is "
        "the machine's waking up.",
        "Memory is the growth of the server's resident set, after a collection, over as many "
        "sessions (created over HTTP, agent and conversation included), then over one stream of "
        "each.",
        f"In time is within a second, before the next prompt is due: {servers.held_s} s, evenly "
        f"spread over every {servers.prompted_each}th session, counted from when each was due. A "
        "client that leaves is noticed when the server has no task for it any more.",
    ]
    if int(crowd["held"]) < servers.held:
        notes.append(f"The limit of open descriptors allows {int(crowd['held']):,} streams here.")
    return tuple(notes)
