"""What operators, monitors and other agents get: health, what runs here, the agent card.

Beside the other answers; nothing of a tenant's is here but what `/ops` shows to operators.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from frontdesk.schemas.answer_schemas import Answer


class ActiveSessions(Answer, frozen=True, kw_only=True):
    """How many sessions live."""

    active: int


class MeterState(Answer, frozen=True, kw_only=True):
    """How many keys have used anything."""

    tracked_keys: int = msgspec.field(name="tracked_keys")


class NodesByState(Answer, frozen=True, kw_only=True):
    """How many nodes there are in each state, this one among them. Dead ones are gone."""

    alive: int
    stalled: int
    suspect: int
    leaving: int


class ClusterHealth(Answer, frozen=True, kw_only=True):
    """How this gateway stands to the other nodes of its cluster.

    `condition` is `joined`, or `cut_off` while it does not hear of its lease: what runs here goes
    on, and nothing is opened. `engine` is where the index is: a supervisor, or Valkey.
    """

    node: str
    condition: Literal["joined", "cut_off", "stalled", "rejoining", "left"]
    engine: Literal["supervisor", "valkey"]
    nodes: NodesByState
    config_differs: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="nodes with other keys, blueprints or limits than this one"),
    ]


class StorageHealth(Answer, frozen=True, kw_only=True):
    """Where conversations are stored, and whether what is said now can be."""

    store: Literal["sqlite", "postgresql"]
    available: bool


class Health(Answer, frozen=True, kw_only=True):
    """The server lives, and has so much to do.

    `cluster` is null where it is alone, `storage` where conversations are in memory.
    """

    status: Literal["ok"]
    version: str
    sessions: ActiveSessions
    meter: MeterState
    timestamp: Annotated[str, msgspec.Meta(description="ISO-8601, UTC")]
    cluster: ClusterHealth | None
    storage: StorageHealth | None


class Readiness(Answer, frozen=True, kw_only=True):
    """New work is taken."""

    status: Literal["ready"]


class LoggedIn(Answer, frozen=True, kw_only=True):
    """Whose key a browser is logged in with, until when, and what it may do.

    `readsText` is false for operators, unless the configuration lets them read what is said.
    """

    key_id: str
    tenant_id: str | None
    operator: bool
    scopes: tuple[str, ...]
    expires_at: int | None
    version: str
    reads_text: bool


class GatewayNumbers(Answer, frozen=True, kw_only=True):
    """How much there is of what a gateway holds."""

    sessions: int
    streams: int
    stuck: int
    keys: int
    metered_keys: int = msgspec.field(name="metered_keys")
    log_lines_dropped: int = msgspec.field(name="log_lines_dropped")


class GatewayStatus(GatewayNumbers, frozen=True, kw_only=True):
    """What runs here."""

    version: str
    draining: bool


class ListedNode(Answer, frozen=True, kw_only=True):
    """A node of the cluster, as this one has last heard of it.

    `leaseLeftMs` is below 0 where it has not renewed in time, or this node has not heard of it.
    Where `configDigest` differs from that of others, keys, blueprints or limits do.
    """

    name: str
    incarnation: str
    state: Literal["alive", "stalled", "suspect", "leaving"]
    lease_left_ms: int
    sessions: int
    draining: bool
    version: str
    config_digest: str
    answering: Annotated[bool, msgspec.Meta(description="whether it is the node that answers")]


class ErasedTenant(Answer, frozen=True, kw_only=True):
    """Nothing of a tenant's conversations is left; `conversations` is how many there were."""

    tenant_id: str
    status: Literal["erased"]
    conversations: int


class ListedNodes(Answer, frozen=True, kw_only=True):
    """Every node that is not dead, by name; none where the gateway is alone."""

    nodes: tuple[ListedNode, ...]


class AgentCapabilities(Answer, frozen=True, kw_only=True):
    """What an agent card says of the protocol."""

    streaming: bool
    push_notifications: bool


class AgentAuthentication(Answer, frozen=True, kw_only=True):
    """What an agent card says of keys."""

    schemes: tuple[str, ...]


class AgentCard(Answer, frozen=True, kw_only=True):
    """What other agents may know of this server."""

    name: str
    description: str
    version: str
    url: str
    documentation_url: str
    capabilities: AgentCapabilities
    default_input_modes: tuple[str, ...]
    default_output_modes: tuple[str, ...]
    authentication: AgentAuthentication
    skills: tuple[str, ...]
