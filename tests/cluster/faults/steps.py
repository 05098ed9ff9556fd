"""What the tests of faults do again and again."""

import time

from support.cluster_nodes import PATIENCE_S
from support.waiting import eventually


def ids(prefix, number):
    """Return so many ids."""
    return [f"acme/{prefix}{each}" for each in range(number)]


def when_free(node, session, within_s=PATIENCE_S):
    """Create a session under an id as soon as it is given away; return the time of that.

    Until then it is refused as one that somebody has, or has who is not heard of.
    """
    seen = set()

    def created():
        refusal = node.refusal("create", session=session)
        seen.add(refusal)
        return not refusal

    eventually(created, within_s=within_s)
    assert seen <= {"", "SessionAlreadyExists", "OwnerSuspect"}, seen
    return time.monotonic()


def creates_again(node, session):
    """Wait until a node creates sessions again, by creating one."""

    def created():
        return node.refusal("create", session=session) in {"", "SessionAlreadyExists"}

    eventually(created, within_s=PATIENCE_S)


def condition(node):
    """Return how a node stands to the cluster, by itself."""
    return node.ask("local")["condition"]


def in_condition(node, wanted):
    """Wait until a node stands so to the cluster."""
    eventually(lambda: condition(node) == wanted, within_s=PATIENCE_S)


def heard_as(node, state, by):
    """Wait until a node is in a state, `gone` for none, as another one has heard."""

    def heard():
        return by.ask("nodes").get(node.name, ["gone"])[0] == state

    eventually(heard, within_s=PATIENCE_S)


def goes_on(node, *sessions):
    """See that sessions, wherever they are, are found by a node."""
    return all(node.refusal("find", session=each) == "" for each in sessions)


def never_gone(node, *sessions):
    """See that a node finds sessions, or says that it will be known: none is said to be gone."""
    return all(node.refusal("find", session=each) in {"", "Recovering"} for each in sessions)
