"""Planting faults in a running gateway: each in place of a function, one of them at work at a time.

`watched.py` runs a gateway with every fault built in; the one whose name stands in the file
`planted` in its working directory is at work. So one process serves all of them, one after another.
"""

from dataclasses import dataclass
from functools import wraps
from pathlib import Path

SWITCH = "planted"


@dataclass(frozen=True, slots=True)
class Fault:
    """A planted fault: the campaign that has to find it, and the rule that it breaks."""

    name: str
    campaign: str
    rule: object


FAULTS: list[Fault] = []
PLACES = []


def fault(name, campaign, rule):
    """Name a fault; `planted` says where it is."""
    FAULTS.append(Fault(name, campaign, rule))
    return name


def planted(name, owner, attribute):
    """Plant a fault in place of a function: it gets that function, and what it was called with."""

    def plant(replacement):
        PLACES.append((name, owner, attribute, replacement))
        return replacement

    return plant


def plant_all():
    """Put every fault in its place, where it does nothing until it is at work."""
    for name, owner, attribute, replacement in PLACES:
        original = getattr(owner, attribute)
        if isinstance(original, property):
            setattr(owner, attribute, property(switched(name, original.fget, replacement)))
        elif getattr(original, "__self__", None) is owner:  # a class method
            setattr(owner, attribute, staticmethod(switched(name, original, replacement)))
        else:
            setattr(owner, attribute, switched(name, original, replacement))


def switched(name, original, replacement):
    @wraps(original)
    def either(*args, **options):
        if Path(SWITCH).read_text(encoding="utf-8") == name:
            return replacement(original, *args, **options)
        return original(*args, **options)

    return either
