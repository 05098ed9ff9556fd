"""The embedded store, the reference product, obeys every law of a store."""

import pytest

from frontdesk.testing import LAWS, check_law


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_embedded_store_obeys_the_law(law, embedded_store_factory):
    check_law(law, embedded_store_factory)
