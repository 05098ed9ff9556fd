"""The embedded store: entries, indexes, monitors and the change feed of one process.

`store.py` has the operations; open it first. Beside it: `index.py` (what is where, and the limits),
`liveness.py` (an agent and its sessions), `recent_ends.py` (the memory of recent ends), `watch.py`
(subscriptions), `get_or_create.py` (`get_or_create`), `write_lock.py` (writers), `event_loops.py`
(closed event loops), `fork.py`, `hosting.py`, `validation.py`.
"""

from frontdesk.store.index import Limits
from frontdesk.store.store import SessionStore
from frontdesk.store.watch import Watch

__all__ = ["Limits", "SessionStore", "Watch"]
