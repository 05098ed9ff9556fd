"""The checks of `frontdesk doctor` elsewhere: the gateway that runs, the engine, the nodes."""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from frontdesk import __version__
from frontdesk.cli.findings import Examined, Finding, finding_out
from frontdesk.cli.remote import asking
from frontdesk.errors import FrontdeskError, MissingExtra

if TYPE_CHECKING:
    from frontdesk.client import Client, Health, ListedNode
    from frontdesk.cluster.records import NodeStatus
    from frontdesk.cluster.valkey.engine import ValkeyEngine
    from frontdesk.cluster.valkey.server_status import ServerStatus
    from frontdesk.gateway.cluster_settings import ClusterSettings
    from frontdesk.gateway.settings import ServerSettings

ENGINE_S = 5.0
ROUND_TRIPS = 5
SLOW_MS, TOO_SLOW_MS = 10.0, 250.0
"""A round trip to the engine, of which each create makes one."""
ALIKE = "give all nodes the same keys, blueprints and limits, then SIGHUP"
CLOCK_S, CLOCK_WRONG_S = 2.0, 30.0
"""By how much the clocks of two machines may differ."""


def findings(examined: Examined) -> list[Finding]:
    """Return what is found elsewhere: of the gateway, of the engine, of the nodes."""
    found: list[Finding] = []
    nodes: Sequence[ListedNode | NodeStatus] | None = None
    with finding_out(found, "gateway"):
        asked, nodes = check_gateway(examined)
        found += asked
    cluster = None if examined.config is None else examined.config.cluster
    if cluster is not None and cluster.url is not None:
        with finding_out(found, "engine"):
            asked, of_engine = asyncio.run(check_engine(cluster))
            found += asked
            nodes = of_engine if of_engine is not None else nodes
    if nodes:
        found += check_nodes([seen_node(each) for each in nodes])
    return found


# -- the gateway -----------------------------------------------------------------------------------


def check_gateway(examined: Examined) -> tuple[list[Finding], Sequence[ListedNode] | None]:
    """Ask the gateway how it is, and with an operator's key for its nodes."""
    named = examined.url is not None or "FRONTDESK_URL" in os.environ
    url = examined.url if named or examined.config is None else usual_url(examined.config.server)
    try:
        with asking(url, examined.key_file, timeout_s=ENGINE_S) as client:
            check_port(client.url)
            health = client.health()
            now_s = time.time()
            found = [*findings_of_health(health, client.url), clock_against(health, now_s)]
            return found, nodes_of(client)
    except MissingExtra as error:
        return [Finding("gateway", "note", "was not asked", str(error))], None
    except (FrontdeskError, OSError) as error:
        if not named:
            advice = "start it with frontdesk serve, or say where it is with --url"
            return [Finding("gateway", "note", str(error), advice)], None
        advice = "look whether it runs, and whether --url or FRONTDESK_URL leads there"
        return [Finding("gateway", "wrong", str(error), advice)], None


def usual_url(server: ServerSettings) -> str | None:
    """Return where a gateway of this configuration is asked from here; None where nobody knows."""
    if server.port == 0:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - read
    scheme = "http" if server.tls_certificate is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}"


def check_port(url: str) -> None:
    """Raise `OSError` where nothing listens: a client would try again for a while."""
    parts = urlsplit(url)
    place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        socket.create_connection(place, timeout=ENGINE_S).close()
    except OSError as error:
        raise OSError(f"{url}: {error.strerror or error}") from None


def nodes_of(client: Client) -> Sequence[ListedNode] | None:
    """Return the nodes as an operator sees them; None where the key is no operator's."""
    with suppress(FrontdeskError):
        return client.operator.nodes().nodes
    return None


def findings_of_health(health: Health, url: str) -> Iterator[Finding]:
    """Give what a gateway says of itself that is not as it should be."""
    if health.version != __version__:
        text = f"{url} is Frontdesk {health.version}, this is {__version__}"
        yield Finding("gateway", "note", text, "use the same version on both ends")
    else:
        text = f"{url}, {health.sessions.active} sessions"
        yield Finding("gateway", "ok", text)
    if (cluster := health.cluster) is None:
        return
    if cluster.condition != "joined":
        advice = "look whether it reaches the engine: its log says since when"
        text = f"node {cluster.node} is {cluster.condition.replace('_', ' ')}"
        yield Finding("cluster", "wrong", text, advice)
    if cluster.config_differs:
        names = ", ".join(cluster.config_differs)
        advice = "give all nodes the same keys, blueprints and limits, then SIGHUP"
        yield Finding(
            "cluster", "wrong", f"other configuration than {cluster.node}: {names}", advice
        )


def clock_against(health: Health, now_s: float) -> Finding:
    """Hold the gateway's clock against this one."""
    apart_s = abs(datetime.fromisoformat(health.timestamp).timestamp() - now_s)
    text = f"{apart_s:.1f} s apart from the gateway's"
    advice = "set the clocks right: keys, tokens and certificates go by them"
    if apart_s > CLOCK_WRONG_S:
        return Finding("clock", "wrong", text, advice)
    return Finding("clock", "note" if apart_s > CLOCK_S else "ok", text, None)


# -- the engine ------------------------------------------------------------------------------------


async def check_engine(
    cluster: ClusterSettings,
) -> tuple[list[Finding], Sequence[NodeStatus] | None]:
    """Ask the engine of a configuration what it is, how it is set up, and how far away."""
    try:
        from frontdesk.cluster.valkey.connecting import connect
    except MissingExtra as error:
        return [Finding("engine", "wrong", "cannot be asked", str(error))], None
    from frontdesk.cli.joining import engine_of

    try:
        engine: ValkeyEngine = engine_of(cluster)  # type: ignore[assignment]  # of machines
        connection, status = await connect(engine.address, timeout_s=ENGINE_S)
        await connection.disconnect(nowait=True)
        async with asyncio.timeout(ENGINE_S * ROUND_TRIPS), engine:
            took_ms, nodes = await round_trips(engine)
    except (FrontdeskError, TimeoutError) as error:
        text = str(error) or f"no answer within {ENGINE_S * ROUND_TRIPS:g} s"
        advice = "look whether it runs, and whether cluster.url and its account lead there"
        return [Finding("engine", "wrong", text, advice)], None
    return [*findings_of_engine(status, cluster), round_trip_finding(took_ms)], nodes


async def round_trips(engine: ValkeyEngine) -> tuple[float, Sequence[NodeStatus]]:
    """Return how long a call takes in the middle, in milliseconds, and the nodes."""
    took: list[float] = []
    nodes: Sequence[NodeStatus] = ()
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        nodes = await engine.nodes()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), nodes


def findings_of_engine(status: ServerStatus, cluster: ClusterSettings) -> Iterator[Finding]:
    """Give what an engine says of itself. That it can be used at all is known by now."""
    values = status.values
    valkey = values.get("valkey_version")
    name = f"Valkey {valkey}" if valkey else f"Redis {values.get('redis_version')}"
    policy = values.get("maxmemory_policy", "noeviction")
    yield Finding("engine", "ok", f"{name} at {cluster.url}, eviction: {policy}")
    replicas = int(values.get("connected_slaves", "0"))
    if replicas and "min_slaves_good_slaves" not in values:
        text = f"{replicas} replicas, and it goes on without them"
        yield Finding("engine", "wrong", text, "set min-replicas-to-write 1 there")
    elif replicas:
        yield Finding("engine", "ok", f"{replicas} replicas, and it writes with them only")
    else:
        advice = "a replica, or a disk (appendonly yes), makes its restart cheaper for the nodes"
        yield Finding("engine", "note", "it has no replica", advice)


def round_trip_finding(took_ms: float) -> Finding:
    """Say how far away the engine is."""
    text = f"a round trip takes {took_ms:.1f} ms"
    advice = "put it nearer: each create waits for one"
    if took_ms > TOO_SLOW_MS:
        return Finding("engine", "wrong", text, advice)
    if took_ms > SLOW_MS:
        return Finding("engine", "note", text, advice)
    return Finding("engine", "ok", text)


# -- the nodes -------------------------------------------------------------------------------------


def seen_node(node: ListedNode | NodeStatus) -> ListedNode:
    """Return a node as an operator sees it, whoever told of it."""
    from frontdesk.client import ListedNode

    if isinstance(node, ListedNode):
        return node
    return ListedNode(
        name=node.node.name,
        incarnation=node.node.incarnation,
        state=node.state.value,
        lease_left_ms=round(node.lease_left_s * 1000),
        sessions=node.sessions,
        draining=node.draining,
        version=node.node.version,
        config_digest=node.node.config_digest,
        answering=False,
    )


def check_nodes(nodes: Sequence[ListedNode]) -> Iterator[Finding]:
    """Give what is not as it should be among the nodes: versions, leases, configurations."""
    check, well = "nodes", True
    for node in nodes:
        if node.state in ("suspect", "stalled") or node.lease_left_ms < 0:
            well = False
            advice = "look whether it runs and reaches the engine; in a while it is held to be dead"
            text = f"{node.name} is {node.state}, its lease has {node.lease_left_ms / 1000:.1f} s"
            yield Finding(check, "wrong", text, advice)
    if others := odd_ones([(node.name, node.version) for node in nodes]):
        well = False
        yield Finding(check, "note", f"versions differ: {others}", "finish the upgrade")
    if others := odd_ones([(node.name, node.config_digest) for node in nodes]):
        well = False
        yield Finding(check, "wrong", f"configurations differ: {others}", ALIKE)
    if well:
        yield Finding(check, "ok", f"{len(nodes)}, alike, with their leases")


def odd_ones(values: Sequence[tuple[str, str]]) -> str:
    """Return the names of those whose value is not that of most; none where all are alike."""
    usual = Counter(value for _, value in values).most_common(1)
    return ", ".join(name for name, value in values if value != usual[0][0])
