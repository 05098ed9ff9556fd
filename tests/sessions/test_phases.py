"""The phases of sessions and turns: every step of the diagrams, and no other."""

import itertools

import pytest

from frontdesk.sessions.phases import SessionPhase, TurnPhase

SESSION_STEPS = {
    ("opening", "live"),
    ("opening", "dormant"),
    ("opening", "ended"),
    ("live", "restarting"),
    ("live", "dormant"),
    ("live", "ending"),
    ("live", "ended"),
    ("restarting", "live"),
    ("restarting", "dormant"),
    ("restarting", "ending"),
    ("restarting", "ended"),
    ("dormant", "restarting"),
    ("dormant", "ending"),
    ("dormant", "ended"),
    ("ending", "dormant"),
    ("ending", "ended"),
}
TURN_STEPS = {("running", "stopping"), ("running", "finished"), ("stopping", "finished")}


@pytest.mark.parametrize(
    ("phases", "steps"), [(SessionPhase, SESSION_STEPS), (TurnPhase, TURN_STEPS)]
)
def test_every_step_of_the_diagram_can_be_taken_and_no_other(phases, steps):
    for now, then in itertools.product(phases, repeat=2):
        if (now.value, then.value) in steps:
            assert now.to(then) is then
        else:
            with pytest.raises(RuntimeError, match=f"from {now} to {then}"):
                now.to(then)
