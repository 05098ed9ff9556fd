"""The metrics: name, kind, meaning and labels of each. The one list.

What counts takes them from here by name, the exposition says what each means, and `make format`
writes the table of the documents from it. No label is an id, a text, or anything else that callers
can make up without a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "frontdesk_"


class MetricKind(StrEnum):
    """What a number does over time."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merging(StrEnum):
    """What becomes of the same gauge of several workers."""

    SUM = "sum"
    GREATEST = "greatest"


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric.

    Attributes:
        name (str): As it is exposed.
        kind (MetricKind): What it does over time.
        meaning (str): One sentence.
        labels (tuple[str, ...]): What it is told apart by.
        buckets (tuple[float, ...]): Of a histogram: the upper bounds but the last, infinity.
        merging (Merging): Of a gauge: what the one of several workers is.
    """

    name: str
    kind: MetricKind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merging: Merging = Merging.SUM

    @property
    def is_gauge(self) -> bool:
        """Say whether it is what there is now, and not what has been counted."""
        return self.kind is MetricKind.GAUGE


QUICK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds for what takes a round trip."""
REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TURN_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
PERSON_S = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
"""Bounds for what waits for somebody."""


def _counter(name: str, *labels: str, meaning: str, own: bool = True) -> MetricDefinition:
    return MetricDefinition(PREFIX * own + name, MetricKind.COUNTER, meaning, labels)


def _gauge(
    name: str, *labels: str, meaning: str, merging: Merging = Merging.SUM, own: bool = True
) -> MetricDefinition:
    return MetricDefinition(PREFIX * own + name, MetricKind.GAUGE, meaning, labels, merging=merging)


def _histogram(
    name: str, *labels: str, meaning: str, buckets: tuple[float, ...]
) -> MetricDefinition:
    return MetricDefinition(PREFIX + name, MetricKind.HISTOGRAM, meaning, labels, buckets)


SESSIONS = (
    _gauge(
        "sessions",
        "tenant",
        "state",
        meaning=(
            "Live sessions: idle, working, waiting_approval, waiting_input, restarting, stopping."
        ),
    ),
    _counter("session_starts_total", "tenant", "blueprint", meaning="Sessions that were opened."),
    _counter(
        "session_ends_total",
        "tenant",
        "blueprint",
        "reason",
        meaning="Sessions that have ended, by the kind of their exit reason.",
    ),
    _histogram(
        "session_start_seconds",
        meaning="From a create that was let in to the session's first agent being registered.",
        buckets=TURN_S,
    ),
    _histogram(
        "cleanup_seconds",
        meaning="From an agent's death, as this process learns of it, to the end of its entry.",
        buckets=(0.0001, 0.00025, *QUICK_S),
    ),
    _gauge("agents_stuck", meaning="Turns that were given up and still run: deaf to cancellation."),
    _gauge("agent_processes", meaning="Agents in processes of their own."),
)
CONVERSATIONS = (
    _gauge("conversations_dormant", meaning="Dormant conversations that are held in memory."),
    _counter(
        "session_dormant_total",
        "tenant",
        "blueprint",
        "reason",
        meaning="Sessions that became dormant, by the kind of their agent's exit reason.",
    ),
    _counter(
        "session_dormant_ends_total",
        "tenant",
        "blueprint",
        meaning="Sessions that ended while they were dormant; among all that ended, too.",
    ),
    _counter(
        "session_resumes_total",
        "tenant",
        "blueprint",
        "memory",
        meaning=(
            "Dormant sessions that got an agent, by what it knows of before: kept, rebuilt, none."
        ),
    ),
    _counter(
        "turns_interrupted_total",
        meaning="Turns that were cut off with an earlier process, and ended at this one's start.",
    ),
    _counter("conversations_erased_total", meaning="Conversations that were erased."),
    _gauge(
        "storage_unavailable",
        merging=Merging.GREATEST,
        meaning="1 while conversations cannot be stored, else 0.",
    ),
    _gauge("storage_backlog_bytes", meaning="What was said and is not committed yet."),
    _gauge(
        "storage_file_bytes",
        merging=Merging.GREATEST,
        meaning="Size of the file of conversations and its log; 0 where they are elsewhere.",
    ),
    _histogram(
        "storage_commit_seconds",
        meaning="From a batch's being handed over to its being on the disk.",
        buckets=QUICK_S,
    ),
    _counter("storage_committed_bytes_total", meaning="What was said and committed."),
)
TURNS = (
    _counter(
        "turns_total",
        "tenant",
        "blueprint",
        "outcome",
        meaning=(
            "Turns that have ended: completed, aborted, deadline, error, guardrail, agent_ended, "
            "session_ended."
        ),
    ),
    _histogram("turn_seconds", meaning="From a turn's begin to its end.", buckets=TURN_S),
    _histogram(
        "first_output_seconds",
        meaning="From a turn's begin to the first piece of a message or thought.",
        buckets=TURN_S,
    ),
    _gauge("prompts_queued", meaning="Prompts that wait for their turn."),
    _gauge("approvals_pending", meaning="Approvals that wait for somebody."),
    _histogram(
        "approval_wait_seconds",
        meaning="How long approvals waited for their answer.",
        buckets=PERSON_S,
    ),
    _counter(
        "tokens_total",
        "tenant",
        "model",
        "kind",
        meaning="Tokens used: prompt (not from a cache), cached, completion; they add up.",
    ),
    _counter("cost_usd_total", "tenant", "model", meaning="What model calls cost, in USD."),
)
STREAMS = (
    _gauge(
        "streams",
        "kind",
        meaning="What clients hold open: events, websocket, rows, wait; passed_on to other nodes.",
    ),
    _counter("events_total", meaning="Events of sessions."),
    _counter(
        "stream_gaps_total",
        meaning="Streams that could not resume where their client asked: it was not held any more.",
    ),
    _counter(
        "slow_readers_total", meaning="Streams that were cut because their client read too slowly."
    ),
)
HTTP = (
    _counter(
        "http_requests_total",
        "route",
        "method",
        "status",
        meaning=(
            "Requests of clients, when they are over; a stream's when it ends. The status is left "
            "where the client left before an answer."
        ),
    ),
    _histogram(
        "http_request_seconds",
        "route",
        meaning="How long requests took, but for streams and WebSockets.",
        buckets=REQUEST_S,
    ),
    _counter(
        "refusals_total",
        "error",
        meaning="Requests and messages of WebSockets that were refused, by the error's code.",
    ),
)
PROCESS = (
    _histogram(
        "loop_lag_seconds",
        meaning="How late the event loop came to what was due; measured once a second.",
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    ),
    _counter("log_lines_dropped_total", meaning="Lines of the log that nobody took in time."),
    _gauge(
        "build_info",
        "version",
        "python",
        meaning="Always 1: what runs here.",
        merging=Merging.GREATEST,
    ),
    _counter(
        "process_cpu_seconds_total",
        "worker",
        own=False,
        meaning="CPU time, user and system; a worker's number goes on after its death.",
    ),
    _gauge("process_resident_memory_bytes", "worker", own=False, meaning="Resident memory."),
    _gauge("process_virtual_memory_bytes", "worker", own=False, meaning="Virtual memory."),
    _gauge(
        "process_start_time_seconds",
        "worker",
        own=False,
        meaning="When the process was started, in seconds since the epoch.",
    ),
    _gauge("process_open_fds", "worker", own=False, meaning="Open descriptors."),
    _gauge("process_max_fds", "worker", own=False, meaning="How many descriptors may be open."),
)
CLUSTER = (
    _gauge(
        "nodes",
        "state",
        merging=Merging.GREATEST,
        meaning="Nodes of the cluster, as the one that answers sees them: do not add up.",
    ),
    _gauge(
        "node_configurations",
        merging=Merging.GREATEST,
        meaning="Different configurations among the nodes that live; more than 1 is a mistake.",
    ),
    _gauge("node_cut_off", meaning="Nodes here that are cut off from the engine: 0 or 1 of each."),
    _gauge(
        "lease_age_seconds",
        merging=Merging.GREATEST,
        meaning="Since when the lease was not renewed; of several workers the oldest.",
    ),
    _histogram("engine_call_seconds", "verb", meaning="How long the engine took.", buckets=QUICK_S),
    _counter(
        "engine_errors_total",
        "kind",
        meaning="Calls of the engine that failed: unavailable, recovering, lease_lost, refused.",
    ),
    _counter(
        "eras_total",
        meaning="How often the engine had lost what it knew and began anew; counted by each node.",
    ),
    _counter(
        "repairs_total",
        "kind",
        meaning="Repairs between a node and the engine: rejoin, restore, reconcile.",
    ),
    _counter(
        "forwards_total",
        "outcome",
        meaning="Requests passed on to other nodes: answered, unreachable, refused, left.",
    ),
    _histogram(
        "forward_seconds",
        meaning="How long passed requests took, but for streams and WebSockets.",
        buckets=REQUEST_S,
    ),
)
GROUPS: dict[str, tuple[MetricDefinition, ...]] = {
    "Sessions": SESSIONS,
    "Conversations": CONVERSATIONS,
    "Turns": TURNS,
    "Streams": STREAMS,
    "HTTP": HTTP,
    "Process": PROCESS,
    "Cluster": CLUSTER,
}
METRICS: dict[str, MetricDefinition] = {
    each.name: each for group in GROUPS.values() for each in group
}
"""All of them, by name, in the order of the documents."""
