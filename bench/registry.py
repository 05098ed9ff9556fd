"""The registry's costs: the store against the BEAM design, the dict with a timeout, the bare dict.

Takes every figure from `registry_scenes` and `beam`, one after another so that a drift of the
machine hits all of them, and makes the rows of the contract from the least of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bench import beam, registry_scenes
from bench.plan import Plan
from bench.scene import Figures, controls_of, least, play, say
from bench.subjects import SUBJECTS
from bench.table import Bound, Grid, Row, Section

BEAM, TIMEOUT, BARE = "BEAM", "dict with timeout", "bare dict"
COLLECTORS = {False: "default collector", True: "after gc.freeze()"}


@dataclass(slots=True)
class Takes:
    """Every take of every scene, by what it was of."""

    plan: Plan
    store: dict[tuple[int, bool], list[Figures]] = field(default_factory=dict)
    baselines: dict[tuple[str, int], list[Figures]] = field(default_factory=dict)
    memory: dict[tuple[str, int], list[Figures]] = field(default_factory=dict)
    exits: dict[bool, list[Figures]] = field(default_factory=dict)

    def of_store(self, figure: str, sessions: int, *, frozen: bool = False) -> float | None:
        """Return the least of one of the store's figures."""
        return least(self.store.get((sessions, frozen), []), figure)

    def of(self, subject: str, figure: str, sessions: int) -> float | None:
        """Return the least of one of a baseline's figures."""
        return least(self.baselines.get((subject, sessions), []), figure)

    def memory_of(self, subject: str, sessions: int) -> float | None:
        """Return the traced memory of one session."""
        return least(self.memory.get((subject, sessions), []), "memory_bytes")

    def share_of_exit(self, *, frozen: bool) -> float | None:
        """Return what the store adds to the end of a task: with a session, less with a callback."""
        takes = self.exits.get(frozen, [])
        stored, bare = least(takes, "stored_exit_ns"), least(takes, "bare_exit_ns")
        return None if stored is None or bare is None else stored - bare

    def all(self) -> Iterator[list[Figures]]:
        """Return the takes of every scene."""
        for kept in (self.store, self.baselines, self.memory, self.exits):
            yield from kept.values()


def measure(plan: Plan) -> Section:
    """Take every figure and return the registry's rows and grids."""
    return section_of(take(plan))


def section_of(takes: Takes) -> Section:
    """Make the rows and grids of what was taken; what was not reads `not measured`."""
    rows = (
        *_lookup_rows(takes),
        *_write_rows(takes),
        *_listing_rows(takes),
        *_exit_rows(takes),
        *_memory_rows(takes, takes.plan.middle),
    )
    grids = (*(_grid(takes, frozen=frozen) for frozen in COLLECTORS), _memory_grid(takes))
    controls = tuple(value for each in takes.all() for value in controls_of(each))
    return Section("registry", rows, grids, _notes(takes.plan), controls)


def take(plan: Plan) -> Takes:
    """Play every scene of the plan."""
    takes = Takes(plan)
    for sessions in plan.sizes:
        for turn in range(plan.repeats_at(sessions)):
            _take_costs(takes, sessions, first=turn == 0)
        # Tracing a million creates takes minutes; the resident set tells enough there.
        for subject in SUBJECTS if sessions != plan.large else ():
            say(f"memory of {subject} at {sessions:,}")
            facts = {"sessions": sessions, "tenants": plan.tenants(sessions)}
            figures = play(registry_scenes.memory, subject=subject, **facts)
            takes.memory.setdefault((subject, sessions), []).append(figures)
    for frozen in COLLECTORS:
        say(f"{plan.middle:,} agents ending at once, {COLLECTORS[frozen]}")
        facts = {"sessions": plan.middle, "tenants": plan.tenants(plan.middle)}
        figures = play(registry_scenes.exits, frozen=frozen, repeats=plan.repeats, **facts)
        takes.exits.setdefault(frozen, []).append(figures)
    return takes


def _take_costs(takes: Takes, sessions: int, *, first: bool) -> None:
    plan = takes.plan
    facts = {"sessions": sessions, "tenants": plan.tenants(sessions)}
    say(f"BEAM at {sessions:,}")
    takes.baselines.setdefault((BEAM, sessions), []).append(beam.figures(**facts))
    timed = {**facts, "lookups": plan.lookups}
    for frozen in COLLECTORS:
        say(f"store at {sessions:,}, {COLLECTORS[frozen]}")
        figures = play(registry_scenes.costs, subject="store", frozen=frozen, **timed)
        takes.store.setdefault((sessions, frozen), []).append(figures)
    if first:
        say(f"{TIMEOUT} at {sessions:,}")
        figures = play(registry_scenes.costs, subject=TIMEOUT, frozen=False, **timed)
        takes.baselines.setdefault((TIMEOUT, sessions), []).append(figures)


def _lookup_rows(takes: Takes) -> Iterator[Row]:
    at = takes.plan.middle
    ours = takes.of_store("get_in_order_ns", at)
    theirs = takes.of(BEAM, "get_ns", at)
    yield Row(f"get at {at:,}", ours, theirs, BEAM, Bound("at_least", 2))
    for order, words, limit in (("in_order", "creation", 4), ("random", "random", 7)):
        for sessions in takes.plan.sizes:
            yield Row(
                f"get at {sessions:,}, {words} order",
                takes.of_store(f"get_{order}_ns", sessions),
                takes.of_store(f"bare_get_{order}_ns", sessions),
                BARE,
                Bound("at_most", limit),
            )
    theirs = takes.of(TIMEOUT, "get_in_order_ns", at)
    yield Row(f"get at {at:,}", ours, theirs, TIMEOUT)


def _write_rows(takes: Takes) -> Iterator[Row]:
    at, small, large = takes.plan.middle, takes.plan.small, takes.plan.large
    beam_create = takes.of(BEAM, "create_ns", at)
    for frozen, limit in ((False, 1.4), (True, 2)):
        ours = takes.of_store("create_ns", at, frozen=frozen)
        name = f"create at {at:,}, {COLLECTORS[frozen]}"
        yield Row(name, ours, beam_create, BEAM, Bound("at_least", limit))
    for frozen, collector in COLLECTORS.items():
        yield Row(
            f"create at {large:,}, {collector}",
            takes.of_store("create_ns", large, frozen=frozen),
            takes.of_store("create_ns", small, frozen=frozen),
            f"itself at {small:,}",
            Bound("at_most", 4),
        )
    ours, theirs = takes.of_store("create_ns", at), takes.of(TIMEOUT, "create_ns", at)
    yield Row(f"create at {at:,}, {COLLECTORS[False]}", ours, theirs, TIMEOUT)
    ours, theirs = takes.of_store("delete_ns", at), takes.of(BEAM, "delete_ns", at)
    yield Row(f"delete at {at:,}", ours, theirs, BEAM, Bound("at_least", 2))


def _listing_rows(takes: Takes) -> Iterator[Row]:
    plan = takes.plan
    at, ours = plan.middle, takes.of_store("list_ns", plan.middle)
    name = f"list_by_tenant, {plan.per_tenant:,} of {at:,}"
    theirs = takes.of(BEAM, "list_select_ns", at)
    yield Row(name, ours, theirs, f"{BEAM}, select", Bound("at_least", 100))
    theirs = takes.of(BEAM, "list_filter_ns", at)
    yield Row(name, ours, theirs, f"{BEAM}, tab2list and filter")
    yield Row(name, ours, takes.of(TIMEOUT, "list_ns", at), TIMEOUT)
    for other in (at, plan.small):
        yield Row(
            f"list_by_tenant at {plan.large:,}, a result, tenant after tenant",
            takes.of_store("list_cold_ns", plan.large),
            takes.of_store("list_cold_ns", other),
            f"itself at {other:,}",
            Bound("at_most", 3) if other == at else None,
        )


def _exit_rows(takes: Takes) -> Iterator[Row]:
    theirs = takes.of(BEAM, "exit_ns", takes.plan.middle)
    for frozen, collector in COLLECTORS.items():
        yield Row(
            f"end of an agent, the store's share, {takes.plan.middle:,} at once, {collector}",
            takes.share_of_exit(frozen=frozen),
            theirs,
            f"{BEAM}, whole exit",
            Bound("at_most", 0.8),
        )


def _memory_rows(takes: Takes, at: int) -> Iterator[Row]:
    ours = takes.memory_of("store", at)
    theirs = takes.of(BEAM, "memory_bytes", at)
    name = f"memory a session at {at:,}"
    yield Row(name, ours, theirs, BEAM, Bound("at_most", 0.7), "B")
    yield Row(name, ours, takes.memory_of(TIMEOUT, at), TIMEOUT, unit="B")
    ours = takes.of_store("resident_bytes", at)
    theirs = takes.of(BEAM, "resident_bytes", at)
    yield Row(f"{name}, by the resident set", ours, theirs, BEAM, unit="B")


LINES = (
    ("get, creation order", "get_in_order_ns"),
    ("get, random order", "get_random_ns"),
    ("create", "create_ns"),
    ("delete", "delete_ns"),
    ("list_by_tenant, the whole list", "list_ns"),
    ("list_by_tenant, a result, tenant after tenant", "list_cold_ns"),
    ("a sweep for what expired", "sweep_ns"),
)
BEAM_NAMES = {
    "get_in_order_ns": "get_ns",
    "create_ns": "create_ns",
    "delete_ns": "delete_ns",
    "list_ns": "list_select_ns",
}


def _grid(takes: Takes, *, frozen: bool) -> Grid:
    lines = [(f"store: {words}", _across(takes, figure, frozen=frozen)) for words, figure in LINES]
    if not frozen:
        lines += [
            (f"{subject}: {words}", _baseline_across(takes, subject, figure))
            for subject in (BEAM, TIMEOUT)
            for words, figure in LINES
        ]
        lines += [(f"{BARE}: {words}", _across(takes, f"bare_{it}")) for words, it in LINES]
    columns = tuple(f"{sessions:,}" for sessions in takes.plan.sizes)
    known = tuple((name, line) for name, line in lines if any(it is not None for it in line))
    return Grid(f"One operation by sessions in the store, {COLLECTORS[frozen]}", columns, known)


def _across(takes: Takes, figure: str, *, frozen: bool = False) -> tuple[float | None, ...]:
    return tuple(takes.of_store(figure, it, frozen=frozen) for it in takes.plan.sizes)


def _baseline_across(takes: Takes, subject: str, figure: str) -> tuple[float | None, ...]:
    name = BEAM_NAMES.get(figure, "") if subject == BEAM else figure
    return tuple(takes.of(subject, name, it) for it in takes.plan.sizes)


def _memory_grid(takes: Takes) -> Grid:
    sizes = takes.plan.sizes
    lines = [(subject, tuple(takes.memory_of(subject, it) for it in sizes)) for subject in SUBJECTS]
    lines.append((BEAM, tuple(takes.of(BEAM, "memory_bytes", it) for it in sizes)))
    resident = "resident_bytes"
    lines.append(
        ("store, by the resident set", tuple(takes.of_store(resident, it) for it in sizes))
    )
    lines += [
        (f"{subject}, by the resident set", tuple(takes.of(subject, resident, it) for it in sizes))
        for subject in (TIMEOUT, BEAM)
    ]
    columns = tuple(f"{sessions:,}" for sessions in sizes)
    return Grid("Memory a session, agents apart", columns, tuple(lines), "B")


def _notes(plan: Plan) -> tuple[str, ...]:
    return (
        f"Times of the registry are the least of {plan.repeats} fresh interpreters or BEAMs "
        f"({plan.large_repeats} at {plan.large:,}, and of the dict with a timeout), on both sides "
        "with the loop around the calls included.",
        "`create` registers real, waiting asyncio tasks and is the mean over filling the empty "
        "store; the tasks, and the BEAM's agents, are made before.",
        "The bare dict holds id and agent; its lookups take turns with the store's, pass "
        "by pass over the same keys in one process, so that each finds the caches as the other "
        "left them.",
        f"Listings are of {plan.per_tenant:,} sessions at every size. The BEAM and the dict with a "
        "timeout list one tenant over and over, and so do we against them. `Tenant after tenant` "
        "visits all, so that the caches hold nothing of the next.",
        "The end of an agent: tasks that end in one iteration of the loop, each with a session, "
        "less the same with a callback that does nothing; the BEAM's figure is the whole exit, "
        "from the message that ends the first agent to the empty table.",
        "Memory is what was allocated and kept while the sessions were created, the agents made "
        "before: `tracemalloc` here, `:erlang.memory(:total)` there after the garbage of the "
        "measuring process was collected. Both count the blocks in use and not what the "
        "allocators hold in reserve; the row by the resident set counts that too, on both sides.",
    )
