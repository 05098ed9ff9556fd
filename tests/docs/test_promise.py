"""The page of the guarantees names laws that there are, for the guarantee that each belongs to."""

from docs.pages import page
from frontdesk.testing import LAWS

ROWS = page("docs/explanation/promise.md").rows(under="The thirteen guarantees")
GUARANTEE_OF = {law.law_id: law.guarantee for law in LAWS}


def test_the_thirteen_are_thirteen():
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, 14)]


def test_every_law_that_is_named_belongs_to_its_guarantee():
    for number, _, laws in ROWS:
        for law_id in laws.split("`")[1::2]:
            assert GUARANTEE_OF[law_id] == int(number), law_id


def test_every_guarantee_that_has_laws_names_one():
    for number, _, laws in ROWS:
        assert bool(laws) == (int(number) in GUARANTEE_OF.values())
