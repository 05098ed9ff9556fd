"""What a run measures and how often: sizes, repeats, crowds.

The groups read it, `__main__` makes it from the command line.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """Say how much is asked of servers and of the agents behind them."""

    rounds: int = 5
    """How often ours and the baseline take their turn; the median counts."""
    load_rounds: int = 20
    load_s: float = 0.25
    """So long one server is asked, then the other: what disturbs the one meets the other."""
    connections: int = 16
    streams: int = 300
    events: int = 600
    paced_events: int = 40
    prompts: int = 300
    held: int = 5_000
    """Idle sessions, and as many open streams, in one process."""
    held_s: int = 10
    prompted_each: int = 50
    """Every so-many-th of the held sessions is prompted once a second."""
    leaves: int = 10
    """Clients that hang up, one after another."""
    task_sessions: int = 500
    process_sessions: int = 40
    cold_interpreters: int = 5
    at_once: int = 200
    """Agents in processes of their own at the same time."""
    other_sessions: int = 500
    """Sessions that each of the other servers holds, and prompts of it that are answered."""
    other_prompts: int = 100


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Say how much is asked of a cluster's engine."""

    rounds: int = 10
    """How often creates and the baseline take their turn; the least counts."""
    each: int = 500
    """Calls of a round: one after another, and as many at a time."""
    sessions: int = 10_000
    """Of a worker that is killed."""
    kills: int = 60
    followers: int = 2
    """Workers that hear of it."""
    large: int = 100_000
    """Sessions of a node that dies while others ask."""
    changes: int = 500
    """Changes on one node that are seen on another, one after another."""
    requests: int = 2_000
    """Requests of each kind, direct and passed on, one after another."""


@dataclass(frozen=True, slots=True)
class DurablePlan:
    """Say how much is stored, and how often it is asked for."""

    prompts: int = 60
    conversations: int = 100
    events: int = 150
    """Of each conversation, one every `each_s`."""
    each_s: float = 0.02
    readers: int = 100
    burst: int = 2_000
    dormant: int = 10_000
    cut: int = 200
    """Turns that a kill cut off, which have `journal_bytes` of events together."""
    journal_bytes: int = 16 * 1024 * 1024
    listed: int = 100_000
    pages: int = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """Say how much is measured. The defaults are the sizes that the bounds speak of."""

    small: int = 10_000
    middle: int = 100_000
    large: int = 1_000_000
    per_tenant: int = 1_000
    """Sessions of each tenant, at every size, so that a listing has the same length at each."""
    repeats: int = 3
    """Fresh interpreters (or BEAMs) a figure is the least of."""
    large_repeats: int = 1
    lookups: int = 300_000
    """A look at fewer sessions is repeated until it is as many; the least pass counts."""
    deaths: int = 300
    """Processes that are killed one after another on an otherwise idle store."""
    crowd: int = 5_000
    """Processes that one store watches at the same time."""
    crowd_deaths: int = 500
    """How many of the crowd are killed singly; the rest die at once."""
    interpreters: int = 41
    """Fresh interpreters that each import once."""
    servers: ServerPlan = ServerPlan()
    cluster: ClusterPlan = ClusterPlan()
    durable: DurablePlan = DurablePlan()

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Return the three sizes, smallest first."""
        return (self.small, self.middle, self.large)

    def tenants(self, sessions: int) -> int:
        """Return among how many tenants that many sessions are dealt out."""
        return max(1, sessions // self.per_tenant)

    def repeats_at(self, sessions: int) -> int:
        """Return how often a figure of that size is taken."""
        return self.large_repeats if sessions == self.large else self.repeats


QUICK = Plan(
    small=200,
    middle=400,
    large=800,
    per_tenant=100,
    repeats=1,
    large_repeats=1,
    lookups=1_000,
    deaths=5,
    crowd=20,
    crowd_deaths=5,
    interpreters=3,
    servers=ServerPlan(
        rounds=1,
        load_rounds=1,
        load_s=0.1,
        connections=2,
        streams=3,
        events=20,
        paced_events=2,
        prompts=3,
        held=40,
        held_s=1,
        prompted_each=10,
        leaves=1,
        task_sessions=5,
        process_sessions=2,
        cold_interpreters=1,
        at_once=3,
        other_sessions=20,
        other_prompts=3,
    ),
    cluster=ClusterPlan(
        rounds=1, each=20, sessions=150, kills=2, followers=1, large=500, requests=300, changes=10
    ),
    durable=DurablePlan(
        prompts=3,
        conversations=3,
        events=5,
        readers=2,
        burst=20,
        dormant=20,
        cut=3,
        journal_bytes=10_000,
        listed=200,
        pages=2,
    ),
)
"""Everything once and tiny: shows that the benchmark runs, and says nothing about costs."""
