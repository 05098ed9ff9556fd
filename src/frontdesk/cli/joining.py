"""What makes a run of the server a node of a cluster: its engine, its name, its private address.

Imported where there is a cluster only.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.cluster.local.engine import LocalEngine
from frontdesk.gateway.cluster_files import password_of, sentinel_password_of
from frontdesk.gateway.cluster_member import ClusterMember
from frontdesk.gateway.cluster_part import OpenedEngine
from frontdesk.gateway.cluster_settings import ClusterSettings
from frontdesk.gateway.node_tls import node_tls
from frontdesk.gateway.settings import Config
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.workers.sockets import engine_socket, storage_socket, worker_socket
from frontdesk.gateway.workers.worker_server import AssignedWorker

ASK_AGAIN_S = 1.0

logger: logging.Logger = logging.getLogger("frontdesk.cluster")


def member_of(config: Config, state: StateDir, worker: AssignedWorker | None) -> ClusterMember:
    """Return what a run is in its cluster: of machines, or of the workers of this one."""
    settings = config.cluster
    number = None if worker is None else worker.number
    if settings.url is None:
        assert worker is not None
        return ClusterMember(
            engine=LocalEngine(engine_socket(worker.sockets)),
            name=settings.node_name(number),
            listen=f"unix:{worker_socket(worker.sockets, worker.number)}",
            secret=state.master_secret(),
            terms=settings.terms,
            state=state,
            storage=storage_socket(worker.sockets),
        )
    tls = node_tls(settings)
    return ClusterMember(
        engine=engine_of(settings),
        name=settings.node_name(number),
        listen=settings.listening_of(number),
        advertise=settings.advertised_of(number),
        secret=state.master_secret(),
        tls_server=None if tls is None else tls.server,
        tls_client=None if tls is None else tls.client,
        terms=settings.terms,
        state=state,
    )


async def await_engine(settings: ClusterSettings, worker: AssignedWorker) -> None:
    """Wait until the engine answers; exit where the supervisor wants something meanwhile."""
    told = False
    while True:
        try:
            async with engine_of(settings) as engine:
                await engine.nodes()
        except EngineUnavailable as error:
            if not told:
                logger.warning("worker %d waits for the engine: %s", worker.number, error.problem)
            told = True
        else:
            return
        await asyncio.sleep(ASK_AGAIN_S)
        if worker.has_orders():
            # Whatever it is, the next process of this number begins with it.
            sys.exit(0)


def engine_of(settings: ClusterSettings) -> OpenedEngine:
    """Return the engine that a cluster of machines has; `MissingExtra` without its packages."""
    from frontdesk.cluster.valkey.engine import ValkeyEngine  # late: it comes with an extra
    from frontdesk.cluster.valkey.engine_address import EngineAddress

    assert settings.url is not None
    address = EngineAddress.parse(
        settings.url,
        password=password_of(settings),
        sentinel_user=settings.sentinel_user,
        sentinel_password=sentinel_password_of(settings),
        ca=settings.ca,
        certificate=settings.certificate,
        key=settings.certificate_key,
        prefix=settings.key_prefix,
    )
    return ValkeyEngine(address)
