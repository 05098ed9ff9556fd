"""The cluster: one registry over many nodes. An index in an engine, rebuilt from the nodes.

    records, node_records   what nodes and engines say to each other: entries, nodes, ends, the log
    errors                  what can go wrong between them
    terms                   how long leases, graces and holds last
    engine                  the seam: the verbs of an engine, over our records
    index/, local/          the verbs as a model; the supervisor that serves it, for one machine
    valkey/                 the same verbs as scripts of Valkey or Redis, for several machines
    node                    one process's part in it; made of the parts that it names
    cluster_store           the verbs of `SessionStore` over all nodes
    cluster_watch, remote_agent   what that hands out

Every node keeps its own sessions in a `SessionStore`, which is the authority on them; the engine
can be lost. It knows no HTTP: how a request reaches the owner is the gateway's.

The public names are imported when they are asked for: who needs an engine imports no other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from frontdesk.cluster import errors as _errors
from frontdesk.cluster.errors import *  # noqa: F403 - each is public

if TYPE_CHECKING:
    from frontdesk.cluster.cluster_store import ClusterStore
    from frontdesk.cluster.cluster_watch import ClusterWatch
    from frontdesk.cluster.local.engine import LocalEngine
    from frontdesk.cluster.local.server import LocalServer
    from frontdesk.cluster.node import Node
    from frontdesk.cluster.records import IndexLimits
    from frontdesk.cluster.remote_agent import RemoteAgent
    from frontdesk.cluster.terms import LeaseTerms
    from frontdesk.cluster.valkey.engine import ValkeyEngine
    from frontdesk.cluster.valkey.engine_address import EngineAddress

_MODULE_OF = {
    "ClusterStore": "cluster_store",
    "ClusterWatch": "cluster_watch",
    "EngineAddress": "valkey.engine_address",
    "IndexLimits": "records",
    "LeaseTerms": "terms",
    "LocalEngine": "local.engine",
    "LocalServer": "local.server",
    "Node": "node",
    "RemoteAgent": "remote_agent",
    "ValkeyEngine": "valkey.engine",
}

__all__ = [
    "ClusterStore",
    "Node",
    "ClusterWatch",
    "RemoteAgent",
    "IndexLimits",
    "LeaseTerms",
    # where the index is
    "LocalServer",
    "LocalEngine",
    "ValkeyEngine",
    "EngineAddress",
]
__all__ += _errors.__all__


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
