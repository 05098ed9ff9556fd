"""The laws of what nodes share besides who has a session: limits, rates and claims."""

from cluster import history as h


def limits_hold(facts):
    """A session is accepted only where its tenant has fewer than it may have at once."""
    for create in facts.creates.values():
        if create.limit is None or not create.fences:
            continue
        others = {
            each.agent
            for each in facts.creates.values()
            if each.tenant_id == create.tenant_id
            and each.agent != create.agent
            and _is_entered(facts, each, create.asked_at, create.answered_at)
        }
        if len(others) >= create.limit:
            there = f"{len(others)} of {create.tenant_id!r}, of {create.limit} that may be"
            yield create.answered_at, f"{create.session_id!r} beside {there}"


def _is_entered(facts, create, since, until):
    """Tell whether a session was in the index for certain, all that time.

    What a recovery has not told yet, or of a node that may be held to be dead, is not.
    """
    agent = facts.agents.get(create.agent)
    return (
        create.answered_at < since
        and agent is not None
        and agent.lives(since, until)
        and facts.told.get((create.session_id, create.fence), until + 1) > until
        and not facts.disturbed(create.node, create.asked_at, until)
        and not facts.disturbed(None, create.asked_at, until, kinds={"lost"}, after=0)
    )


def rates_hold(facts):
    """In any window no more are let do what is counted than may be."""
    taken = {}
    for event in facts.of(h.RateTaken):
        before = taken.setdefault(event.counted, [])
        before.append(event)
        since = event.at - event.window_s
        # A clock that jumps moves the window on; what an engine has lost does not count.
        inside = sorted(
            (one for one in before if one.asked_at > since), key=lambda one: one.asked_at
        )
        if len(inside) > event.limit and not _is_moved(facts, inside[0].asked_at, event.at):
            yield event.at, f"{len(inside)} of {event.counted!r} within {event.window_s} s"


def _is_moved(facts, since, until):
    jumped = any(since <= jump <= until for jump in facts.jumps)
    return jumped or facts.disturbed(None, since, until, kinds={"lost"}, after=0)


def claims_have_one_owner(facts):
    """A claim stays with the node that has it, until its time is over or that node is dead."""
    asked, answered = {}, {}
    for event in facts.of(h.ClaimAsked):
        asked.setdefault((event.slot, event.incarnation), event)
    for event in facts.of(h.ClaimAnswered):
        before = answered.setdefault(event.slot, [])
        earlier = [one for one in before if one.at < event.asked_at]
        before.append(event)
        if earlier and earlier[-1].owner != event.owner:
            owner = earlier[-1].owner
            if not _may_be_over(facts, asked.get((event.slot, owner)), event):
                yield event.at, f"{event.slot!r} of {owner} is {event.owner}'s"


def _may_be_over(facts, first, event):
    """Tell whether what a node claimed may be free again by the time of another answer."""
    if first is None:
        return True  # drawn for it by another node
    jumps = sum(first.at <= jump <= event.at for jump in facts.jumps)
    ended = event.at >= first.at + first.ttl_s - jumps * facts.bounds.lease_s / 2
    dead_from = facts.dead_from(first.incarnation, event.at)
    dead = dead_from is None or event.at >= dead_from
    left = facts.disturbed(first.node, first.at, event.at, kinds={"gone"}, after=0)
    lost = facts.disturbed(None, first.at, event.at, kinds={"lost"}, after=0)
    return ended or dead or left or lost
