"""The laws can fail: every broken store is caught, by the law that is meant to catch it.

And they can hold: a plain store that shares no bookkeeping with the embedded one obeys them all.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from frontdesk.testing import LAWS, check_law, check_laws
from laws.broken_stores import CAUGHT_BY, IMPATIENT_S
from laws.plain_store import PlainStore, factory_of

AT_ONCE = 12
"""So many broken stores are looked at side by side."""

LAW_OF = {law.law_id: law for law in LAWS}


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_a_plain_store_obeys_the_law(law):
    check_law(law, factory_of(PlainStore))


@pytest.mark.parametrize(
    ("broken", "law_id"), CAUGHT_BY.items(), ids=[kind.__name__ for kind in CAUGHT_BY]
)
def test_a_broken_store_is_caught_by_the_law_that_is_meant_to(broken, law_id):
    law = LAW_OF[law_id]
    with pytest.raises(Exception) as caught:
        check_law(law, factory_of(broken, patience_s=IMPATIENT_S))
    assert any(law.sentence in note for note in caught.value.__notes__)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_law_is_idle_and_no_store_is_broken_all_over(monkeypatch):
    """Each law is broken by one of the stores at least; each store breaks a quarter at most."""
    monkeypatch.setattr("frontdesk.testing.law.BOUND_S", 20.0)  # some break a law by hanging
    # What is broken makes others wait: side by side they wait together.
    with ThreadPoolExecutor(AT_ONCE) as checking:
        broken = dict(zip(CAUGHT_BY, checking.map(broken_laws, CAUGHT_BY), strict=True))
    assert set().union(*broken.values()) == set(LAW_OF)
    for kind, laws in broken.items():
        assert CAUGHT_BY[kind] in laws
        assert len(laws) <= len(LAWS) / 4, kind


def broken_laws(kind):
    return {law.law_id for law in LAWS if not obeys(kind, law)}


def obeys(kind, law):
    try:
        check_law(law, factory_of(kind, patience_s=IMPATIENT_S))
    except Exception:
        return False
    return True


def test_all_broken_laws_are_reported_together():
    with pytest.raises(ExceptionGroup, match="laws are broken") as caught:
        check_laws(LAWS[:4], factory_of(next(iter(CAUGHT_BY)), patience_s=IMPATIENT_S))
    assert len(caught.value.exceptions) == 1


def test_the_ids_of_the_laws_are_unique_and_their_sentences_are_sentences():
    assert len(LAW_OF) == len(LAWS)
    for law in LAWS:
        assert law.sentence.endswith(".")
        assert 1 <= law.guarantee <= 13


def test_every_guarantee_that_a_store_can_show_by_its_verbs_has_a_law():
    assert {law.guarantee for law in LAWS} == set(range(1, 12))
