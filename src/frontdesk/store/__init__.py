"""The embedded store: entries, indexes, monitors and the change feed of one process.

`store.py` has the writes and `lookups.py` the reads; open them first. Under them: `core.py` (state,
and the two protocols that change it: create, and an agent's end), `index.py` (what is where, and
the limits), `changes.py` (revisions, the feed, recent ends), `liveness.py` (who answers for an
agent, and who listens for its end), `event_loops.py` (closed event loops), `write_lock.py`
(writers). Beside them: `watch.py` (subscriptions), `get_or_create.py` (over
`pending_create.py`), `fork.py`, `validation.py`.
"""

from frontdesk.store.index import Limits
from frontdesk.store.store import SessionStore
from frontdesk.store.watch import Watch

__all__ = ["Limits", "SessionStore", "Watch"]
