"""What a history says about agents, creates and disturbances: the facts that its laws are about."""

import bisect
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import ClassVar

from cluster import history as h


@dataclass(frozen=True)
class Bounds:
    """How long what may take how long, in seconds. The defaults are those of `LeaseTerms`."""

    lease_s: float = 10.0
    hold_s: float = 32.0
    end_s: float = 5.0
    """The end of an agent of a node that nothing disturbs is in the index after so long."""
    rejoin_s: float = 15.0
    """A node that nothing disturbs any more is in the cluster again after so long."""
    recovery_s: float = 75.0
    """An engine that has lost what it knew knows everything again after so long."""
    proven: bool = False
    """Somebody hears of deaths, and buries at once."""

    @property
    def death_s(self):
        """Return how long a node can be silent before its ids are free."""
        return self.lease_s + self.hold_s


@dataclass
class Agent:
    """One agent's life."""

    name: str
    node: str
    session_id: str
    started: float
    ended: float = math.inf
    model: str | None = None
    stopping: float = math.inf

    def lives(self, since, until):
        """Tell whether it lived all that time."""
        return self.started <= since and until < self.ended


@dataclass
class Create:
    """One create, under one token, and every answer to it."""

    token: str
    node: str
    session_id: str
    agent: str
    asked_at: float
    incarnation: str = ""
    tenant_id: str = ""
    limit: int | None = None
    fences: list = field(default_factory=list)
    answered_at: float = math.inf

    @property
    def fence(self):
        """Return the fence that it was accepted with, None where it was not."""
        return self.fences[0] if self.fences else None


@dataclass
class Disturbance:
    """A time in which a node, or the engine, did not do what it does; `kind` says which."""

    kind: str
    since: float
    until: float = math.inf

    def touches(self, since, until, *, after=0.0):
        """Tell whether any of it, or of the time `after` it, is in between."""
        return self.since <= until and since <= self.until + after


class Facts:
    """Read a history once, and answer questions about it."""

    def __init__(self, history, bounds):
        self.bounds = bounds
        self.history = history
        self.agents = {}
        self.agents_of_id = defaultdict(list)
        self.creates = {}
        self.creates_of_id = defaultdict(list)
        self.told = {}
        """When an end was told, by session id and fence."""
        self.renewals = defaultdict(list)
        self.jumps = []
        self.joins = defaultdict(list)
        self.nodes = {}
        """The name of each incarnation's node."""
        self.disturbances = defaultdict(list)
        """By name of the node; the engine's under None."""
        self._open = {}
        self.by_kind = defaultdict(list)
        for event in history:
            self.by_kind[type(event)].append(event)
            if (read := self._READ.get(type(event))) is not None:
                read(self, event)

    # -- questions ---------------------------------------------------------------------------------

    def of(self, kind):
        """Return the events of a kind."""
        return self.by_kind[kind]

    def disturbed(self, node, since, until, *, kinds=None, after=None):
        """Tell whether a node (None: the engine) was disturbed in that time, or shortly before."""
        for each in self.disturbances[node]:
            if kinds is None or each.kind in kinds:
                tail = self._tail(each) if after is None else after
                if each.touches(since, until, after=tail):
                    return True
        return False

    def _tail(self, disturbance):
        return self.bounds.recovery_s if disturbance.kind == "lost" else self.bounds.rejoin_s

    def calm_since(self, node, since, until):
        """Return when the last disturbance between two moments was over; inf while one lasts.

        A node that is gone is not a disturbance here: it is dead from then on.
        """
        calm = since
        for name in (node, None):
            for each in self.disturbances[name]:
                if each.kind != "gone" and each.touches(since, until, after=self._tail(each)):
                    over = each.until + (self.bounds.recovery_s if name is None else 0)
                    calm = max(calm, over)
        return max(calm, self._deserted_until(since, until))

    def _deserted_until(self, since, until):
        """Return when there was last no node to bury anybody, and so no engine time, in a while."""
        last = since
        away = {"gone", "paused", "cut engine"}
        moments = [
            e.until for name in self.joins for e in self.disturbances[name] if e.kind in away
        ]
        for moment in (*moments, until):
            at = min(moment, until) - 1e-6
            if since < at and all(
                any(e.kind in away and e.touches(at, at) for e in self.disturbances[name])
                for name in self.joins
            ):
                last = max(last, min(moment, until))
        return last

    def silent(self, node, since, until):
        """Tell whether a node may have been held to be dead in that time, or shortly before."""
        return any(
            each.kind in {"cut engine", "paused", "gone"}
            and each.until - each.since >= self.bounds.lease_s
            and each.touches(since, until, after=self.bounds.rejoin_s)
            for each in self.disturbances[node]
        )

    def accepted(self, session_id):
        """Return the creates of an id that were answered with a fence, in the order of fences."""
        creates = [each for each in self.creates_of_id[session_id] if each.fences]
        return sorted(creates, key=lambda create: create.fence)

    def dead_from(self, name, until):
        """Return the moment before which a node or incarnation could not be held to be dead.

        That is deadline and hold after the last renewal that was answered until then, less what
        jumps of the server's clock may have skipped; None where no renewal was written down.
        """
        renewals = self.renewals.get(name)
        place = bisect.bisect_right(renewals, (until, math.inf)) if renewals else 0
        if not place:
            return None
        renewed = renewals[place - 1][1]
        skipped = sum(renewed <= jump <= until for jump in self.jumps) * self.bounds.lease_s / 2
        return renewed + self.bounds.death_s - skipped

    def isolated(self, agent, at):
        """Tell whether its node had begun to stop an agent by then, with its own lease long over.

        Such a node can tell nobody of the end: the engine does not answer it.
        """
        heard = [
            asked for when, asked in self.renewals.get(agent.node, ()) if when <= agent.stopping
        ]
        cut_off = bool(heard) and agent.stopping > max(heard) + self.bounds.lease_s
        return cut_off and agent.stopping <= at

    # -- reading -----------------------------------------------------------------------------------

    def _agent_started(self, event):
        agent = Agent(event.agent, event.node, event.session_id, event.at)
        self.agents[event.agent] = agent
        self.agents_of_id[event.session_id].append(agent)

    def _agent_ended(self, event):
        agent = self.agents[event.agent]
        agent.ended = min(agent.ended, event.at)

    def _agent_stopping(self, event):
        self.agents[event.agent].stopping = event.at

    def _agent_updated(self, event):
        self.agents[event.agent].model = event.model

    def _create_asked(self, event):
        named = event.token, event.node, event.session_id, event.agent
        asked = event.at, event.incarnation, event.tenant_id, event.limit
        create = Create(*named, *asked)
        self.creates[event.token] = create
        self.creates_of_id[event.session_id].append(create)

    def _create_answered(self, event):
        create = self.creates[event.token]
        if event.fence is not None:
            create.fences.append(event.fence)
            create.answered_at = min(create.answered_at, event.at)

    def _end_told(self, event):
        self.told.setdefault((event.session_id, event.fence), event.at)

    def _renewed(self, event):
        for name in {event.node, event.incarnation} - {""}:
            self.renewals[name].append((event.at, event.asked_at))

    def _jumped(self, event):
        self.jumps.append(event.at)

    def _begin(self, node, kind, at):
        if (node, kind) not in self._open:
            self._open[node, kind] = disturbance = Disturbance(kind, at)
            self.disturbances[node].append(disturbance)

    def _over(self, node, kind, at):
        if (disturbance := self._open.pop((node, kind), None)) is not None:
            disturbance.until = at

    def _gone(self, event):
        for agent in self.agents.values():
            if agent.node == event.node:
                agent.ended = min(agent.ended, event.at)
        self._over(event.node, "paused", event.at)
        self._begin(event.node, "gone", event.at)

    def unheard_of(self, asker, owner, at):
        """Tell whether a node joined when the asker could not hear of it from the engine any more.

        Such an asker asks the nodes that it knew last, and has to say "ask again" of all others.
        """
        joined = max((when for when in self.joins[owner] if when <= at), default=0.0)
        return any(
            each.kind in {"cut engine", "down"}
            and each.touches(at, at)
            and joined > each.since - self.bounds.end_s
            for name in (asker, None)
            for each in self.disturbances[name]
        )

    def _joined(self, event):
        self.joins[event.node].append(event.at)
        self.nodes[event.incarnation] = event.node
        self._over(event.node, "gone", event.at)

    def _paused(self, event):
        self._begin(event.node, "paused", event.at)

    def _resumed(self, event):
        self._over(event.node, "paused", event.at)

    def _cut(self, event):
        self._begin(event.node, f"cut {event.whom}", event.at)

    def _healed(self, event):
        self._over(event.node, f"cut {event.whom}", event.at)

    def _engine_down(self, event):
        self._begin(None, "down", event.at)

    def _engine_up(self, event):
        self._over(None, "down", event.at)
        if event.lost:
            self._engine_lost(event)

    def _engine_lost(self, event):
        self.disturbances[None].append(Disturbance("lost", event.at, event.at))

    _READ: ClassVar = {
        h.AgentStarted: _agent_started,
        h.AgentEnded: _agent_ended,
        h.AgentStopping: _agent_stopping,
        h.AgentUpdated: _agent_updated,
        h.CreateAsked: _create_asked,
        h.CreateAnswered: _create_answered,
        h.EndTold: _end_told,
        h.Renewed: _renewed,
        h.ClockJumped: _jumped,
        h.NodeGone: _gone,
        h.NodeJoined: _joined,
        h.Paused: _paused,
        h.Resumed: _resumed,
        h.Cut: _cut,
        h.Healed: _healed,
        h.EngineDown: _engine_down,
        h.EngineUp: _engine_up,
        h.EngineLost: _engine_lost,
    }
