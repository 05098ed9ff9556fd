"""The embedded store: entries, indexes, monitors and the change feed of one process.

`store.py` has the operations; open it first. Beside it: `index.py` (what is where, and the
limits), `registration.py` (an agent and its sessions), `ends.py` (the memory of recent ends),
`watch.py` (subscriptions), `building.py` (`get_or_create`), `lock.py` (writers), `loops.py`
(closed event loops), `forks.py`, `hosting.py`, `checks.py`.
"""

from frontdesk.store.index import Limits
from frontdesk.store.store import SessionStore
from frontdesk.store.watch import Watch

__all__ = ["Limits", "SessionStore", "Watch"]
