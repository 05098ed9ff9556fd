"""In a turn of the loop each owner starts a few requests: many connections make no long turn."""

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.gateway.fair_starts import LONG_TURN_S, MAX_STARTS, FairStarts


class Loop:
    """A loop whose turns are the test's: what is called soon is called in the next one."""

    def __init__(self):
        self.now, self.soon, self.begun = 0.0, deque(), []
        self.starts = FairStarts(self.soon.append, clock=lambda: self.now)

    def start(self, owner, name):
        self.starts.start(owner, lambda: self.begun.append((owner, name)))

    def turn(self, *, takes_s=0.0):
        """Run what was due when the turn began; return what started in it."""
        before = len(self.begun)
        self.now += takes_s
        for _ in range(len(self.soon)):
            self.soon.popleft()()
        return self.begun[before:]


def test_another_owner_starts_at_once_however_many_wait():
    loop = Loop()
    for number in range(1000):
        loop.start("many", number)
    loop.start("one", 0)
    assert loop.begun == [("many", number) for number in range(MAX_STARTS)] + [("one", 0)]
    assert len(loop.starts) == 1000 - MAX_STARTS


@pytest.mark.parametrize("takes_s", [LONG_TURN_S, 0.1, 3.0])
def test_while_turns_take_long_an_owner_starts_one_in_each(takes_s):
    loop = Loop()
    for number in range(100):
        loop.start("many", number)
    for _ in range(5):
        assert len(loop.turn(takes_s=takes_s)) == 1
    assert len(loop.turn()) == MAX_STARTS


def test_nothing_is_called_while_nothing_starts():
    loop = Loop()
    loop.start("one", 0)
    loop.turn()
    assert not loop.soon
    assert not len(loop.starts)
    loop.start("one", 1)
    assert loop.begun == [("one", 0), ("one", 1)]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=30), max_size=12))
def test_everything_starts_once_in_its_owners_order_and_no_owner_too_often_in_a_turn(arrivals):
    loop, asked = Loop(), []
    for turn, owners in enumerate(arrivals):
        before = len(loop.begun)
        for number, owner in enumerate(owners):
            loop.start(owner, (turn, number))
            asked.append((owner, (turn, number)))
        at_once = Counter(owner for owner, _ in loop.begun[before:])
        later = Counter(owner for owner, _ in loop.turn())
        assert max([*at_once.values(), *later.values()], default=0) <= MAX_STARTS
    while loop.soon:
        loop.turn()
    for owner in "abc":
        assert [e for e in loop.begun if e[0] == owner] == [e for e in asked if e[0] == owner]
