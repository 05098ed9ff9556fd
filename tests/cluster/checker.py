"""The laws of a cluster, and what breaks them in a history.

Each law is a function from the facts of a history to findings. None of them says more than a
history shows: what a fault may have caused, within the bounds that the documents name, is no
finding. A law that is never broken by a planted fault would be no law: `test_checker.py`.
"""

import heapq
import itertools
import math
from collections import Counter
from dataclasses import dataclass

from cluster import history as h
from cluster.history_facts import Bounds, Facts
from cluster.shared_laws import claims_have_one_owner, limits_hold, rates_hold

UNKNOWN_ID = "SessionNotFound"


@dataclass(frozen=True)
class Finding:
    """A law that does not hold, when, and what shows it."""

    law: str
    at: float
    text: str

    def __str__(self):
        return f"{self.at:.3f} {self.law}: {self.text}"


def findings(history, bounds=None):
    """Return what is wrong with a history, in the order of times; nothing if it is good."""
    facts = Facts(history, bounds or Bounds())
    found = [Finding(law, at, text) for law, check in LAWS.items() for at, text in check(facts)]
    return sorted(found, key=lambda finding: finding.at)


# -- owners ----------------------------------------------------------------------------------------


def one_owner_at_a_time(facts):
    """Of an id one owner is accepted at a time, in the order of fences."""
    for session_id in facts.creates_of_id:
        for first, second in itertools.pairwise(facts.accepted(session_id)):
            if (why := _both_accepted(facts, first, second)) is not None:
                yield second.answered_at, f"{session_id!r}: {why}"
    for event in _told_entries(facts):
        twice = [each for each, n in Counter(e.session_id for e in event.entries).items() if n > 1]
        if twice:
            yield event.at, f"{twice} stand twice in one answer"
    for dump in _settled(facts):
        living = [a.session_id for a in facts.agents.values() if a.lives(dump.asked_at, dump.at)]
        for session_id, count in Counter(living).items():
            if count > 1:
                yield dump.at, f"{session_id!r} still has {count} agents"


def _both_accepted(facts, first, second):
    """Return why a later owner should not have been accepted beside an earlier one, or None."""
    agent = facts.agents.get(first.agent)
    at = second.answered_at
    if first.agent == second.agent or agent is None or not agent.lives(second.asked_at, at):
        return None
    if facts.told.get((first.session_id, first.fence), math.inf) < at:
        return None
    both = f"{first.node} (fence {first.fence}) and {second.node} (fence {second.fence})"
    early = facts.dead_from(first.incarnation or first.node, second.asked_at)
    lost = facts.disturbed(None, first.asked_at, at, kinds={"lost"}, after=0)
    if early is not None and at < early and not lost:
        return f"{both}, although {first.node} could not be dead before {early:.3f}"
    # What stands still cannot stop its agent; and what an engine lost while its owner was away,
    # nobody could tell it again.
    cut = lost and facts.disturbed(first.node, first.asked_at, at)
    if cut or facts.disturbed(first.node, first.asked_at, at, kinds={"paused"}, after=0):
        return None
    return f"{both}, whose agent had not been stopped"


def no_create_is_doubled(facts):
    """A token has one fence, a fence one token, and an entry stands once."""
    tokens = {}
    for create in facts.creates.values():
        if len(set(create.fences)) > 1:
            yield create.answered_at, f"{create.session_id!r} got the fences {create.fences}"
        for fence in set(create.fences):
            if tokens.setdefault(fence, create.token) != create.token:
                yield create.answered_at, f"fence {fence} was given twice"
    for dump in facts.of(h.Dumped):
        for entry in dump.entries:
            create = facts.creates.get(entry.token)
            if create is not None and create.fences and entry.fence not in create.fences:
                yield dump.at, f"{entry.session_id!r} has {entry.fence}, was given {create.fence}"
        for token, count in Counter(each.token for each in dump.entries if each.token).items():
            if count > 1:
                yield dump.at, f"the entry of token {token} stands {count} times"


def fences_never_go_back(facts):
    """A create that began when another was over has the higher fence, through every era."""
    answered, highest = [], 0
    accepted = (create for create in facts.creates.values() if create.fences)
    for create in sorted(accepted, key=lambda create: create.asked_at):
        while answered and answered[0][0] < create.asked_at:
            highest = max(highest, heapq.heappop(answered)[1])
        if create.fence <= highest:
            yield create.answered_at, f"{create.session_id!r}: {create.fence} after {highest}"
        heapq.heappush(answered, (create.answered_at, create.fence))
    for dump in _settled(facts):
        for entry in dump.entries:
            accepted = facts.accepted(entry.session_id)
            for later in [each for each in accepted if each.answered_at < dump.asked_at][-1:]:
                if entry.fence < later.fence and not _is_told_again(facts, entry, later, dump):
                    told = f"{entry.session_id!r} has {entry.fence}"
                    yield dump.at, f"{told}, {later.fence} was accepted"


def _is_told_again(facts, entry, later, dump):
    """Tell whether an engine that lost the later of two owners may rightly have the earlier one.

    That one was away in the loss, and comes back. A later one that is there all the time, and has
    not ended, wins over it.
    """
    ended = (later.session_id, later.fence) in facts.told
    known = not ended and not facts.disturbed(later.node, later.asked_at, dump.asked_at, after=0)
    return not known and _away_in_a_loss(facts, entry.node)


def _away_in_a_loss(facts, node):
    """Tell whether the engine lost what it knew while a node could not tell it again."""
    return any(
        each.kind == "lost" and facts.disturbed(node, each.since, each.until)
        for each in facts.disturbances[None]
    )


def no_create_is_refused_without_cause(facts):
    """An id is refused as taken where somebody else may have it, and only there."""
    for event in facts.of(h.CreateAnswered):
        if event.refused == "SessionAlreadyExists":
            create = facts.creates[event.token]
            since = create.asked_at - facts.bounds.death_s - facts.bounds.rejoin_s
            others = [
                agent
                for agent in facts.agents_of_id[create.session_id]
                if agent.name != create.agent and agent.started < event.at and agent.ended > since
            ]
            reserved = any(
                each.session_id == create.session_id and each.node != create.node
                for each in facts.of(h.Reserved)
                if each.at < event.at
            )
            if (
                not others
                and not reserved
                and not facts.disturbed(None, since, event.at, kinds={"lost"})
            ):
                yield event.at, f"{create.session_id!r} is refused to {create.node}, and free"


def no_node_is_dead_too_early(facts):
    """What a node had is lost when its lease and its hold are over, and not before."""
    if facts.bounds.proven:
        return
    owners = {fence: each for each in facts.creates.values() for fence in each.fences}
    for event in facts.of(h.WatchTold):
        create = owners.get(event.fence)
        if event.reason == "lost" and create is not None and create.incarnation:
            dead_from = facts.dead_from(create.incarnation, event.at)
            if dead_from is not None and event.at < dead_from:
                yield event.at, f"{event.session_id!r} of {create.node}: before {dead_from:.3f}"


# -- entries and agents ----------------------------------------------------------------------------


def no_create_is_lost(facts):
    """A session that was accepted is found for as long as its agent lives and all is well."""
    for event in facts.of(h.LookedUp):
        if event.refused == UNKNOWN_ID:
            for create in _undisturbed(facts, event, event.session_id):
                yield event.at, f"{event.node} does not find {create.session_id!r} of {create.node}"
    for event in (*facts.of(h.Listed), *facts.of(h.Dumped)):
        if not getattr(event, "partial", False) and _is_whole(event):
            listed = {entry.session_id for entry in event.entries}
            for session_id in facts.creates_of_id.keys() - listed:
                for create in _undisturbed(facts, event, session_id):
                    yield event.at, f"{session_id!r} of {create.node} is not listed"


def _undisturbed(facts, event, session_id):
    """Return the accepted creates whose agents lived all through, and whose node was well."""
    since, until = event.asked_at, event.at
    if facts.disturbed(None, since, until, kinds={"lost"}):
        return
    for create in facts.accepted(session_id):
        agent = facts.agents.get(create.agent)
        if agent is None or create.answered_at >= since or not agent.lives(since, until):
            continue
        if not facts.disturbed(create.node, create.asked_at, until):
            yield create


def no_entry_outlives_its_agent(facts):
    """An entry is gone within the bound after its agent."""
    for event in _told_entries(facts):
        if not getattr(event, "partial", False):
            for entry in event.entries:
                yield from _ghost(facts, event, entry.session_id, entry.node, entry.token)
    for event in facts.of(h.LookedUp):
        # What a node remembers is as old as its pause, or as what it last heard of the engine.
        times, away = (event.asked_at, event.at), {"paused", "cut engine", "down"}
        unsure = any(facts.disturbed(who, *times, kinds=away) for who in (event.node, None))
        if event.owner is not None and not unsure:
            yield from _ghost(facts, event, event.session_id, event.owner)


def _ghost(facts, event, session_id, node, token=""):
    create = facts.creates.get(token)
    agents = [
        agent
        for agent in facts.agents_of_id[session_id]
        if agent.node == node and (create is None or create.agent == agent.name)
    ]
    if not agents:
        yield event.at, f"{session_id!r} on {node} never had an agent"
        return
    ended, asked = max(agent.ended for agent in agents), getattr(event, "asked_at", event.at)
    calm = facts.calm_since(node, ended, asked) if ended < asked else math.inf
    killed = any(
        each.kind == "gone" and each.touches(ended, asked) for each in facts.disturbances[node]
    )
    bound = facts.bounds.end_s + (facts.bounds.death_s if killed or calm > ended else 0)
    # A clock that is set back costs engine time what had passed since it last moved.
    bound += sum(ended <= jump <= asked for jump in facts.jumps) * facts.bounds.lease_s / 4
    if asked > calm + bound:
        yield event.at, f"{session_id!r} on {node}, whose agent ended at {ended:.3f}"


def every_live_agent_is_in_the_index(facts):
    """When faults are over and the bounds have passed, each live agent has its entry."""
    for dump in _settled(facts):
        entered = {(entry.session_id, entry.node) for entry in dump.entries}
        for agent in facts.agents.values():
            entered_by = agent.session_id, agent.node
            if agent.lives(dump.asked_at, dump.at) and entered_by not in entered:
                yield dump.at, f"{agent.session_id!r} of {agent.node} (agent {agent.name})"


def entries_are_up_to_date(facts):
    """When faults are over and the bounds have passed, an entry says what its session does."""
    for dump in _settled(facts):
        for entry in dump.entries:
            create = facts.creates.get(entry.token)
            agent = None if create is None else facts.agents.get(create.agent)
            if agent is not None and agent.model != entry.model:
                yield dump.at, f"{entry.session_id!r}: {entry.model} instead of {agent.model}"


def indexes_and_counts_equal_the_entries(facts):
    """What is kept besides the entries says the same as they do."""
    for dump in facts.of(h.Dumped):
        for kind, field in (("tenant", "tenant_id"), ("key", "api_key"), ("node", "node")):
            true = {}
            for entry in sorted(dump.entries, key=lambda entry: entry.fence):
                if (value := getattr(entry, field)) is not None:
                    true.setdefault(value, []).append(entry.session_id)
            kept = {name: list(ids) for name, ids in getattr(dump, f"{kind}s").items() if ids}
            if kind == "node":  # a name may stand for several incarnations, each in its own order
                kept, true = ({n: sorted(ids) for n, ids in e.items()} for e in (kept, true))
            if kept != true:
                yield dump.at, f"{kind}s: {kept} instead of {true}"
            for name in true.keys() | kept.keys():
                counted = dump.counts.get(f"{kind}:{name}", 0)
                if counted != len(true.get(name, ())):
                    yield dump.at, f"{kind} {name!r} counts {counted}"
        if dump.counts.get("all", len(dump.entries)) != len(dump.entries):
            yield dump.at, f"all count {dump.counts['all']} of {len(dump.entries)}"


def nodes_and_engine_agree(facts):
    """When faults are over and the bounds have passed, renewals find nothing to repair.

    The last ones count, and of the nodes that are left: a renewal beside a change may be on either
    side of it, and after that of a node that has died nothing more comes.
    """
    for dump in _settled(facts):
        last = {}
        for event in facts.of(h.Renewed):
            if dump.asked_at - facts.bounds.rejoin_s < event.at < dump.asked_at:
                last[event.node] = event
        for event in last.values():
            gone = facts.disturbed(event.node, event.at, dump.asked_at, kinds={"gone"}, after=0)
            if not event.matches and not gone:
                yield event.at, f"the last renewal of {event.node} does not match"


# -- watches ---------------------------------------------------------------------------------------


def watches_have_no_gap(facts):
    """A watch begins with a snapshot and has every later change, or says that it begins anew."""
    last = {}
    for event in facts.history:
        if isinstance(event, h.WatchBegan):
            if event.watcher in last and not event.resync:
                yield event.at, f"{event.watcher} got a second snapshot that does not say so"
            last[event.watcher] = event.revision, event.tenant_id is None
        elif isinstance(event, h.WatchTold):
            before, whole = last.get(event.watcher, (None, True))
            if before is None:
                yield event.at, f"{event.watcher} got a change before its snapshot"
            elif event.revision != before + 1 if whole else event.revision <= before:
                yield event.at, f"{event.watcher} got {event.revision} after {before}"
            last[event.watcher] = event.revision, whole


def watches_tell_what_there_is(facts):
    """Each change fits what the watch told before, and in the end it has told the entries."""
    states, ids = {}, {}
    for event in facts.history:
        if isinstance(event, h.WatchBegan):
            states[event.watcher] = {each.session_id: each.fence for each in event.entries}
            ids[event.watcher] = event.node, event.tenant_id
        elif isinstance(event, h.WatchTold):
            if (why := _take(states.setdefault(event.watcher, {}), event)) is not None:
                yield event.at, f"{event.watcher}: {why}"
        elif isinstance(event, h.WatchClosed):
            states.pop(event.watcher, None)
        elif isinstance(event, h.NodeGone):
            states = {name: each for name, each in states.items() if ids[name][0] != event.node}
        elif isinstance(event, h.Dumped) and event.settled:
            for watcher, state in states.items():
                true = _of_tenant(event.entries, ids.get(watcher, ("", None))[1])
                if state != true:
                    yield event.at, f"{watcher} has {state}, the index {true}"


def _of_tenant(entries, tenant_id):
    return {e.session_id: e.fence for e in entries if tenant_id in (None, e.tenant_id)}


def _take(state, event):
    """Apply a change to what a watch has told so far; return why it does not fit, or None."""
    held = state.get(event.session_id)
    if event.kind == "created":
        state[event.session_id] = event.fence
        return None if held is None else f"{event.session_id!r} created over fence {held}"
    if event.kind == "ended":
        state.pop(event.session_id, None)
    return None if held == event.fence else f"{event.kind} of {event.session_id!r}: had {held}"


# -- requests --------------------------------------------------------------------------------------


def no_request_for_a_live_session_fails(facts):
    """Whatever becomes of the engine, a session that lives, on a node that is reached, answers."""
    for event in facts.of(h.Requested):
        if event.outcome != "answered" and not _may_fail(facts, event):
            yield event.at, f"{event.session_id!r} at {event.node}: {event.outcome}"


def _may_fail(facts, event):
    since, until = event.asked_at, event.at
    # What the engine lost, nobody knows for a while: that may be answered with "ask again".
    if facts.disturbed(None, since, until, kinds={"lost"}) and event.outcome == "retry":
        return True
    if facts.disturbed(event.node, since, until, kinds={"paused", "cut nodes", "gone"}, after=0):
        return True
    for create in facts.accepted(event.session_id):
        agent = facts.agents.get(create.agent)
        if facts.told.get((create.session_id, create.fence), math.inf) <= until:
            continue  # the session has ended; its agent is being stopped
        if agent is not None and facts.isolated(agent, until):
            continue  # likewise, but the engine cannot be told
        if create.answered_at < since and agent is not None and agent.lives(since, until):
            if event.outcome == "retry" and facts.unheard_of(event.node, create.node, until):
                return True
            hop = {"paused", "cut nodes"}
            return facts.disturbed(create.node, since, until, kinds=hop, after=0) or facts.silent(
                create.node, since, until
            )
    return True


def _told_entries(facts):
    return (*facts.of(h.Dumped), *facts.of(h.Listed))


def _settled(facts):
    return [dump for dump in facts.of(h.Dumped) if dump.settled]


def _is_whole(event):
    return getattr(event, "tenant_id", None) is None and getattr(event, "api_key", None) is None


LAWS = {
    "double owner": one_owner_at_a_time,
    "doubled create": no_create_is_doubled,
    "refused create": no_create_is_refused_without_cause,
    "early death": no_node_is_dead_too_early,
    "lost create": no_create_is_lost,
    "ghost": no_entry_outlives_its_agent,
    "missing agent": every_live_agent_is_in_the_index,
    "out of date": entries_are_up_to_date,
    "wrong index": indexes_and_counts_equal_the_entries,
    "unsettled": nodes_and_engine_agree,
    "watch gap": watches_have_no_gap,
    "watch state": watches_tell_what_there_is,
    "failed request": no_request_for_a_live_session_fails,
    "fence back": fences_never_go_back,
    "over the limit": limits_hold,
    "over the rate": rates_hold,
    "claim taken": claims_have_one_owner,
}
