"""The embedded store, the reference product, obeys every law of a store: on asyncio's own event
loop, in its debug mode (where a call from the wrong thread raises), and on uvloop.
"""

import asyncio
import os

import pytest

from frontdesk.testing import LAWS, check_law, check_law_async


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_embedded_store_obeys_the_law(law, embedded_store_factory):
    check_law(law, embedded_store_factory)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_embedded_store_obeys_the_law_in_debug_mode(law, embedded_store_factory):
    asyncio.run(check_law_async(law, embedded_store_factory), debug=True)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_embedded_store_obeys_the_law_on_uvloop(law, embedded_store_factory, uvloop):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check_law_async(law, embedded_store_factory))


@pytest.fixture
def uvloop():
    """The other event loop; missing on a laptop is no failure."""
    if os.environ.get("CI"):
        import uvloop

        return uvloop
    return pytest.importorskip("uvloop")
