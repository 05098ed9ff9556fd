"""The laws of a store, as data: what holds for every store of Frontdesk, whatever it is made of.

Each law has an id, a sentence and a check; a file holds the laws of one subject. A store joins by
a factory for `frontdesk.testing.check_law`. The laws know no store: `subject.py` gives the verbs.
"""

from frontdesk.testing.laws.ends import ENDS
from frontdesk.testing.laws.feed import FEED
from frontdesk.testing.laws.indexes import INDEXES
from frontdesk.testing.laws.operations import OPERATIONS

LAWS = (*OPERATIONS, *ENDS, *INDEXES, *FEED)
"""Every law. The ids are unique."""

__all__ = ["ENDS", "FEED", "INDEXES", "LAWS", "OPERATIONS"]
