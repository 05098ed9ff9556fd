"""The laws of engines can fail: each broken index breaks the one that is meant to catch it."""

import pytest

from cluster.broken_indexes import CAUGHT_BY
from cluster.engine_laws import LAWS, check_law
from cluster.engine_subjects import indexes

LAW_OF = {law.law_id: law for law in LAWS}


@pytest.mark.parametrize(
    ("broken", "law_id"), CAUGHT_BY.items(), ids=[kind.__name__ for kind in CAUGHT_BY]
)
def test_a_broken_index_is_caught_by_the_law_that_is_meant_to(broken, law_id):
    law = LAW_OF[law_id]
    with pytest.raises(Exception) as caught:
        check_law(law, indexes(broken))
    assert any(law.sentence in note for note in caught.value.__notes__)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_broken_index_is_broken_all_over():
    """Each obeys most laws: it is broken by its one fault, not by being no index at all."""
    for kind in CAUGHT_BY:
        broken = [law.law_id for law in LAWS if not obeys(kind, law)]
        assert CAUGHT_BY[kind] in broken
        assert len(broken) <= len(LAWS) / 3, (kind, broken)


def obeys(kind, law):
    try:
        check_law(law, indexes(kind))
    except Exception:
        return False
    return True
