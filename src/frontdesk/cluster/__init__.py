"""The cluster: one registry over many nodes. An index in an engine, rebuilt from the nodes.

    records     what nodes and engines say to each other: entries, nodes, ends, pages of the log
    errors      what can go wrong between them
    engine      the seam: the verbs of an engine, over our records
    terms       how long leases, graces and holds last

Every node keeps its own sessions in a `SessionStore`, which is the authority on them; the engine
can be lost. It knows no HTTP: how a request reaches the owner is the gateway's.
"""

from __future__ import annotations

from frontdesk.cluster import errors as _errors
from frontdesk.cluster.errors import *  # noqa: F403 - each is public

__all__: list[str] = []
__all__ += _errors.__all__
