"""After any sequence of changes, cuts and resumes, a reader holds what there is and matches."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.feed import FellBehind, Ring, Wakers
from frontdesk.gateway.rows.changed_rows import ChangedRows, NewestRows
from frontdesk.gateway.rows.node_rows import NodeRows
from frontdesk.gateway.rows.row_filter import OperatorFeedQuery
from frontdesk.gateway.rows.row_questions import RowsAnswer
from frontdesk.gateway.rows.row_reader import RowReader
from frontdesk.schemas.row_schemas import GoneRow, SessionRow
from gateway.requirements import covers

CAPACITY = 3
"""Of each source's ring: so few that readers fall off it."""


class Clock:
    """A clock that a test moves."""

    ms = 100_000

    def wall_ms(self):
        return self.ms


class Source:
    """A source of rows that a test changes: what it has, and what has changed, by batches."""

    suspect = over = False

    def __init__(self, run):
        self.run, self.ring = run, Ring(capacity=CAPACITY)
        self.by_key, self._fences = {}, 0

    def open(self, tenant_id, session_id, blueprint, created_at):
        key = (tenant_id, session_id)
        gone = self._gone(key) if key in self.by_key else []
        self._fences += 1
        fence = f"{self.run}{self._fences}"
        self.by_key[key] = row_of(key, fence, "idle", blueprint, created_at, self.run)
        self.ring.append(ChangedRows([self.by_key[key]], gone))

    def change(self, key, state):
        if key in self.by_key:
            old = self.by_key[key]
            self.by_key[key] = row_of(
                key, old.fence, state, old.blueprint, old.created_at, self.run
            )
            self.ring.append(ChangedRows([self.by_key[key]], []))

    def end(self, key):
        if key in self.by_key:
            self.ring.append(ChangedRows([], self._gone(key)))

    def _gone(self, key):
        row = self.by_key.pop(key)
        return [
            GoneRow(tenant_id=key[0], session_id=key[1], fence=row.fence, reason="deleted", at=1)
        ]

    def rows(self, tenant_id):
        for row in list(self.by_key.values()):
            if tenant_id in (None, row.tenant_id):
                yield row

    def count(self, tenant_id):
        return sum(1 for _ in self.rows(tenant_id))


def row_of(key, fence, state, blueprint, created_at, node):
    return SessionRow(
        tenant_id=key[0], session_id=key[1], fence=fence, state=state, created_at=created_at,
        last_activity_at=0, blueprint=blueprint, model="m", turns=0, tokens=0, cost_usd=0.0,
        approvals=0, questions=0, key_id=None, node=node,
    )  # fmt: skip


class Client:
    """Holds rows as a client does, over connections that are cut."""

    def __init__(self, sources, query, tenant_id, clock):
        self.sources, self.query, self.tenant_id, self.clock = sources, query, tenant_id, clock
        self.rows, self.position, self.snapshots, self.ends = {}, None, 0, []
        self.connect()

    def connect(self):
        self.reader = RowReader(
            lambda: self.sources, self.query, tenant_id=self.tenant_id, clock=self.clock
        )
        self.reader.resume(self.position)

    def read(self):
        if not self.reader.begun:
            self.take_everything()
        try:
            self.take(self.reader.changes())
        except FellBehind:
            self.reader.restart()
            self.take_everything()
        self.take(self.reader.grown())
        self.position = self.reader.position
        assert not self.reader.behind

    def take_everything(self):
        found = asyncio.run(self.reader.everything())
        self.rows = {(row.tenant_id, row.session_id): row for row in found.rows}
        self.snapshots += 1

    def take(self, changes):
        if changes is None:
            return
        self.rows.update(((row.tenant_id, row.session_id), row) for row in changes.changed)
        for each in (*changes.gone, *changes.left):
            key = (each.tenant_id, each.session_id)
            if key in self.rows and self.rows[key].fence == each.fence:
                del self.rows[key]
        self.ends += changes.gone


KEYS = st.sampled_from([("acme", "a"), ("acme", "b"), ("umbrella", "a")])
"""Few: what becomes of one session is what is tried."""
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 1), KEYS, st.sampled_from(["x", "y"])),
        st.tuples(st.just("change"), KEYS, st.sampled_from(["idle", "working"])),
        st.tuples(st.just("end"), KEYS),
        st.tuples(st.just("age"), st.integers(1, 5)),
        st.just(("read",)),
        st.just(("read",)),
        st.just(("cut",)),
        st.just(("come",)),
        st.tuples(st.just("suspect"), st.integers(0, 1)),
    ),
    min_size=10,
    max_size=40,
)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["idle", "working"]),
        "blueprint": st.sampled_from(["x", "y"]),
        "olderThan": st.integers(1, 6),
        "prefix": st.sampled_from(["a", "b"]),
    },
)


def do(step, sources, clock, client):
    kind, *rest = step
    if kind == "open":
        number, key, blueprint = rest
        for source in sources:
            # An id is one session's, on whichever node.
            source.end(key)
        sources[number].open(*key, blueprint, clock.ms)
    elif kind == "change":
        for source in sources:
            source.change(*rest)
    elif kind == "end":
        for source in sources:
            source.end(*rest)
    elif kind == "age":
        clock.ms += rest[0] * 1000
    elif kind == "read":
        client.read()
    elif kind == "cut":
        client.connect()
    elif kind == "come":
        sources.append(Source("abcdef"[len(sources) % 6] + str(len(sources))))
    elif kind == "suspect":
        sources[rest[0]].suspect = not sources[rest[0]].suspect


@covers("feed.changes", "feed.resume", "feed.gap", "feed.filters", "feed.tenants")
@settings(max_examples=200, deadline=None)
@given(steps=STEPS, query=QUERIES, tenant_id=st.sampled_from([None, "acme"]))
def test_the_rows_that_a_reader_holds_are_all_that_there_are_and_match(steps, query, tenant_id):
    clock, sources = Clock(), [Source("a0"), Source("b0")]
    asked = OperatorFeedQuery.model_validate(query)
    client = Client(sources, asked, tenant_id, clock)
    for step in (*steps, ("read",)):
        do(step, sources, clock, client)
        if step != ("read",):
            continue
        there = {
            (row.tenant_id, row.session_id): row
            for source in sources
            for row in source.rows(tenant_id)
            if asked.takes(row, now_ms=clock.ms)
        }
        assert client.rows == there
        assert all(tenant_id in (None, each.tenant_id) for each in client.ends)


@covers("feed.resume", "feed.ends-once")
@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(KEYS, st.booleans()), min_size=1, max_size=20))
def test_a_reader_that_is_cut_after_each_read_hears_of_each_end_once(opened):
    clock, sources = Clock(), [Source("a0"), Source("b0")]
    client = Client(sources, OperatorFeedQuery(), None, clock)
    client.read()
    ended = 0
    for key, second in opened:
        ended += any(key in source.by_key for source in sources)
        do(("open", int(second), key, "x"), sources, clock, client)
        client.connect()
        client.read()
    assert client.snapshots == 1
    names = [(each.tenant_id, each.session_id, each.fence) for each in client.ends]
    assert len(names) == len(set(names)) == ended


@covers("feed.nodes")
@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["open", "end", "read", "cut"]), KEYS), max_size=20))
def test_what_another_node_tells_is_what_it_has_at_its_own_positions(steps):
    clock, there = Clock(), Source("ab12")

    async def never(*_):
        """Nobody is asked."""

    here = NodeRows(
        never, indexed=never, run="", name="two", tenant_id=None, clock=clock, wakers=Wakers()
    )
    here._begin_anew({}, run=there.run, position=0)
    client = Client([here], OperatorFeedQuery(), None, clock)
    taken = 0
    for kind, key in (*steps, ("read", None)):
        if kind == "open":
            there.open(*key, "x", 1)
        elif kind == "end":
            there.end(key)
        elif kind == "cut":
            client.connect()
        if there.ring.oldest - 1 > taken:
            rows = {f"{row.tenant_id}/{row.session_id}": row for row in there.by_key.values()}
            here._begin_anew(rows, run=there.run, position=there.ring.head)
        elif kind == "read":
            newest = NewestRows()
            for each in there.ring.read(taken):
                newest.add(each, None)
            here._take(
                RowsAnswer(
                    run=there.run, position=there.ring.head, minutes=[],
                    rows=list(newest.rows.values()), gone=newest.gone,
                )
            )  # fmt: skip
        else:
            continue
        taken = there.ring.head
        assert here.ring.head == there.ring.head
        client.read()
        assert client.rows == there.by_key
        # Who begins anew gets what the node holds here.
        assert {(row.tenant_id, row.session_id): row for row in here.rows(None)} == there.by_key
