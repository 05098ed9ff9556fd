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


ABOUT_WAITING = {
    "a-reader-waits-for-the-next-change",
    "a-wait-in-vain-ends",
    "a-reader-that-gave-up-asks-again",
    "a-waiting-reader-delays-nobody",
}
"""What an index cannot break: it is who serves it that waits."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_law_is_idle_and_no_index_is_broken_all_over():
    """Each law is broken by one of the indexes; each index breaks a quarter of them at most."""
    broken = {kind: broken_laws(kind) for kind in CAUGHT_BY}
    assert set(LAW_OF) - set().union(*broken.values()) <= ABOUT_WAITING
    for kind, laws in broken.items():
        assert CAUGHT_BY[kind] in laws
        assert len(laws) <= len(LAWS) / 4, (kind, laws)


def broken_laws(kind):
    return {law.law_id for law in LAWS if not obeys(kind, law)}


def obeys(kind, law):
    try:
        check_law(law, indexes(kind))
    except Exception:
        return False
    return True
