"""The ring: many items put in at once are as if each had been put in after the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.feed import FellBehind, Ring


@given(
    batches=st.lists(st.lists(st.integers(), max_size=12), max_size=8), capacity=st.integers(1, 9)
)
def test_many_items_at_once_are_as_one_after_the_other(batches, capacity):
    at_once, in_turn = Ring(capacity=capacity, head=3), Ring(capacity=capacity, head=3)
    for batch in batches:
        at_once.extend(batch)
        for item in batch:
            in_turn.append(item)
        assert (at_once.head, at_once.oldest, len(at_once)) == (
            in_turn.head,
            in_turn.oldest,
            len(in_turn),
        )
        assert at_once.read(in_turn.oldest - 1) == in_turn.read(in_turn.oldest - 1)
    if at_once.oldest > 4:
        with pytest.raises(FellBehind):
            at_once.read(at_once.oldest - 2)
