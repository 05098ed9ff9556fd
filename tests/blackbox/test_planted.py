"""The black box finds what is planted: each fault, within a bounded run, by the rule it breaks."""

import pytest

from blackbox import campaigns, planted  # noqa: F401 - it plants
from blackbox.findings import Found
from blackbox.planting import FAULTS, SWITCH
from blackbox.served import boxed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEED = 20261122
EXAMPLES = 1000
"""More than any fault needs, or a campaign that finds nothing has asked for too little."""


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    directory = tmp_path_factory.mktemp("planted")
    (directory / SWITCH).write_text("", encoding="utf-8")
    with boxed(directory, module="blackbox.watched", silence_s=3.0) as running:
        yield running


@pytest.fixture
def at_work(box):
    """Put a planted fault to work, and out of it again."""
    switch = box.directory / SWITCH
    yield lambda fault: switch.write_text(fault.name, encoding="utf-8")
    switch.write_text("", encoding="utf-8")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name.replace(" ", "-"))
def test_a_planted_fault_is_found_by_the_rule_that_it_breaks(box, at_work, fault):
    at_work(fault)
    with pytest.raises(Found) as caught:
        getattr(campaigns, fault.campaign)(box, seed=SEED, examples=EXAMPLES)
    assert caught.value.rule is fault.rule
