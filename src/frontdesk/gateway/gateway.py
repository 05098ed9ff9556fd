"""The gateway without its protocols: everything that one running server shares, and its life.

Below the middleware and the routes, above the session service. It opens what there is to open in
order (state, keys, meter, callback tools, store, session service) and closes it in the other; in
between it follows revoked keys, reloads the configuration when asked, and drains. It knows nothing
of HTTP messages.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.errors import CreateFailed
from frontdesk.agents.records import CreateSession
from frontdesk.clock import Clock, SystemClock
from frontdesk.gateway.attachment_reader import AttachmentReader
from frontdesk.gateway.auth import Authenticator
from frontdesk.gateway.blueprint_config import blueprints_of
from frontdesk.gateway.budgets import TenantBudgets
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.conversation_settings import MEMORY, SQLITE
from frontdesk.gateway.conversation_storage import ConversationStorage, end_process
from frontdesk.gateway.dashboard_login import DashboardLogins
from frontdesk.gateway.errors import AddressRefused, Unauthorized
from frontdesk.gateway.forwarded import TrustedProxies
from frontdesk.gateway.guardrails import TenantGuardrails
from frontdesk.gateway.idempotency import Idempotency
from frontdesk.gateway.key_file import KeyFile
from frontdesk.gateway.key_ring import KeyRing
from frontdesk.gateway.keys import Key
from frontdesk.gateway.known_blueprints import KnownBlueprints
from frontdesk.gateway.metering import UsageMeter
from frontdesk.gateway.metrics.gateway_metrics import GatewayMetrics
from frontdesk.gateway.node_tls import NodeTls
from frontdesk.gateway.observers import Observers
from frontdesk.gateway.open_streams import OpenStreams
from frontdesk.gateway.rate_limit import RateLimit
from frontdesk.gateway.request_bodies import RequestBodies
from frontdesk.gateway.rows.local_rows import LocalRows
from frontdesk.gateway.rows.lost_sessions import LostSessions
from frontdesk.gateway.rows.row_scopes import RowScopes
from frontdesk.gateway.session_log import SessionLog
from frontdesk.gateway.session_tokens import SessionTokens
from frontdesk.gateway.settings import Config
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.stored_conversations import keeping_settings, storage_limits
from frontdesk.gateway.tool_webhooks import Callbacks
from frontdesk.gateway.tracing.tracing import Tracing
from frontdesk.keeper.client import Keeper
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.schemas.operator_schemas import StorageHealth
from frontdesk.sessions.context import SessionSettings
from frontdesk.sessions.errors import Draining
from frontdesk.sessions.service import SessionService
from frontdesk.sessions.tenant_sessions import TenantSessions
from frontdesk.store import Limits, SessionStore

if TYPE_CHECKING:
    # Late: they come with extras, or with a cluster.
    from frontdesk.cluster.node import Node
    from frontdesk.gateway.cluster_part import ClusterPart
    from frontdesk.gateway.cluster_rate import ClusterRate
    from frontdesk.gateway.cluster_usage import ClusterUsage
    from frontdesk.gateway.elsewhere import Elsewhere
    from frontdesk.gateway.identity_provider import IdentityProvider
    from frontdesk.gateway.placement import Placement
    from frontdesk.gateway.request_context import RequestContext
    from frontdesk.records import Ended

FOLLOW_KEYS_S = 0.25

logger: logging.Logger = logging.getLogger("frontdesk.gateway")


class Gateway:
    """Everything that requests share. An async context manager, for one event loop.

    `blueprints` of None are made from the configuration, with a keeper for those in processes.
    `keys` are let in beside those of the state directory (from the environment, for instance).
    `cluster` is its part in one, None where it is alone; then `node` is None. `state` is a
    worker's; else it is the configuration's directory. Before it is entered and after it is left,
    every request is answered with 503. `meter` counts here; `usage` says what was used, on all
    nodes where there are others.
    """

    config: Config
    open: bool
    ring: KeyRing
    tokens: SessionTokens
    authenticator: Authenticator
    meter: UsageMeter
    usage: UsageMeter | ClusterUsage
    budgets: TenantBudgets
    callbacks: Callbacks
    store: SessionStore
    service: SessionService
    known: KnownBlueprints
    rows: LocalRows
    scopes: RowScopes
    attachments: AttachmentReader
    tracing: Tracing | None = None
    """The spans of requests and turns; None where nobody traces."""
    _provider: IdentityProvider | None = None
    _commits: CommitQueue | None = None
    _lost: LostSessions | None = None

    def __init__(
        self,
        config: Config,
        *,
        blueprints: Blueprints | None = None,
        keys: Iterable[Key] = (),
        clock: Clock | None = None,
        cluster: ClusterPart | None = None,
        state: StateDir | None = None,
    ) -> None:
        self.config = config
        self.node: Node | None = None
        self.placement: Placement | None = None
        """Which node opens a session; None where there is but this one."""
        self.cluster_rate: ClusterRate | None = None
        """What counts requests with other nodes, in place of `rate`."""
        self.clock: Clock = clock or SystemClock()
        self.proxies: TrustedProxies = TrustedProxies(config.server.trusted_proxies)
        self.streams: OpenStreams = OpenStreams(per_key=config.limits.streams_per_key)
        self.bodies: RequestBodies = RequestBodies(max_bytes=config.limits.body_bytes_per_key)
        self.rate: RateLimit = RateLimit(
            per_minute=config.limits.requests_per_minute, what="requests", clock=self.clock
        )
        self.idempotency: Idempotency = Idempotency(clock=self.clock)
        self.guardrails: TenantGuardrails = TenantGuardrails(config)
        self.run_id: str = secrets.token_hex(6)
        """Tells this run's positions in feeds from any other's."""
        self.observers: Observers = Observers()
        """Who sees what sessions do."""
        stored = config.conversations.store != MEMORY
        self.metrics: GatewayMetrics = GatewayMetrics(state, clock=self.clock, stored=stored)
        self.open = False
        self.forwarding: Elsewhere | None = None
        """Of a node of a cluster: where requests for other nodes' sessions go."""
        self.respond: Callable[[RequestContext], Awaitable[None]] | None = None
        """What answers a request that was let in: the middleware's."""
        self._given, self._cluster, self._state = blueprints, cluster, state
        self._keeper: Keeper | None = None
        self._keys = tuple(keys)
        self._stack = AsyncExitStack()

    # -- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Gateway:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        self.open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.open = False
        await self._stack.aclose()

    async def _open(self) -> None:
        enter = self._stack.enter_context
        state = self._state or StateDir.make(
            self.config.server.state_dir, secret_file=self.config.cluster.secret_file
        )
        await self._open_keys(state)
        if self._given is None:
            # Before anything here starts a thread, and ended after all that uses it.
            keeper = Keeper(journals=state.processes, hidden=state.path)
            self._keeper = await self._stack.enter_async_context(keeper)
            if keeper.not_enforced:
                logger.warning("agents are not kept apart: %s", "; ".join(keeper.not_enforced))
            self._blueprints = blueprints_of(self.config, keeper)
        else:
            self._blueprints = self._given
        days = self.config.limits.usage_days
        self.meter = enter(UsageMeter(state, clock=self.clock, stored_days=days))
        self.usage = self.meter
        if self._cluster is not None:
            await self._share_usage(self._cluster, state)
        self.budgets = TenantBudgets(self.config, meter=self.usage, clock=self.clock)
        callbacks = Callbacks.of(self.config.callbacks, state, clock=self.clock)
        self.callbacks = await self._stack.enter_async_context(callbacks)
        await self._open_sessions(state)
        reader = AttachmentReader(
            callbacks.guard,
            room=self.service.attachments,
            settings=lambda: self.config.attachments,
        )
        self.attachments = await self._stack.enter_async_context(reader)
        self._run_in_background(self._follow_keys(), name="frontdesk-keys")
        self.known = await self._stack.enter_async_context(KnownBlueprints(self._blueprints))

    async def _open_sessions(self, state: StateDir) -> None:
        """Make the registry, join the cluster with it, and serve sessions over it."""
        limits = self.config.options(Limits)
        self.store = self._stack.enter_context(SessionStore(limits=limits, clock=self.clock))
        if self._cluster is not None:
            await self._join(self._cluster)
        owner = "" if self.node is None else self.node.owner
        storage = await self._stack.enter_async_context(self._storage(state, owner=owner))
        self.idempotency.commits = storage.commits
        service = SessionService(
            self.store,
            self._blueprints,
            commits=storage.commits,
            keeping=keeping_settings(
                self.config, owner=owner, waiting_elsewhere=storage.waiting_elsewhere
            ),
            clock=self.clock,
            settings=self.config.options(SessionSettings),
            meter=self.metrics.meter(self.meter),
            budgets=self.budgets,
            guardrails=self.guardrails,
            call_tool=self.callbacks,
            observer=self.observers,
            node=self.node,
        )
        self._commits = storage.commits
        self._begin_tracing(service)
        self.observers.add(SessionLog())
        self.metrics.offered.follow(self._blueprints.values())
        self.observers.add(self.metrics.sessions)
        self.metrics.storage.follow(storage.commits, file=storage.file)
        self.service = await self._stack.enter_async_context(service)
        self._open_rows(service)
        polling = self.metrics.polling(
            streams=self.streams.by_kind,
            stuck=lambda: self.service.stuck,
            dormant=lambda: self.service.dormant_count,
            node=self.node,
        )
        self._stack.enter_context(polling)

    def _storage(self, state: StateDir, *, owner: str) -> ConversationStorage:
        return ConversationStorage(
            self.config.conversations,
            state,
            on_broken=end_process,
            owner=owner,
            socket=None if self._cluster is None else self._cluster.storage,
            node=self.node,
        )

    def _open_rows(self, service: SessionService) -> None:
        name = "" if self.node is None else self.node.record.name
        self.rows = LocalRows(clock=self.clock, node=name, run=self.run_id, held=service.all_held)
        self.scopes = RowScopes(self.rows, clock=self.clock)
        self.observers.add(self.rows)
        self._stack.callback(self._close_rows)
        if self.node is not None:
            among = service.stored_among
            self._lost = LostSessions(self.rows, node=self.node, stored_among=among)
            self._stack.push_async_callback(self._lost.close)

    def _close_rows(self) -> None:
        self.rows.close()
        self.scopes.close()

    def _begin_tracing(self, service: SessionService) -> None:
        """Have spans of requests and turns, where somebody has set up what takes them."""
        tracing = self.tracing = Tracing.find(
            text=self.config.server.trace_text,
            route=self.metrics.requests.route_of,
        )
        if tracing is not None:
            service.trace(tracing.turns)
            self.observers.add(tracing.turns)
            self.callbacks.carrier = tracing.turns.carrier_of_tool
            self._stack.callback(tracing.turns.close)

    async def _share_usage(self, cluster: ClusterPart, state: StateDir) -> None:
        """Count what was used together with the other nodes, those included that have gone."""
        # Late: without a cluster, nothing of it is imported.
        from frontdesk.gateway.cluster_usage import ClusterUsage, publish_unattended

        engine = cluster.engine
        engine.on_call = self.metrics.cluster.on_call
        await self._stack.enter_async_context(engine)
        workers = self.config.server.workers
        await publish_unattended(state, workers=workers, engine=engine, clock=self.clock)
        usage = ClusterUsage(self.meter, engine=engine)
        self.usage = await self._stack.enter_async_context(usage)

    async def _join(self, cluster: ClusterPart) -> None:
        """Take part in a cluster: before there are sessions, and until all of them have ended."""
        # Late: without a cluster, nothing of it is imported.
        from frontdesk.gateway.cluster_rate import ClusterRate
        from frontdesk.gateway.config_digest import config_digest
        from frontdesk.gateway.placement import Placement

        digest = config_digest(self.config, keys=self.ring)
        self.node = await self._stack.enter_async_context(cluster.joined(self, digest))
        self.placement = Placement(self.node)
        self.cluster_rate = ClusterRate(self.rate, engine=self.node.engine, clock=self.clock)

    async def _open_keys(self, state: StateDir) -> None:
        """Take in all that tells who asks."""
        bearers = None
        if (settings := self.config.auth.jwt) is not None:
            # Late: it comes with an extra.
            from frontdesk.gateway.bearer_tokens import BearerTokens
            from frontdesk.gateway.identity_provider import IdentityProvider

            provider = IdentityProvider(settings, clock=self.clock)
            self._provider = await self._stack.enter_async_context(provider)
            bearers = BearerTokens(settings, provider)
        keys = self._stack.enter_context(KeyFile(state, clock=self.clock, timeout_s=0))
        self.ring = KeyRing(file=keys, fixed=self._keys)
        self.tokens = SessionTokens(self.ring, master_secret=state.master_secret())
        self.authenticator = Authenticator(
            self.ring,
            self.tokens,
            bearers,
            logins=DashboardLogins(self.ring, master_secret=state.master_secret()),
            base_url=self.base_url,
            wrong_keys_per_minute=self.config.limits.wrong_keys_per_minute,
            clock=self.clock,
        )

    def begin_passing_on(self) -> bool:
        """Have other nodes open sessions from now on; those that are here go on.

        Of a node of a cluster. Returns whether that is new.
        """
        assert self.node is not None
        if self.node.draining:
            return False
        logger.info("an operator drains this node: other nodes open sessions, those here go on")
        self.node.begin_draining()
        return True

    async def drain(self, grace_s: float) -> None:
        """Refuse new sessions and prompts, let turns end within the grace, end the sessions."""
        if self.node is not None:
            self.node.begin_draining()
        await self.service.drain(grace_s)
        self._close_rows()
        if self.service.stores:
            # What waits there begins in another process.
            self.streams.end_waits()
        if self.forwarding is not None:
            self.forwarding.end_streams()

    # -- what requests ask -----------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        return self.open and self.service.draining

    @property
    def takes_sessions(self) -> bool:
        """Whether sessions are opened here: not while it drains, to end or as an operator said."""
        return not self.draining and (self.node is None or not self.node.draining)

    @property
    def ready(self) -> bool:
        """Whether it takes new work. Of several workers at one address, others may do it."""
        if not self.open or self.draining:
            return False
        if self.takes_sessions or self.forwarding is None:
            return self.takes_sessions
        return self.config.server.workers > 1 and self.forwarding.least_loaded() is not None

    @property
    def storage_health(self) -> StorageHealth | None:
        """Whether conversations can be stored; None where they are not, or it is not open."""
        if not self.open or (commits := self._commits) is None:
            return None
        sqlite = self.config.conversations.store == SQLITE
        return StorageHealth(
            store="sqlite" if sqlite else "postgresql", available=commits.unavailable is None
        )

    def sessions_of(self, caller: Caller) -> TenantSessions:
        """Return what a caller of a tenant may reach: its own tenant's sessions."""
        if caller.tenant_id is None:
            raise Unauthorized
        return self.service.tenant(caller.tenant_id, caller.key_id, only=caller.only)

    async def count(self, key_id: str) -> None:
        """Count a request of a key; `RateLimited` where it has none left."""
        if self.cluster_rate is None:
            self.rate.hit(key_id)
        else:
            await self.cluster_rate.hit(key_id)

    def base_url(self, scope: Mapping[str, Any]) -> str | None:
        """Return the URL under which clients reach the gateway, None where nothing says it."""
        if self.config.server.public_url is not None:
            return self.config.server.public_url.rstrip("/")
        return self.proxies.base_url(scope)

    async def check_provider_options(self, request: CreateSession, *, tenant_id: str) -> None:
        """Refuse a provider's address that may not be called, with `CreateFailed`."""
        url = request.provider_opts.get("baseUrl")
        if url is None:
            return
        try:
            await self.callbacks.guard.target(
                str(url), tenant_id=tenant_id, field="providerOpts.baseUrl"
            )
        except AddressRefused as error:
            raise CreateFailed(str(error)) from None

    def on_session_lost(self, ended: Ended, incarnation: str) -> None:
        """See a session end whose node is dead: nobody but the others can say so."""
        if self.open and self._lost is not None:
            self._lost.add(ended, incarnation)

    def refuse_if_draining(self) -> None:
        if self.draining:
            raise Draining

    def refuse_unless_taking(self) -> None:
        if not self.takes_sessions:
            raise Draining

    # -- changes while it runs -------------------------------------------------------------------

    def reload(
        self, config: Config, *, keys: Sequence[Key] = (), node_tls: NodeTls | None = None
    ) -> None:
        """Follow other keys, and the settings that say they do (`settings.py`).

        With `node_tls`, that is what this node shows other nodes, and trusts, from now on.

        Whatever can be wrong about them was found before this is called, or raises before
        anything changes.
        """
        made = self._blueprints
        if self._keeper is not None:
            made = blueprints_of(config, self._keeper)
        self.ring.check(keys)
        if self._provider is not None:
            self._provider.reload()
        self.guardrails.change(config)
        self.budgets.change(config)
        # From here on nothing can fail.
        if made is not self.service.blueprints:
            self.known.follow(made)
        self.config, self.service.blueprints = config, made
        self.service.follow_limits(storage_limits(config))
        self.metrics.offered.follow(made.values())
        self.rate.change(per_minute=config.limits.requests_per_minute)
        self.authenticator.wrong_keys.change(per_minute=config.limits.wrong_keys_per_minute)
        self.streams.per_key = config.limits.streams_per_key
        self.store.limits = config.options(Limits)
        self.ring.replace_fixed(keys)
        self.streams.end_where_not(self.authenticator.holds)
        if node_tls is not None and self.forwarding is not None:
            self.forwarding.change_tls(node_tls.server, node_tls.client)

    def _run_in_background(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run something beside the requests, for as long as the gateway is open."""
        task = asyncio.create_task(work, name=name)

        async def cancel() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(cancel)

    async def _follow_keys(self) -> None:
        # Looked at, as other processes (`frontdesk keys revoke`) write the file and SQLite tells
        # nobody; and keys expire by themselves. It costs one PRAGMA a look.
        while True:
            await asyncio.sleep(FOLLOW_KEYS_S)
            if self.ring.refresh():
                logger.info("the keys have changed: %d are known", len(self.ring))
            self.ring.write_uses()
            self.streams.end_where_not(self.authenticator.holds)
