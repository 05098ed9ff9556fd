"""The public test kit: laws of a store, fake agents, a clock that a test moves.

For who writes a store (hold it to `LAWS`), and for who tests code that uses one (`FakeAgent`,
`ManualClock`). It needs no test runner. With pytest:

    @pytest.mark.parametrize("law", LAWS, ids=str)
    def test_my_store_obeys(law):
        check_law(law, my_store)

where `my_store(options)` is an async context manager that gives a `StoreUnderTest`.
"""

from frontdesk.testing.agents import FakeAgent
from frontdesk.testing.clock import ManualClock
from frontdesk.testing.law import (
    Law,
    StoreFactory,
    StoreOptions,
    check_law,
    check_law_async,
    check_laws,
    embedded_store,
)
from frontdesk.testing.laws import LAWS
from frontdesk.testing.subject import EmbeddedSubject, StoreUnderTest, WatchUnderTest

__all__ = [
    "LAWS",
    "EmbeddedSubject",
    "FakeAgent",
    "Law",
    "ManualClock",
    "StoreFactory",
    "StoreOptions",
    "StoreUnderTest",
    "WatchUnderTest",
    "check_law",
    "check_laws",
    "embedded_store",
    "check_law_async",
]
