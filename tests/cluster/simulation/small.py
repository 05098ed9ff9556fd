"""Two nodes, one id, a few steps: small enough to go through every order and every fault.

A node here is only what it decides, by the node's own pure functions, with each verb asked at once.
What the bigger simulation draws, this one goes through completely.
"""

import copy
import itertools

from cluster import history as h
from cluster.checker import findings
from cluster.history_facts import Bounds
from frontdesk.cluster import decisions
from frontdesk.cluster.errors import LeaseLost, OwnerSuspect, Recovering
from frontdesk.cluster.index import ClusterIndex, Moment
from frontdesk.cluster.records import (
    EntryEnd,
    IndexEntry,
    IndexLimits,
    NewEntry,
    NodeRecord,
    Renewal,
    Selection,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.errors import FrontdeskError, SessionAlreadyExists
from frontdesk.records import ExitKind, ExitReason

TERMS = LeaseTerms(lease_s=4.0, isolation_grace_s=4.0, kill_grace_s=1.0)
BOUNDS = Bounds(
    lease_s=TERMS.lease_s, hold_s=TERMS.hold_s, end_s=3.0, rejoin_s=8.0, recovery_s=10.0
)
WALL_S = 1_750_000_000.0
NO_LIMITS = IndexLimits()
ID = "s"
MAX_STEPS = 6
PROGRAMS = {
    "create and end": ("create", "end"),
    "create": ("create", "renew"),
    "lost answer": ("create unheard", "create"),
    "lost answer, given up": ("create unheard", "give up"),
    "restart": ("create", "restart", "take over"),
    "reserve": ("reserve", "create", "end"),
    "end untold": ("create", "end untold"),
    "late end": ("create", "end", "create", "end once more"),
}
MEANWHILE = ("dead, meanwhile", "wiped, meanwhile")
"""The second node does all that it does before the first one is heard of again."""
FAULTS = (
    "none",
    *MEANWHILE,
    "wiped",
    "older",
    "promoted",
    "silent",
    "dead",
    "clock forward",
    "clock back",
)


class SmallNode:
    """A node that asks the index directly; `stopped` while it stands still."""

    def __init__(self, scene, name):
        self.scene, self.name = scene, name
        self.agent = self.token = self.last_end = None
        self.mine, self.standing = {}, decisions.Standing()
        self.known = 0
        self.join()

    # -- steps -----------------------------------------------------------------------------------

    def do(self, step):
        """Do one step of a program, if it can be done."""
        try:
            getattr(self, step.replace(" ", "_").replace(",", ""))()
        except LeaseLost:
            if ID not in self.mine:
                self.end_agent()
            # It may have run out only: a renewal undoes that, or says that it is lost.
            self.renew()
        except (SessionAlreadyExists, OwnerSuspect, Recovering) as error:
            if self.token in self.scene.asked:
                self.scene.write(h.CreateAnswered, token=self.token, refused=type(error).__name__)
            self.end_agent()
        except FrontdeskError:
            self.end_agent()

    def reserve(self):
        """Hold the id."""
        self.token = self.token or self.scene.draw()
        self.scene.write(h.Reserved, node=self.name, session_id=ID)
        self.ask("reserve", self.new_entry(self.token), limits=NO_LIMITS, ttl_s=30.0)

    def create(self):
        """Start an agent, unless one runs, and enter it."""
        if ID not in self.mine:
            self.token = self.token or self.scene.draw()
            fence = self.enter(self.token)
            self.scene.write(h.CreateAnswered, token=self.token, fence=fence)
            self.mine[ID] = IndexEntry(self.new_entry(self.token), fence, fence)

    def create_unheard(self):
        """Ask for an entry without hearing the answer."""
        self.token = self.token or self.scene.draw()
        self.enter(self.token)

    def give_up(self):
        """End what nobody knows the outcome of."""
        if ID not in self.mine:
            self.end_agent()

    def end(self):
        """Let the agent end, and tell it."""
        self.end_untold()
        self.tell()

    def end_once_more(self):
        """Tell the last end again: a message that was late."""
        if self.last_end is not None:
            self.ask("end", self.incarnation, [self.last_end])

    def end_untold(self):
        """Let the agent end, and tell nobody yet."""
        self.end_agent()

    def restart(self):
        """Let the agent end, with another one to follow."""
        if ID in self.mine:
            self.end_agent()
            self.token = self.scene.draw()
            self.tell(self.token)

    def take_over(self):
        """Let the other one follow."""
        if self.token is not None:
            self.create()

    def renew(self):
        """Renew the lease, and do what follows from it."""
        now = self.scene.now
        told = [one.entry.token for one in self.mine.values()]
        tokens = 0
        for token in told:
            tokens ^= int(token, 16)
        try:
            renewed = self.ask("renew", Renewal(self.incarnation, len(told), tokens))
        except LeaseLost:
            outcome = decisions.RenewalOutcome(now, now, lost=True)
        else:
            outcome = decisions.RenewalOutcome(now, now, renewed)
            told = {"incarnation": self.incarnation, "matches": renewed.matches}
            self.scene.write(h.Renewed, node=self.name, asked_at=now, **told)
        self.standing, actions = decisions.after_renewal(
            self.standing, outcome, quiet=True, terms=TERMS
        )
        for action in actions:
            getattr(self, action.value)()
        self.tell()

    # -- what follows ----------------------------------------------------------------------------

    def join(self, *, era=None):
        """Join, as the incarnation that it is where it has an era, else as another."""
        if era is None:
            self.incarnation = self.scene.draw() * 2
        self.scene.names[self.incarnation] = self.name
        record = NodeRecord(self.incarnation, self.name, "sim:", 1, "0", "")
        joined = self.ask("join", record, terms=TERMS, era=era)
        self.scene.write(h.NodeJoined, node=self.name, incarnation=self.incarnation)
        self.standing = decisions.Standing(
            joined=True, era=joined.era, lease_until_s=self.scene.now + TERMS.lease_s
        )

    def rejoin(self):
        """Join again: as it was if the engine has lost that, else with all it has as another."""
        try:
            self.join(era=self.standing.era)
            self.restore()
        except LeaseLost:
            self.join()
            if ID in self.mine:
                del self.mine[ID]
                if self.agent is not None:
                    self.token = None
                    self.do("create")

    def restore(self):
        """Tell all entries again; stop what is somebody else's."""
        entries = list(self.mine.values())
        refused = self.ask("restore", self.incarnation, entries, complete=True)
        for one in entries:
            if one.fence in refused:
                del self.mine[ID]
                self.end_agent()

    def reconcile(self):
        """Compare, and repair both sides."""
        page = self.ask("list", Selection(incarnation=self.incarnation))
        differing = decisions.differences(self.mine, page.entries, under_way=())
        unknown = ExitReason.of(ExitKind.UNKNOWN)
        ends = [EntryEnd(ID, one.fence, unknown, 0) for one in differing.end]
        self.ask("end", self.incarnation, ends)
        if differing.restore:
            self.restore()

    def stop_chosen(self):
        """Stop the agent: its id was chosen."""
        self.end_agent()

    def isolate(self):
        """Do what is due without an answer: the lease's thread says that there was none."""
        now = self.scene.now
        outcome = decisions.RenewalOutcome(now, now)
        self.standing, actions = decisions.after_renewal(
            self.standing, outcome, quiet=True, terms=TERMS
        )
        for action in actions:
            getattr(self, action.value)()

    # -- asking ----------------------------------------------------------------------------------

    def ask(self, verb, *arguments, **options):
        """Ask the index."""
        answer = self.scene.ask(verb, self.known, arguments, options)
        for number in (answer, getattr(answer, "revision", 0)):
            if isinstance(number, int):
                self.known = max(self.known, number)
        return answer

    def enter(self, token):
        """Start an agent, unless one runs, and ask for its entry; return the fence."""
        if self.agent is None:
            self.agent = self.scene.draw()
            named = {"node": self.name, "session_id": ID, "agent": self.agent}
            self.scene.write(h.AgentStarted, **named)
        if token not in self.scene.asked:
            self.scene.asked.add(token)
            named = {"session_id": ID, "agent": self.agent, "token": token}
            named["incarnation"] = self.incarnation
            self.scene.write(h.CreateAsked, node=self.name, **named)
        return self.ask("create", self.new_entry(token), limits=NO_LIMITS)

    def tell(self, next_token=None):
        """Tell the end of what has ended here."""
        if ID in self.mine and self.agent is None:
            one = self.mine.pop(ID)
            reason = ExitReason.of(ExitKind.NORMAL)
            end = self.last_end = EntryEnd(ID, one.fence, reason, 0, next_token=next_token)
            self.scene.write(h.EndTold, node=self.name, session_id=ID, fence=one.fence)
            self.ask("end", self.incarnation, [end])

    def end_agent(self):
        """Let the agent end."""
        if self.agent is not None:
            self.scene.write(h.AgentEnded, node=self.name, agent=self.agent)
        self.agent = self.token = None

    def new_entry(self, token):
        """Return what the index is told."""
        return NewEntry(ID, self.incarnation, token, "acme", "key", 0, None, None, 1, False)


class Scene:
    """Two nodes and an index, and what they do in one order, with one fault at one point."""

    def __init__(self):
        self.now, self.ahead_s = 0.0, 0.0
        self.index, self.older, self.run = ClusterIndex(), None, 1
        self.history, self.names, self.asked = [], {}, set()
        self._drawn = itertools.count(1)
        self.nodes = [SmallNode(self, "n1"), SmallNode(self, "n2")]
        self.wait(TERMS.lease_s)

    def draw(self):
        """Return a token that is used once."""
        return f"{next(self._drawn):016x}"

    def write(self, event, /, **facts):
        """Write an event down; nothing happens at the same time as anything else."""
        self.now += 0.001
        self.history.append(event(at=self.now, **facts))

    def ask(self, verb, known, arguments, options):
        """Do one verb now."""
        self.now += 0.001
        clock_us = int((WALL_S + self.now + self.ahead_s) * 1_000_000)
        at = Moment(clock_us, f"run{self.run}", known)
        return getattr(self.index, verb)(at, *arguments, **options)

    # -- faults ----------------------------------------------------------------------------------

    def strike(self, fault, rest):
        """Let a fault happen; return the steps that are still to be done."""
        if fault in MEANWHILE:
            self.write(h.Cut, node="n1", whom="engine")
            if fault.startswith("wiped"):
                self.strike("wiped", [])
            mine = [step for node, step in rest if node == 1]
            length_s = TERMS.lease_s + 0.5 + (TERMS.hold_s if fault.startswith("dead") else 0)
            self._silence(length_s, mine)
            return [one for one in rest if one[0] == 0]
        if fault in {"wiped", "older", "promoted"}:
            self.run += 1
            self.write(h.EngineLost, how=fault)
            self.ahead_s += 0.01 if fault == "promoted" else 0.0
            self.index = ClusterIndex() if fault == "wiped" else self.older
        elif fault in {"silent", "dead"}:
            self._silence(TERMS.lease_s + 0.5 + (TERMS.hold_s if fault == "dead" else 0))
        elif fault.startswith("clock"):
            by_s = 3600.0 if fault == "clock forward" else -3600.0
            self.ahead_s += by_s
            self.write(h.ClockJumped, by_s=by_s)
        return rest

    def _silence(self, length_s, steps=()):
        """Let the first node hear nothing for so long; the other one goes on, and buries it."""
        first, second = self.nodes
        self.write(h.Cut, node="n1", whom="engine")
        until = self.now + length_s
        while self.now < until:
            self.now += TERMS.renew_s
            first.isolate()
            second.renew()
            for incarnation in decisions.burials_due(
                self.look("nodes"), incarnation=second.incarnation, terms=TERMS
            ):
                second.ask("bury", incarnation, proven=False)
        for step in steps:
            second.do(step)
        self.write(h.Healed, node="n1", whom="engine")

    # -- a whole one -----------------------------------------------------------------------------

    def play(self, steps, fault, place, before):
        """Do steps in order, with a fault before one of them, and wait until all must be well.

        `before` is how many steps older than the fault an older state is.
        """
        rest, number = list(steps), 0
        while rest:
            if fault in {"older", "promoted"} and number == place - before:
                self.older = copy.deepcopy(self.index)
            if number == place:
                rest = self.strike(fault, rest)
            if rest:
                node, step = rest.pop(0)
                self.nodes[node].do(step)
            number += 1
        self.wait(BOUNDS.recovery_s)
        self.dump()
        return findings(self.history, BOUNDS)

    def wait(self, length_s):
        """Let time pass, in which both nodes renew."""
        until = self.now + length_s
        while self.now < until:
            self.now += TERMS.renew_s
            for node in self.nodes:
                node.renew()

    def look(self, verb, *arguments):
        """Ask what changes nothing, for the history."""
        return self.ask(verb, 0, arguments, {})

    def dump(self):
        """Write down everything that the index holds, when all must be well."""
        entries = self.look("list", Selection()).entries
        held = [
            h.Held(ID, one.fence, self.names[one.entry.incarnation], "acme", "key", one.entry.token)
            for one in entries
        ]
        counts = {"all": self.look("count", Selection())}
        chosen = [("tenant", "acme"), ("key", "key"), *(("node", i) for i in self.names)]
        kept = {"tenant": {}, "key": {}, "node": {}}
        fields = {"tenant": "tenant_id", "key": "api_key", "node": "incarnation"}
        for kind, value in chosen:
            selection = Selection(**{fields[kind]: value})
            ids = tuple(ID for _ in self.look("list", selection).entries)
            if ids or self.look("count", selection):
                name = self.names.get(value, value)
                kept[kind][name] = ids
                counts[f"{kind}:{name}"] = self.look("count", selection)
        kept = {f"{kind}s": names for kind, names in kept.items()}
        facts = {"entries": tuple(held), "counts": counts, "settled": True}
        self.write(h.Dumped, asked_at=self.now, **facts, **kept)


def orders(first, second):
    """Return every order of two programs' steps."""
    length = len(first) + len(second)
    for places in itertools.combinations(range(length), len(first)):
        steps, of_first, of_second = [], iter(first), iter(second)
        for place in range(length):
            mine = place in places
            steps.append((0, next(of_first)) if mine else (1, next(of_second)))
        yield steps


def cases():
    """Return every two programs, in every order, with every fault at every point."""
    for one, other in itertools.product(PROGRAMS, repeat=2):
        if len(PROGRAMS[one]) + len(PROGRAMS[other]) > MAX_STEPS:
            continue
        for steps in orders(PROGRAMS[one], PROGRAMS[other]):
            for fault in FAULTS:
                places = range(len(steps)) if fault != "none" else [0]
                for place in places:
                    befores = range(place + 1) if fault in {"older", "promoted"} else [0]
                    for before in befores:
                        yield f"{one} | {other}", (steps, fault, place, before)
