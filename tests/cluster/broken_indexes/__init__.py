"""Indexes with one fault each, and the law that is meant to catch it.

Each fault is one that an author of such an engine, or of its scripts, could make without noticing:
`test_broken_indexes.py` shows that none of them passes. They stand as the laws do that catch them.
"""

from cluster.broken_indexes import eras, nodes, reservations, sessions, shared

CAUGHT_BY = {
    **eras.CAUGHT_BY,
    **nodes.CAUGHT_BY,
    **reservations.CAUGHT_BY,
    **sessions.CAUGHT_BY,
    **shared.CAUGHT_BY,
}
"""Each broken index, and the law that says what is wrong with it."""
