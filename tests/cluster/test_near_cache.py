"""The near cache: whatever the order of replies and log, what it has is right or soon removed."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from frontdesk.cluster.messages import LoggedRow
from frontdesk.cluster.near_cache import NearCache
from frontdesk.cluster.records import IndexEntry, LoggedChange, NewEntry
from frontdesk.records import Created, Ended, ExitReason, Updated

IDS = ("a", "b", "c")


def entry(session_id="a", fence=1, *, version=None, model=None):
    new = NewEntry(session_id, "node", f"{fence:016x}", "t", None, 0, None, model, 1, minted=False)
    return IndexEntry(new, fence, fence if version is None else version)


def created(one):
    return LoggedChange(Created(one.version, one.metadata), "node", one.entry.token)


def updated(one):
    return LoggedChange(Updated(one.version, one.metadata), "node", one.entry.token)


def ended(one, revision):
    reason = ExitReason.of("normal")
    return LoggedChange(Ended(revision, one.metadata, reason, 0), "node", one.entry.token)


def stored(cache, one):
    cache.end_read(cache.begin_read(one.entry.session_id), one)
    return one


def test_a_reply_is_remembered():
    cache = NearCache(capacity=10)
    one = stored(cache, entry())
    assert cache.get("a") is one
    assert cache.get("b") is None


def test_a_reply_older_than_a_change_is_never_stored_over_it():
    cache = NearCache(capacity=10)
    read = cache.begin_read("a")
    cache.apply(ended(entry(), 5))
    cache.end_read(read, entry())
    assert cache.get("a") is None


def test_a_change_older_than_the_reply_is_ignored():
    cache = NearCache(capacity=10)
    newest = stored(cache, entry(version=9, model="new"))
    cache.apply(created(entry()))
    cache.apply(updated(entry(version=5, model="old")))
    cache.apply(ended(entry(fence=0), 8))
    assert cache.get("a") is newest


def test_an_update_is_taken_over_and_an_end_removes():
    cache = NearCache(capacity=10)
    stored(cache, entry())
    cache.apply(updated(entry(version=5, model="new")))
    found = cache.get("a")
    assert (found.entry.model, found.version, found.fence) == ("new", 5, 1)
    cache.apply(ended(entry(), 6))
    assert cache.get("a") is None


def test_rows_of_what_is_remembered_or_being_read_are_taken_in():
    cache = NearCache(capacity=2)
    for name in "ab":
        stored(cache, entry(name))
    read = cache.begin_read("c")
    cache.apply_rows([LoggedRow.of_change(ended(entry(name), 5)) for name in "abcd"])
    cache.end_read(read, entry("c"))
    assert [cache.get(name) for name in "abcd"] == [None] * 4
    assert len(cache) == 0


def test_a_gap_empties_it_and_outdates_what_was_asked_before():
    cache = NearCache(capacity=10)
    stored(cache, entry("b"))
    read = cache.begin_read("a")
    cache.clear()
    cache.end_read(read, entry())
    assert len(cache) == 0


def test_an_owners_word_outdates_what_was_asked_before():
    cache = NearCache(capacity=10)
    read = cache.begin_read("a")
    cache.forget("a")
    cache.end_read(read, entry())
    assert cache.get("a") is None


def test_of_two_replies_the_newer_one_stays_whichever_comes_first():
    cache = NearCache(capacity=10)
    first, second = cache.begin_read("a"), cache.begin_read("a")
    cache.end_read(second, entry(version=5, model="new"))
    cache.end_read(first, entry())
    assert cache.get("a").version == 5


def test_what_is_not_there_is_not_remembered():
    cache = NearCache(capacity=10)
    cache.end_read(cache.begin_read("a"), None)
    assert len(cache) == 0


@given(st.lists(st.integers(0, 40)))
def test_it_is_bounded_and_keeps_what_is_asked_for(numbers):
    cache = NearCache(capacity=8)
    for place, number in enumerate(numbers, start=1):
        stored(cache, entry(f"s{number}", place))
        assert cache.get(f"s{number}").fence == place
        assert len(cache) <= 16
    # At least the last eight different ones are there.
    last = list(dict.fromkeys(reversed(numbers)))[:8]
    assert all(cache.get(f"s{number}") is not None for number in last)


class NearCacheAgainstModel(RuleBasedStateMachine):
    """An index that changes, a log that lags behind it, reads whose replies lag too.

    The model is the index at the revision that the log was read to. What the cache has must never
    be older than that; and once the log was read to its end, it must be what the index has.
    """

    def __init__(self):
        super().__init__()
        self.cache = NearCache(capacity=2)
        self.revision = 0
        self.index = {}
        self.history = {name: [(0, None)] for name in IDS}
        self.log = []
        self.read_to = 0
        self.reads = []

    def change(self, name, one, logged):
        self.history[name].append((self.revision, one))
        self.log.append(logged)
        if one is None:
            self.index.pop(name, None)
        else:
            self.index[name] = one

    @rule(name=st.sampled_from(IDS))
    def create_or_end(self, name):
        self.revision += 1
        present = self.index.get(name)
        if present is None:
            one = entry(name, self.revision)
            self.change(name, one, created(one))
        else:
            self.change(name, None, ended(present, self.revision))

    @rule(name=st.sampled_from(IDS), model=st.sampled_from("xyz"))
    def update(self, name, model):
        present = self.index.get(name)
        if present is not None:
            self.revision += 1
            new = replace(present.entry, model=model)
            one = IndexEntry(new, present.fence, self.revision)
            self.change(name, one, updated(one))

    @rule(name=st.sampled_from(IDS))
    def ask(self, name):
        """The engine answers now; the answer comes later."""
        self.reads.append((self.cache.begin_read(name), self.index.get(name)))

    @precondition(lambda self: self.reads)
    @rule(choice=st.integers(0, 100))
    def reply(self, choice):
        self.cache.end_read(*self.reads.pop(choice % len(self.reads)))

    @precondition(lambda self: self.log)
    @rule(number=st.integers(1, 3))
    def read_log(self, number):
        for logged in self.log[:number]:
            self.cache.apply_rows([LoggedRow.of_change(logged)])
            self.read_to = logged.change.revision
        del self.log[:number]

    @rule()
    def gap(self):
        self.log.clear()
        self.read_to = self.revision
        self.cache.clear()

    @rule(name=st.sampled_from(IDS))
    def forget(self, name):
        self.cache.forget(name)

    @invariant()
    def nothing_is_older_than_what_the_log_has_told(self):
        for name in IDS:
            known = self.cache.get(name)
            if known is None:
                continue
            was = [one for at, one in self.history[name] if at >= self.read_to]
            at_read = [one for at, one in self.history[name] if at <= self.read_to][-1]
            assert known in [at_read, *was], (name, known)

    @invariant()
    def once_the_log_is_read_it_is_what_the_index_has(self):
        if not self.log:
            for name in IDS:
                known = self.cache.get(name)
                assert known is None or known == self.index.get(name)


TestNearCacheAgainstModel = NearCacheAgainstModel.TestCase
TestNearCacheAgainstModel.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
