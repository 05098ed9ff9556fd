"""The index, and the local engine over its socket, obey every law of an engine."""

import os

import pytest

from cluster.engine_laws import LAWS, check_law
from cluster.engine_subjects import indexes, local_cluster


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_index_obeys_the_law(law):
    check_law(law, indexes())


@pytest.mark.parametrize("law", [each for each in LAWS if not each.loses], ids=str)
def test_the_local_engine_obeys_the_law(law):
    check_law(law, local_cluster)


@pytest.mark.parametrize("law", [each for each in LAWS if not each.loses], ids=str)
def test_the_local_engine_obeys_the_law_on_uvloop(law, uvloop):
    check_law(law, local_cluster, loop_factory=uvloop.new_event_loop)


@pytest.fixture
def uvloop():
    """The other event loop; missing on a laptop is no failure."""
    if os.environ.get("CI"):
        import uvloop

        return uvloop
    return pytest.importorskip("uvloop")


def test_the_ids_of_the_laws_are_unique_and_their_sentences_are_sentences():
    assert len({law.law_id for law in LAWS}) == len(LAWS) > 50
    for law in LAWS:
        assert law.sentence.endswith(".")
