"""Conversations in PostgreSQL: what a commit costs, against a bare one of the same server."""

from __future__ import annotations

from bench import postgresql_scenes as scenes
from bench.plan import Plan
from bench.scene import controls_of, play, say
from bench.table import Bound, Row, Section

MS = 1_000_000
INSERT = "a bare INSERT of 16 KiB, committed"


def measure(plan: Plan) -> Section:
    """Measure commits, the bytes that they write, and a page of a list."""
    durable = plan.durable
    if scenes.programs() is None:
        return Section("conversations in PostgreSQL", (), (), (scenes.MISSING,), ())
    say("commits of conversations in PostgreSQL")
    commits = play(scenes.commits, count=durable.prompts, conversations=durable.conversations)
    say("a page of a list in PostgreSQL")
    page = play(scenes.pages, conversations=durable.listed, count=durable.pages)
    rows = (
        Row(
            "202 of a prompt, in PostgreSQL",
            commits["accepted_ns"],
            commits["bare_ns"],
            INSERT,
            Bound("at_most", 2),
        ),
        Row(
            f"an event of each of {durable.conversations} conversations, in PostgreSQL",
            commits["events_ns"],
            commits["bare_ns"],
            INSERT,
            Bound("at_most", 4),
        ),
        Row(
            "bytes that PostgreSQL logs for each byte of such an event",
            commits["logged"],
            bound=Bound("within", 10),
            unit="n",
        ),
        Row(
            f"a page of 100 among {durable.listed:,} conversations, in PostgreSQL",
            page["page_ns"],
            bound=Bound("within", 5 * MS),
        ),
    )
    return Section("conversations in PostgreSQL", rows, controls=controls_of([commits, page]))
