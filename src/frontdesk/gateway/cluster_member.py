"""How a gateway takes part in a cluster: what whoever starts it says of it, and joining with that.

Above the gateway, which joins when it opens. The command line makes one; without one, a gateway is
alone, and nothing of a cluster is imported.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from frontdesk.cluster.node import Node
from frontdesk.cluster.node_records import NodeHooks
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.gateway.cluster_part import OpenedEngine
from frontdesk.gateway.forwarding.forwarding import Forwarding
from frontdesk.gateway.gateway import Gateway
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import last_incarnation, write_incarnation
from frontdesk.sessions.service import SessionService

logger: logging.Logger = logging.getLogger("frontdesk.cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMember:
    """What a gateway is in a cluster.

    Attributes:
        engine (OpenedEngine): Opened by the gateway.
        name (str): What the node is called over its restarts: `host/1`.
        listen (str): Where other nodes reach it: `unix:/path` or `host:port`.
        secret (bytes): Of all nodes.
        advertise (str | None): `host:port` under which they reach it, where that is another.
        tls_server, tls_client (ssl.SSLContext | None): Where nodes show each other certificates.
        terms (LeaseTerms): How long leases, graces and holds last.
        state (StateDir | None): Whose lock this process has: there is written as what it joined,
            and what the one before it had joined is buried at once.
        storage (Path | None): The socket on which a supervisor serves the storage of conversations.
    """

    engine: OpenedEngine
    name: str
    listen: str
    secret: bytes = field(repr=False)
    advertise: str | None = None
    tls_server: ssl.SSLContext | None = None
    tls_client: ssl.SSLContext | None = None
    terms: LeaseTerms = field(default_factory=LeaseTerms)
    state: StateDir | None = None
    storage: Path | None = None

    @asynccontextmanager
    async def joined(self, gateway: Gateway, config_digest: str) -> AsyncIterator[Node]:
        """Open the private listener and join; leave and close it at the end.

        The engine is open and the gateway's store is there. Its service is made over the node: it
        is asked for when there are sessions.
        """
        async with AsyncExitStack() as stack:
            await self._remove_predecessor()
            forwarding = Forwarding(
                gateway,
                listen=self.listen,
                advertise=self.advertise,
                secret=self.secret,
                tls_server=self.tls_server,
                tls_client=self.tls_client,
            )
            await stack.enter_async_context(forwarding)
            node = Node(
                self.engine,
                gateway.store,
                name=self.name,
                address=forwarding.address,
                config_digest=config_digest,
                terms=self.terms,
                clock=gateway.clock,
                hooks=self._hooks(lambda: gateway.service, gateway, forwarding),
            )
            await stack.enter_async_context(node)
            forwarding.join(node)
            yield node
        self._write("")

    async def _remove_predecessor(self) -> None:
        incarnation = None if self.state is None else last_incarnation(self.state)
        if incarnation is None:
            return
        ended, done = 0, False
        while not done:
            buried = await self.engine.bury(incarnation, proven=True)
            ended, done = ended + buried.ended, buried.done
        if ended:
            logger.warning("the node before this one died: %d of its sessions are lost", ended)

    def _write(self, incarnation: str) -> None:
        if self.state is None:
            return
        try:
            write_incarnation(self.state, incarnation)
        except OSError as error:
            # Whoever finds it dead then waits for its lease to run out.
            logger.warning("%s cannot be written: %s", self.state.incarnation, error.strerror)

    def _hooks(
        self, service: Callable[[], SessionService], gateway: Gateway, forwarding: Forwarding
    ) -> NodeHooks:
        metrics = gateway.metrics.cluster
        return NodeHooks(
            on_superseded=lambda key, fence: service().on_superseded(key, fence),
            on_isolated=lambda key, fence: service().on_isolated(key, fence),
            on_lost=gateway.on_session_lost,
            listener_age_s=forwarding.listener_age_s,
            ask_owner=forwarding.ask_owner,
            on_joining=self._write,
            on_renewal=metrics.on_renewal,
            on_era=metrics.on_era,
            on_repair=metrics.on_repair,
        )
