"""A cluster without a fault, for tests of the checker: what it writes is a good history."""

import msgspec

from cluster import history as h

NODES = ("n1", "n2", "n3")


class TrueCluster:
    """A cluster that does everything right, at once, and writes the history of it."""

    def __init__(self):
        self.at, self.revision, self.drawn = 0.0, 100, 0
        self.events, self.entries, self.watches = [], {}, {}
        self.up, self.away, self.down = set(), {}, False
        self.incarnations = {}
        for node in NODES:
            self.join(node)

    def add(self, event, /, **facts):
        """Write an event, a little later than the one before."""
        self.at += 0.01
        self.events.append(event(at=self.at, **facts))

    def change(self, kind, held, why=None):
        """Count a change, and tell every watch."""
        self.revision += 1
        reason = {"reason": why} if why else {}
        for watcher, tenant in self.watches.items():
            if tenant in (None, held.tenant_id):
                told = {"session_id": held.session_id, "fence": held.fence or self.revision}
                told |= reason
                self.add(h.WatchTold, watcher=watcher, revision=self.revision, kind=kind, **told)

    def create(self, node, session_id, tenant):
        """Start an agent and enter it; refused where the id lives, or the engine is away."""
        self.drawn += 1
        agent, token = f"a{self.drawn}", f"t{self.drawn}"
        named = {"node": node, "session_id": session_id, "agent": agent}
        self.add(h.AgentStarted, **named)
        self.add(h.CreateAsked, token=token, incarnation=self.incarnations[node], **named)
        if session_id in self.entries or self.down or self.away.get(node):
            away = self.down or self.away.get(node)
            refused = "EngineUnavailable" if away else "SessionAlreadyExists"
            self.add(h.CreateAnswered, token=token, refused=refused)
            self.add(h.AgentEnded, node=node, agent=agent)
            return
        key = f"{tenant}-key" if self.drawn % 3 else None
        held = h.Held(session_id, 0, node, tenant, key, token)
        self.change("created", held)
        self.entries[session_id] = msgspec.structs.replace(held, fence=self.revision), agent
        self.add(h.CreateAnswered, token=token, fence=self.revision)

    def end(self, session_id):
        """End an agent, and its entry with it."""
        held, agent = self.entries[session_id]
        if self.down or self.away.get(held.node):
            return
        del self.entries[session_id]
        self.add(h.AgentEnded, node=held.node, agent=agent)
        self.add(h.EndTold, node=held.node, session_id=session_id, fence=held.fence)
        self.change("ended", held)

    def kill(self, node):
        """Kill a node; its entries go when it is held to be dead."""
        self.up.discard(node)
        self.away.pop(node, None)
        self.add(h.NodeGone, node=node)
        self.at += 42
        for session_id, (held, _) in list(self.entries.items()):
            if held.node == node:
                del self.entries[session_id]
                self.change("ended", held, "lost")

    def join(self, node):
        """Let a node in, under a new incarnation."""
        self.drawn += 1
        self.up.add(node)
        self.incarnations[node] = f"i{self.drawn}"
        self.add(h.NodeJoined, node=node, incarnation=f"i{self.drawn}")

    def disturb(self, node, kind):
        """Pause a node, or cut it off; what it had goes on."""
        self.away[node] = kind
        self.add(h.Paused, node=node) if kind == "pause" else self.add(
            h.Cut, node=node, whom="engine"
        )

    def restore(self, node):
        """Let it go on."""
        kind = self.away.pop(node)
        self.add(h.Resumed, node=node) if kind == "pause" else self.add(
            h.Healed, node=node, whom="engine"
        )

    def watch(self, tenant=None):
        """Begin a watch, of a tenant or of all."""
        self.drawn += 1
        watcher = f"w{self.drawn}"
        self.watches[watcher] = tenant
        entries = tuple(e for e in self.listed() if tenant in (None, e.tenant_id))
        self.add(
            h.WatchBegan,
            watcher=watcher,
            node="watching",
            revision=self.revision,
            entries=entries,
            tenant_id=tenant,
        )

    def listed(self):
        """Return the entries, oldest first."""
        return tuple(sorted((held for held, _ in self.entries.values()), key=lambda e: e.fence))

    def dump(self, *, settled=False):
        """Write down everything that the engine has."""
        fields = {"tenants": "tenant_id", "keys": "api_key", "nodes": "node"}
        kept = {name: {} for name in fields}
        for held in self.listed():
            for name, field in fields.items():
                if (value := getattr(held, field)) is not None:
                    kept[name].setdefault(value, []).append(held.session_id)
        kept = {n: {v: tuple(ids) for v, ids in each.items()} for n, each in kept.items()}
        counts = {f"{n[:-1]}:{v}": len(i) for n, each in kept.items() for v, i in each.items()}
        counts["all"] = len(self.entries)
        self.add(
            h.Dumped,
            asked_at=self.at,
            entries=self.listed(),
            counts=counts,
            settled=settled,
            **kept,
        )

    def finish(self):
        """End every fault, wait, and look at everything."""
        for node in list(self.away):
            self.restore(node)
        if self.down:
            self.step("up", None, None, None)
        self.at += 200
        self.dump(settled=True)
        return self.events

    def step(self, what, node, session_id, tenant):
        """Do one thing, if it can be done now."""
        alive = sorted(self.up - self.away.keys())
        match what:
            case "create" if node in alive:
                self.create(node, session_id, tenant)
            case "end" if session_id in self.entries:
                self.end(session_id)
            case "look" | "request" if alive and not self.down:
                self._ask(what, alive[0], session_id)
            case "list":
                self.add(
                    h.Listed, asked_at=self.at, node="n1", entries=self.listed(), partial=self.down
                )
            case "watch":
                self.watch(tenant if node == "n1" else None)
            case "close" if self.watches:
                self.watches.pop(watcher := min(self.watches))
                self.add(h.WatchClosed, watcher=watcher)
            case "dump":
                self.dump()
            case "kill" if node in self.up:
                self.kill(node)
            case "join" if node not in self.up:
                self.join(node)
            case "pause" | "cut" if node in alive:
                self.disturb(node, what)
            case "resume" | "heal" if node in self.away:
                self.restore(node)
            case "down" | "up" if (what == "up") == self.down:
                self.down = not self.down
                self.add(h.EngineDown if self.down else h.EngineUp)
            case "wipe" if not self.down:
                self._wipe()
            case "jump":
                self.add(h.ClockJumped, by_s=-3600.0)

    def _ask(self, what, node, session_id):
        entry = self.entries.get(session_id)
        asked = {"asked_at": self.at, "node": node, "session_id": session_id}
        if what == "request":
            self.add(h.Requested, outcome="answered" if entry else "missing", **asked)
        elif entry is None:
            self.add(h.LookedUp, refused="SessionNotFound", **asked)
        else:
            self.add(h.LookedUp, fence=entry[0].fence, owner=entry[0].node, **asked)

    def _wipe(self):
        """Forget everything and hear it again: a new era, in which every watch begins anew."""
        self.add(h.EngineLost)
        self.revision += 1_000_000
        for watcher, tenant in self.watches.items():
            self.add(
                h.WatchBegan,
                watcher=watcher,
                node="watching",
                revision=self.revision,
                entries=tuple(e for e in self.listed() if tenant in (None, e.tenant_id)),
                resync=True,
                tenant_id=tenant,
            )
