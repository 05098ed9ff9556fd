"""A whole cluster from a seed: what it is made of, what is done to it, and its history."""

import itertools
import logging
import random
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from cluster import history as h
from cluster.history_facts import Bounds
from cluster.simulation.clients import Clients
from cluster.simulation.clockwork import Clockwork
from cluster.simulation.engine import VirtualLease
from cluster.simulation.faults import Faults
from cluster.simulation.network import Network
from cluster.simulation.process import Process
from cluster.simulation.server import WALL_S, Server
from frontdesk import Watcher
from frontdesk.cluster import membership, node_lease, reconciliation
from frontdesk.cluster.index import contents
from frontdesk.cluster.records import IndexLimits, Selection
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import Ended, Snapshot

TERMS = LeaseTerms(lease_s=10.0, isolation_grace_s=5.0, kill_grace_s=1.0, stalled_exit_s=30.0)
BOUNDS = Bounds(
    lease_s=TERMS.lease_s,
    hold_s=TERMS.hold_s,
    end_s=6.0,
    rejoin_s=10.0,
    recovery_s=TERMS.lease_s + TERMS.hold_s + 5.0,
)
TROUBLED_S = 50.0
SETTLING_S = BOUNDS.recovery_s + BOUNDS.rejoin_s + 5.0


class World:
    """Make a history from a seed. It is the clock of everything in it."""

    def __init__(self, seed, *, nodes=3, terms=TERMS):
        self.random = random.Random(seed)
        self.clockwork = Clockwork()
        self.server = Server(self.clockwork)
        self.network = Network(self.clockwork, self.random, self.server)
        self.watcher = _TicklessWatcher()
        self.terms = terms
        self.log_entries = self.random.choice((4, 32, 65_536))
        """How many changes the engine's log holds."""
        self.feed_capacity = self.random.choice((2, 4096))
        """How far a watch may lag behind its node."""
        self.page_entries = self.random.choice((2, 1000))
        """How many entries a page has."""
        self.limits = IndexLimits(per_tenant=self.random.choice((None, 2, 4)))
        """How many sessions there may be."""
        self.history = []
        self.names = {}
        self.processes = {}
        self._tokens = set()
        self._numbers = itertools.count(1)
        for number in range(1, nodes + 1):
            self.processes[f"n{number}"] = Process(self, f"n{number}")

    def run(self, *, faults=None, kinds=()):
        """Let everything happen; return the history.

        `faults` is how many there are, and `kinds` which, by the names of `Faults`' methods,
        instead of what the seed says.
        """
        count = self.random.choice((0, 1, 1, 2, 3, 4, 6, 8)) if faults is None else faults
        clients, troubles = Clients(self), Faults(self)
        with _virtual(self):
            for process in self.processes.values():
                process.boot()
            troubles.plan(TROUBLED_S, count=count, names=kinds)
            clients.act_until(TROUBLED_S)
            self.clockwork.run(TROUBLED_S)
            troubles.end_all()
            self._settle(clients)
        return self.history

    def _settle(self, clients):
        """Wait until nothing may be amiss any more, and look at everything from everywhere."""
        self.clockwork.run(TROUBLED_S + SETTLING_S)
        for process in self.processes.values():
            if process.joined:
                for session_id in clients.ids:
                    for doing in (clients.look, clients.request):
                        clients.begin(process, doing(process, session_id))
                clients.begin(process, clients.list(process))
        self.clockwork.run(self.clockwork.now + 5.0)
        self.dump(settled=True)

    # -- the clock of everything -----------------------------------------------------------------

    def monotonic(self):
        """Return the time."""
        return self.clockwork.now

    def wall_ms(self):
        """Return the wall clock."""
        return int((WALL_S + self.clockwork.now) * 1000)

    # -- the history -----------------------------------------------------------------------------

    def write(self, event, /, **facts):
        """Write an event down."""
        self.history.append(event(at=self.clockwork.now, **facts))

    def draw_name(self, letter):
        """Return a name that is used once."""
        return f"{letter}{next(self._numbers)}"

    def create_asked(self, process, entry, limits):
        """Write down that a create is asked for, once for each token."""
        if entry.token not in self._tokens:
            self._tokens.add(entry.token)
            self.write(
                h.CreateAsked,
                node=process.name,
                session_id=entry.session_id,
                agent=process.last_agents[entry.session_id],
                token=entry.token,
                incarnation=entry.incarnation,
                tenant_id=entry.tenant_id,
                limit=limits.per_tenant,
            )

    def write_watched(self, watcher, node, tenant_id, item):
        """Write down what a watch told."""
        if isinstance(item, Snapshot):
            entries = tuple(h.Held(one.session_id, one.fence, "") for one in item.sessions)
            told = {"entries": entries, "resync": item.resync, "tenant_id": tenant_id}
            self.write(h.WatchBegan, watcher=watcher, node=node, revision=item.revision, **told)
        else:
            session = item.session
            told = {"session_id": session.session_id, "fence": session.fence, "kind": item.kind}
            if isinstance(item, Ended):
                told["reason"] = item.reason.kind.value
            self.write(h.WatchTold, watcher=watcher, revision=item.revision, **told)

    def held(self, entry):
        """Return an entry as the history has it."""
        new = entry.entry
        name = self.names[new.incarnation]
        known = new.tenant_id, new.api_key, new.token, new.model
        return h.Held(new.session_id, entry.fence, name, *known)

    def dump(self, *, settled=False):
        """Write down everything that the server holds."""
        entries = self.server.look("list", Selection()).entries
        counts = {"all": self.server.look("count", Selection())}
        kept = {"tenant": {}, "key": {}, "node": {}}
        fields = {"tenant": "tenant_id", "key": "api_key", "node": "incarnation"}
        for kind, field in fields.items():
            for value in {getattr(one.entry, field) for one in entries} - {None}:
                selection = Selection(**{field: value})
                # A node's name may stand for several incarnations.
                name = self.names.get(value, value)
                ids = tuple(
                    one.entry.session_id for one in self.server.look("list", selection).entries
                )
                kept[kind][name] = kept[kind].get(name, ()) + ids
                counted = self.server.look("count", selection)
                counts[f"{kind}:{name}"] = counts.get(f"{kind}:{name}", 0) + counted
        self.write(
            h.Dumped,
            asked_at=self.clockwork.now,
            entries=tuple(map(self.held, entries)),
            **{f"{kind}s": value for kind, value in kept.items()},
            counts=counts,
            settled=settled,
        )

    # -- what must not happen --------------------------------------------------------------------

    def failed(self, context):
        """Take an error that nobody caught: it is a defect of whatever raised it."""
        raise context.get("exception") or RuntimeError(context.get("message"))


@contextmanager
def _virtual(world):
    """Let nodes renew on virtual time, and draw their tokens from the seed; hear their errors."""
    drawn = SimpleNamespace(token_hex=lambda size: world.random.randbytes(size).hex())
    listener = _Errors(world)
    log = logging.getLogger("frontdesk")
    with (
        mock.patch.object(membership, "secrets", drawn),
        mock.patch.object(reconciliation, "secrets", drawn),
        mock.patch.object(node_lease, "LeaseThread", VirtualLease),
        mock.patch.object(node_lease, "in_own_thread", _at_once),
        mock.patch.object(contents, "LOG_ENTRIES", world.log_entries),
        mock.patch.object(log, "propagate", False),
        mock.patch.object(log, "handlers", [listener]),
    ):
        yield


async def _at_once(call, **options):
    """Stand in for a thread that only waits."""
    return call()


class _TicklessWatcher(Watcher):
    """Watches no real time: the agents of a simulation are futures, and their loops end with it."""

    def every_second(self, callback):
        return lambda: None


class _Errors(logging.Handler):
    """Hear what nodes log as an error: a task of theirs failed."""

    def __init__(self, world):
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record):
        if record.exc_info:
            raise record.exc_info[1]
        raise AssertionError(record.getMessage())
