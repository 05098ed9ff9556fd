"""What is planted has a place to be planted in: found at once, not in the slow runs alone."""

from blackbox import planted, unfair
from blackbox.planting import FAULTS, PLACES


def test_every_planted_fault_is_in_the_place_of_something():
    missing = [
        f"{name}: {attribute}"
        for name, owner, attribute, _ in PLACES
        if not hasattr(owner, attribute)
    ]
    assert missing == []


def test_every_fault_is_planted_somewhere_and_nothing_else_is():
    named = {each.name for each in FAULTS} | set(unfair.BOUNDS)
    assert {name for name, *_ in PLACES} == named
    assert planted.TEXT in named
