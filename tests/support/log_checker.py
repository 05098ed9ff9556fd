"""What is wrong with a session's log, held against what its client had and what its agent saw."""

from collections import Counter
from dataclasses import dataclass, field

ENDS = ("agent_end", "agent_abort")
BEGINS = "prompt_received"


@dataclass
class Had:
    """What a client had: events as (id, type, data), and the ids of prompts that were accepted.

    `turns` are the request ids that agents were given, each time that they were.
    """

    events: list = field(default_factory=list)
    accepted: list = field(default_factory=list)
    turns: list = field(default_factory=list)


def problems_of(log, had):
    """Return the sentences that say what is wrong with a log; none where all is right."""
    return [*_order(log), *_turns(log), *_promises(log, had)]


def _order(log):
    indices = [int(event_id.split("-")[1]) for event_id, _, _ in log]
    fences = [int(event_id.split("-")[0]) for event_id, _, _ in log]
    if indices != list(range(1, len(log) + 1)):
        yield f"indices are not 1, 2, 3, ...: {indices}"
    if fences != sorted(fences):
        yield f"a fence is below one before it: {fences}"


def _turns(log):
    begun = Counter(data["requestId"] for _, kind, data in log if kind == BEGINS)
    ended = Counter(data["requestId"] for _, kind, data in log if kind in ENDS)
    for request_id in {*begun, *ended}:
        if begun[request_id] != 1:
            yield f"turn {request_id} begins {begun[request_id]} times"
        if ended[request_id] != 1:
            yield f"turn {request_id} ends {ended[request_id]} times"
    running = None
    for event_id, kind, data in log:
        request_id = data.get("requestId")
        if request_id is not None and kind != BEGINS and request_id != running:
            yield f"event {event_id} ({kind}) is outside its turn"
        if kind == BEGINS:
            running = request_id
        elif kind in ENDS:
            running = None


def _promises(log, had):
    by_id = {event_id: (event_id, kind, data) for event_id, kind, data in log}
    for event in had.events:
        if by_id.get(event[0]) != event:
            yield f"event {event[0]} was seen as {event[1:]} and is {by_id.get(event[0])}"
    ended = {data["requestId"] for _, kind, data in log if kind in ENDS}
    for request_id in had.accepted:
        if request_id not in ended:
            yield f"prompt {request_id} was accepted and has no end"
    for request_id, count in Counter(had.turns).items():
        if count > 1:
            yield f"an agent was given turn {request_id} {count} times"
