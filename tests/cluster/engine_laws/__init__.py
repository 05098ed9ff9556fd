"""The laws of an engine, as data: what every engine does, whichever it is.

    law        a law: an id, a sentence, a check; and how one is checked
    subject    what a law has to check it on: a cluster whose time the law moves
    members    nodes that take part, as a law sees them
    sessions, reservations, nodes, log, shared, eras    the laws, by what they are about

`LAWS` are all of them. Parametrize a test over them and call `check_law` with a factory that makes
a fresh `ClusterUnderTest` for each.
"""

from cluster.engine_laws import eras, log, nodes, reservations, sessions, shared
from cluster.engine_laws.law import EngineLaw, check_law

__all__ = ["LAWS", "EngineLaw", "check_law"]

LAWS = tuple(
    each
    for module in (sessions, reservations, nodes, log, shared, eras)
    for each in vars(module).values()
    if isinstance(each, EngineLaw)
)
