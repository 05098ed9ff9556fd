"""Random verbs of nodes, clocks that jump, servers that forget: what is always so in the index.

After every step the indexes, the counts, the tokens and the reservations are those of a filter over
the entries; whoever follows the log has the entries of now; no fence was ever given before.
"""

import secrets
from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.engine_laws.members import TERMS, record
from frontdesk.cluster.errors import LeaseLost, OwnerSuspect, Recovering
from frontdesk.cluster.index import ClusterIndex, Moment, micros
from frontdesk.cluster.records import (
    EntryEnd,
    IndexEntry,
    IndexLimits,
    NewEntry,
    Renewal,
    Selection,
)
from frontdesk.errors import SessionAlreadyExists, SessionLimitExceeded
from frontdesk.records import Ended, ExitReason

IDS = [f"s{number}" for number in range(6)]
TENANTS = ["red", "blue"]
KEYS = [None, "k1", "k2"]
BLUEPRINTS = [None, "b1", "b2"]
NAMES = ["h/1", "h/2", "h/3"]
LIMITS = IndexLimits(per_tenant=4, per_api_key=3, per_blueprint=2)
REFUSALS = (LeaseLost, OwnerSuspect, Recovering, SessionAlreadyExists, SessionLimitExceeded)
NORMAL = ExitReason.of("normal")

nodes = st.sampled_from(NAMES)
ids = st.sampled_from(IDS)
picks = st.integers(0, 2**16)


class IndexOfNodes(RuleBasedStateMachine):
    """Nodes that do as nodes do, at a clock that does as clocks do."""

    def __init__(self):
        super().__init__()
        self.index = ClusterIndex()
        self.clock_us, self.run = 1_700_000_000_000_000, 0
        self.known = 0
        self.records, self.eras = {}, {}
        self.own = {name: {} for name in NAMES}
        self.tokens = {}
        self.fences = set()
        self.replica, self.cursor = {}, (0, 0)
        self.time = (0, 0)

    def at(self):
        self.clock_us += 1
        return Moment(self.clock_us, f"run {self.run}", self.known)

    def entry(self, name, session_id, attributes):
        tenant, key, blueprint, minted = attributes
        incarnation = self.records[name].incarnation
        token = self.tokens.setdefault((incarnation, session_id), secrets.token_hex(8))
        return NewEntry(session_id, incarnation, token, tenant, key, 1, blueprint, None, 1, minted)

    # -- nodes -----------------------------------------------------------------------------------

    @initialize()
    def all_join(self):
        for name in NAMES:
            self.join(name)

    @rule(name=nodes)
    def join(self, name):
        self.records[name] = record(name)
        self.own[name] = {}
        joined = self.index.join(self.at(), self.records[name], terms=TERMS)
        self.eras[name] = joined.era

    @rule(name=nodes, complete=st.booleans())
    def renew(self, name, complete):
        own = self.own[name]
        tokens = 0
        for one in own.values():
            tokens ^= int(one.entry.token, 16)
        renewal = Renewal(self.records[name].incarnation, len(own), tokens)
        try:
            renewed = self.index.renew(self.at(), renewal)
        except LeaseLost:
            self.join_again(name)
            return
        if renewed.era != self.eras[name]:
            self.restore(name, complete)

    def join_again(self, name):
        try:
            joined = self.index.join(
                self.at(), self.records[name], terms=TERMS, era=self.eras[name]
            )
        except LeaseLost:
            self.join(name)
        else:
            self.eras[name] = joined.era

    @rule(name=nodes, complete=st.booleans())
    def restore(self, name, complete):
        own = self.own[name]
        try:
            lost = self.index.restore(
                self.at(), self.records[name].incarnation, list(own.values()), complete=complete
            )
        except LeaseLost:
            return
        for session_id in [one for one, told in own.items() if told.fence in lost]:
            del own[session_id]
        self.eras[name] = self.index._contents.epoch.era

    @rule(name=nodes)
    def leave(self, name):
        self.index.leave(self.at(), self.records[name].incarnation)

    @rule(name=nodes, proven=st.booleans())
    def bury(self, name, proven):
        self.index.bury(self.at(), self.records[name].incarnation, proven=proven)

    # -- sessions --------------------------------------------------------------------------------

    attributes = st.tuples(
        st.sampled_from(TENANTS),
        st.sampled_from(KEYS),
        st.sampled_from(BLUEPRINTS),
        st.booleans(),
    )

    @rule(name=nodes, session_id=ids, attributes=attributes)
    def reserve(self, name, session_id, attributes):
        entry = self.entry(name, session_id, attributes)
        held = self.is_held(entry)
        try:
            self.index.reserve(self.at(), entry, limits=LIMITS, ttl_s=12.0)
        except REFUSALS:
            return
        if not held:
            self.check_limits(entry)

    @rule(name=nodes, session_id=ids, attributes=attributes)
    def create(self, name, session_id, attributes):
        entry = self.entry(name, session_id, attributes)
        held = self.is_held(entry)
        try:
            fence = self.index.create(self.at(), entry, limits=LIMITS)
        except REFUSALS:
            return
        there = self.index._contents.entries[session_id]
        assert there.fence == fence
        self.own[name][session_id] = there
        if not held:
            assert fence not in self.fences
            assert fence > max(self.fences, default=0)
            self.check_limits(entry)
        self.fences.add(fence)

    @rule(name=nodes, session_id=ids)
    def release(self, name, session_id):
        incarnation = self.records[name].incarnation
        token = self.tokens.get((incarnation, session_id), "0" * 16)
        self.index.release(self.at(), incarnation, session_id, token=token)

    @rule(name=nodes, session_id=ids, blueprint=st.sampled_from(BLUEPRINTS))
    def update(self, name, session_id, blueprint):
        mine = self.own[name].get(session_id)
        if mine is None:
            return
        incarnation = self.records[name].incarnation
        version = self.index.update(
            self.at(), incarnation, session_id, fence=mine.fence, blueprint=blueprint
        )
        entry = replace(mine.entry, blueprint=blueprint)
        self.own[name][session_id] = IndexEntry(entry, mine.fence, version or mine.version)

    @rule(name=nodes, session_id=ids, keeps=st.booleans())
    def end(self, name, session_id, keeps):
        mine = self.own[name].pop(session_id, None)
        if mine is None:
            return
        incarnation = self.records[name].incarnation
        fresh = self.tokens[incarnation, session_id] = secrets.token_hex(8)
        end = EntryEnd(session_id, mine.fence, NORMAL, 1, fresh if keeps else None)
        self.index.end(self.at(), incarnation, [end])

    # -- the server ------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 5, 5, 5, 40, -40, 1e6, -1e6]))
    def jump(self, seconds):
        self.clock_us += micros(seconds)

    @rule()
    def time_passes_on(self):
        for _ in range(12):
            self.clock_us += micros(5)
            self.index.release(self.at(), "0" * 32, "nobody", token="0" * 16)

    @rule()
    def restart(self):
        self.run += 1

    @rule()
    def wipe(self):
        # Somebody always knows more than an engine that is empty and whose clock is behind.
        self.known = max(self.known, self.index.revision)
        self.index.wipe()

    @precondition(lambda self: self.known)
    @rule()
    def forget(self):
        self.index.nodes(self.at())
        self.known = 0

    # -- what is always so -----------------------------------------------------------------------

    def is_held(self, entry):
        """Tell whether this is its own id already, as an entry or a reservation."""
        contents = self.index._contents
        if contents is None:
            return False
        there = contents.entries.get(entry.session_id)
        reserved = contents.reservations.get(entry.session_id)
        holders = [one.entry for one in (there, reserved) if one is not None]
        return any(
            (one.incarnation, one.token) == (entry.incarnation, entry.token) for one in holders
        )

    def check_limits(self, entry):
        counted = self.counted()
        limits = {
            ("per_tenant", entry.tenant_id): LIMITS.per_tenant,
            ("per_api_key", entry.api_key): LIMITS.per_api_key,
            ("per_blueprint", entry.tenant_id, entry.blueprint): LIMITS.per_blueprint,
        }
        for place, limit in limits.items():
            assert place[-1] is None or counted[place] <= limit, place

    def counted(self):
        contents = self.index._contents
        counted = Counter()
        for one in (*contents.entries.values(), *contents.reservations.values()):
            entry = one.entry
            counted["per_tenant", entry.tenant_id] += 1
            if entry.api_key is not None:
                counted["per_api_key", entry.api_key] += 1
            if entry.blueprint is not None:
                counted["per_blueprint", entry.tenant_id, entry.blueprint] += 1
        return counted

    @invariant()
    def the_counters_are_those_of_entries_and_reservations(self):
        if contents := self.index._contents:
            assert contents._used == self.counted()

    @invariant()
    def the_lists_are_those_of_a_filter(self):
        contents = self.index._contents
        if contents is None:
            return
        entries = sorted(contents.entries.values(), key=lambda one: one.fence)
        selections = {
            Selection(): lambda entry: True,
            **{Selection(tenant_id=t): lambda e, t=t: e.tenant_id == t for t in TENANTS},
            **{Selection(api_key=k): lambda e, k=k: e.api_key == k for k in KEYS[1:]},
            **{
                Selection(incarnation=r.incarnation): lambda e, r=r: e.incarnation == r.incarnation
                for r in self.records.values()
            },
        }
        for selection, chosen in selections.items():
            expected = tuple(one for one in entries if chosen(one.entry))
            assert self.index.list(self.at(), selection).entries == expected
            assert self.index.count(self.at(), selection) == len(expected)

    @invariant()
    def an_id_has_an_entry_or_a_reservation(self):
        contents = self.index._contents
        if contents is None:
            return
        assert not contents.entries.keys() & contents.reservations.keys()
        due = [
            (one.deadline_us, session_id)
            for session_id, one in contents.reservations.items()
            if one.deadline_us is not None
        ]
        assert contents._due == sorted(due)

    @invariant()
    def every_entry_has_a_lease_which_knows_its_token(self):
        contents = self.index._contents
        if contents is None:
            return
        tokens = Counter()
        for one in contents.entries.values():
            assert one.entry.incarnation in contents.leases
            tokens[one.entry.incarnation] ^= int(one.entry.token, 16)
        for incarnation, lease in contents.leases.items():
            assert lease.tokens == tokens[incarnation]
        for one in contents.reservations.values():
            assert one.entry.incarnation in contents.leases

    @invariant()
    def whoever_follows_the_log_has_the_entries(self):
        contents = self.index._contents
        if contents is None:
            return
        after, era = self.cursor
        page = self.index.follow(self.at(), after, era=era)
        if page.gap:
            entries = self.index.list(self.at(), Selection()).entries
            self.replica = {one.entry.session_id: one.metadata for one in entries}
        for told in page.changes:
            session = told.change.session
            if isinstance(told.change, Ended):
                assert self.replica.pop(session.session_id).fence == session.fence
            else:
                self.replica[session.session_id] = session
        self.cursor = (page.head, page.era)
        assert self.replica == {
            session_id: one.metadata for session_id, one in contents.entries.items()
        }

    @invariant()
    def engine_time_never_goes_back(self):
        contents = self.index._contents
        if contents is None:
            return
        era, time_us = self.time
        if contents.epoch.era == era:
            assert contents.epoch.time_us >= time_us
        self.time = (contents.epoch.era, contents.epoch.time_us)


def test_the_index_keeps_its_invariants():
    run_state_machine_as_test(
        IndexOfNodes, settings=settings(max_examples=40, stateful_step_count=60, deadline=None)
    )
