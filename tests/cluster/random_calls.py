"""Random calls of an index's verbs: few ids, nodes and tokens, so that they meet each other.

What a call brings along (fences, revisions, eras) is mostly what was answered before, and sometimes
wrong. All of it comes of one seed.
"""

from dataclasses import replace
from random import Random

from frontdesk.cluster.errors import LeaseLost
from frontdesk.cluster.index import Moment
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
from frontdesk.errors import FrontdeskError
from frontdesk.records import ExitReason

TERMS = (LeaseTerms(lease_s=2, isolation_grace_s=1, kill_grace_s=1), LeaseTerms(lease_s=4))
IDS = [f"t{n % 2}/s{n}" for n in range(6)]
TOKENS = [f"{n:x}{n:x}ab0000ffff00{n:x}{n:x}" for n in range(4)]
REASONS = (
    ExitReason.of("normal"),
    ExitReason.signalled(9),
    ExitReason.crashed(ValueError("é ☃ half of a pair")),
)
START_US = 1_700_000_000_000_000


class RandomCalls:
    """Make calls, one after another, and remember what was answered."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.clock_us, self.run, self.known = START_US, 0, 0
        self.nodes = [f"{n:032x}" for n in range(4)]
        self.made, self.eras, self.fences, self.revisions = 4, [0], {}, [0]
        self.joining = None

    # -- what a call brings along ----------------------------------------------------------------

    def moment(self):
        """Return the next moment: time passes, rarely much, backwards, or on another server."""
        draw = self.random.random()
        if draw < 0.95:
            self.clock_us += self.random.randrange(300_000)
        elif draw < 0.985:
            self.clock_us += self.random.randrange(90_000_000)
        else:
            self.clock_us -= self.random.randrange(5_000_000)
        if self.random.random() < 0.004:
            self.run += 1
        lead = self.random.random()
        known = self.known if lead < 0.999 else self.known + self.random.randrange(3)
        return Moment(
            self.clock_us, f"run{self.run}", known if lead < 0.999 else self.known + 10**9
        )

    def node(self):
        return self.random.choice(self.nodes)

    def replace(self, node):
        """Start a node anew, under another incarnation, which joins next."""
        if node in self.nodes:
            self.joining = f"{self.made:032x}"
            self.nodes[self.nodes.index(node)] = self.joining
            self.made += 1

    def entry(self):
        draw, session_id = self.random, self.random.choice(IDS)
        return NewEntry(
            session_id,
            self.node(),
            draw.choice(TOKENS),
            session_id.split("/")[0],
            draw.choice([None, "k", "é:\x00k"]),
            draw.randrange(10**13),
            draw.choice([None, "", "writer"]),
            draw.choice([None, "model", "m" * 100]),
            draw.randrange(10**6),
            draw.random() < 0.3,
        )

    def limits(self):
        if self.random.random() < 0.7:
            return IndexLimits()
        return IndexLimits(*(self.random.choice([None, 1, 2, 3]) for _ in range(3)))

    def owner(self, session_id):
        """Return a node and a fence, as a rule those of a session that was there."""
        node, fence = self.fences.get(session_id, (self.node(), 1))
        if self.random.random() < 0.1:
            return self.node(), fence
        return node, fence + self.random.choice([0, 0, 0, 0, 0, 1])

    def selection(self):
        return self.random.choice(
            [
                Selection(),
                Selection(tenant_id=self.random.choice(["t0", "t1", "nobody"])),
                Selection(api_key="k"),
                Selection(incarnation=self.node()),
            ]
        )

    def era(self):
        return self.random.choice([None, None, self.eras[-1], self.random.choice(self.eras)])

    # -- the calls -------------------------------------------------------------------------------

    def next(self):
        """Return a verb's name, its positional and its named arguments."""
        verbs = {
            "join": 6, "renew": 14, "leave": 0.5, "bury": 4, "nodes": 3, "reserve": 8, "release": 3,
            "create": 22, "restore": 6, "update": 6, "end": 9, "read": 6, "list": 5, "count": 5,
            "follow": 6, "take": 5, "claim": 5, "publish": 1, "totals": 1,
        }  # fmt: skip
        name = self.random.choices(list(verbs), list(verbs.values()))[0]
        if self.joining is not None:
            name = "join"
        return name, *getattr(self, f"_{name}")()

    def _join(self):
        node, era = self.joining or self.node(), None if self.joining else self.era()
        self.joining = None
        record = NodeRecord(node, f"host/{node[-1]}", "unix:/s", 1, "1.0", "d")
        schema = 1 if self.random.random() < 0.95 else self.random.randrange(1, 4)
        terms = {"terms": self.random.choice(TERMS), "era": era}
        return (replace(record, schema=schema),), terms

    def _renew(self):
        count, tokens = self.random.choice([(0, 0), (1, int(self.random.choice(TOKENS), 16))])
        age_s = self.random.choice([0.0, 0.0, 0.0, 1.0, 5.0])
        draining = self.random.random() < 0.2
        return (Renewal(self.node(), count, tokens, age_s, 0.0, draining),), {}

    def _leave(self):
        return (self.node(),), {}

    def _bury(self):
        return (self.node(),), {"proven": self.random.random() < 0.3}

    def _nodes(self):
        return (), {}

    def _reserve(self):
        ttl_s = self.random.choice([0.5, 3.0, 30.0])
        return (self.entry(),), {"limits": self.limits(), "ttl_s": ttl_s}

    def _release(self):
        return (self.node(), self.random.choice(IDS)), {"token": self.random.choice(TOKENS)}

    def _create(self):
        return (self.entry(),), {"limits": self.limits()}

    def _restore(self):
        node = self.node()
        entries = {}
        for _ in range(self.random.randrange(4)):
            entry = replace(self.entry(), incarnation=node)
            fence = self.owner(entry.session_id)[1]
            version = fence + self.random.randrange(3)
            entries[entry.session_id] = IndexEntry(entry, fence, version)
        return (node, list(entries.values())), {"complete": self.random.random() < 0.5}

    def _update(self):
        session_id = self.random.choice(IDS)
        node, fence = self.owner(session_id)
        chosen = {"blueprint": self.random.choice([..., None, "writer", "other"]), "fence": fence}
        return (node, session_id), {**chosen, "model": self.random.choice([..., None, "x"])}

    def _end(self):
        node, ends = None, []
        for session_id in self.random.sample(IDS, self.random.randrange(1, 4)):
            owner, fence = self.owner(session_id)
            node = node or owner
            token = self.random.choice([None, None, *TOKENS])
            reason = self.random.choice(REASONS)
            ends.append(EntryEnd(session_id, fence, reason, self.random.randrange(10**13), token))
        return (node, ends), {}

    def _read(self):
        return (self.random.choice(IDS),), {}

    def _list(self):
        after = self.random.choice([0, 0, *(fence for _, fence in self.fences.values())])
        return (self.selection(),), {"after": after, "limit": self.random.choice([1, 2, 3, 1000])}

    def _count(self):
        return (self.selection(),), {}

    def _follow(self):
        after = max(0, self.revisions[-1] - self.random.choice([0, 1, 2, 5, 20, 1000]))
        era = self.eras[-1] if self.random.random() < 0.95 else self.random.choice(self.eras)
        return (after,), {"era": era, "limit": self.random.choice([1, 2, 3, 100, 1000])}

    def _take(self):
        counted = self.random.choice("ab")
        return (counted,), {"limit": self.random.choice([1, 3, 5]), "window_s": 3.0}

    def _claim(self):
        slot, digest = self.random.choice("ab"), self.random.choice("xy")
        return (self.node(), slot), {"digest": digest, "ttl_s": self.random.choice([1.0, 10.0])}

    def _publish(self):
        totals = self.random.randbytes(self.random.choice([0, 20]))
        return (self.random.choice("uv"), self.random.choice("ab"), totals), {}

    def _totals(self):
        return (self.random.choice("uv"),), {}

    # -- what was answered -----------------------------------------------------------------------

    def answered(self, name, arguments, answer):
        """Remember what later calls bring along."""
        if isinstance(answer, LeaseLost) and self.random.random() < 0.3:
            self.replace(answer.incarnation)
        if name == "create" and isinstance(answer, int):
            self.fences[arguments[0].session_id] = arguments[0].incarnation, answer
        for one in (answer, *getattr(answer, "entries", ())):
            if isinstance(one, IndexEntry):
                self.fences[one.entry.session_id] = one.entry.incarnation, one.fence
        self._know(getattr(answer, "revision", answer if name == "create" else None))
        self._know(getattr(answer, "head", None))
        era = getattr(answer, "era", None)
        if era is not None and era > self.eras[-1]:
            self.eras.append(era)

    def _know(self, revision):
        if isinstance(revision, int) and self.random.random() < 0.9:
            self.known = max(self.known, revision)
            self.revisions.append(self.known)


def outcome(index, at, name, arguments, named):
    """Return what a verb answers: its result, or its error."""
    try:
        return getattr(index, name)(at, *arguments, **named)
    except FrontdeskError as error:
        return error


def told(answer):
    """Return an answer so that it can be compared: an error is its type and its facts."""
    if isinstance(answer, Exception):
        return type(answer).__name__, answer.__dict__
    return tuple(answer) if isinstance(answer, list) else answer
