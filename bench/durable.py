"""Durable conversations: what being stored costs, against bare operations of the same run.

Every bound is the contract's: a sync is 16 KiB appended to a file on the same disk and synced, one
after the other where the load is, and as seldom as the prompts where a session is idle.
"""

from __future__ import annotations

from bench import durable_scenes as scenes
from bench.plan import Plan
from bench.scene import controls_of, play, say
from bench.table import Bound, Row, Section

MS = 1_000_000
MEMORY = "the same in memory"


def measure(plan: Plan) -> Section:
    """Measure answers, streams, starts and lists of conversations that are stored."""
    durable = plan.durable
    say("the first word of an idle session, stored and in memory")
    words = play(scenes.first_words, count=durable.prompts)
    say(f"{durable.conversations} conversations that stream at once")
    streams = play(
        scenes.streams,
        conversations=durable.conversations,
        events=durable.events,
        each_s=durable.each_s,
    )
    say("one burst to many readers")
    fan_out = play(scenes.fan_out, readers=durable.readers, events=durable.burst)
    say("a start after a kill")
    start = play(
        scenes.starts,
        dormant=durable.dormant,
        cut=durable.cut,
        journal_bytes=durable.journal_bytes,
    )
    say("a page of a list")
    page = play(scenes.pages, conversations=durable.listed, count=durable.pages)
    load = f"{durable.conversations} streams of {1 / durable.each_s:g} events/s"
    in_time = scenes.INTERVAL_S * 1e9 + 2 * streams["sync_ns"]
    rows = (
        Row(
            "202 and first word of an idle session, over memory",
            words["stored_ns"] - words["memory_ns"],
            words["sync_ns"],
            "a bare sync of 16 KiB, as seldom",
            Bound("at_most", 4),
        ),
        Row(
            f"delay of an event, {load}, median",
            streams["delay_ns_stored"],
            in_time,
            "the interval and 2 bare syncs",
            Bound("at_most", 1),
        ),
        Row(
            f"bytes written for each byte of an event, {load}",
            streams["written_stored"],
            bound=Bound("within", 10),
            unit="n",
        ),
        Row(
            "bytes that stay of a byte of an event after its turn",
            streams["kept"],
            bound=Bound("within", 0.2),
            unit="n",
        ),
        Row(
            f"processor of an event, over memory, {load}",
            streams["spent_ns_stored"] - streams["spent_ns_memory"],
            bound=Bound("within", 15_000),
        ),
        Row(
            f"one burst of {durable.burst:,} events to {durable.readers} readers",
            fan_out["stored_ns"],
            fan_out["memory_ns"],
            MEMORY,
            Bound("at_least", 0.9),
        ),
        Row(
            f"a start: {durable.dormant:,} dormant, {durable.cut} turns cut, "
            f"{durable.journal_bytes >> 20} MiB of journal",
            start["start_ns"],
            bound=Bound("within", 3_000 * MS),
        ),
        Row(
            f"a page of 100 among {durable.listed:,} conversations",
            page["page_ns"],
            bound=Bound("within", 5 * MS),
        ),
    )
    return Section("durable", rows, controls=controls_of([words, streams, fan_out, start, page]))
