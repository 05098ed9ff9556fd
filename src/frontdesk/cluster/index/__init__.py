"""The index: what every verb of an engine means, told once, as a synchronous model without a clock.

    moment      what a call brings along: the server's clock, its run, what the caller knows
    epoch       meta: engine time, revision, eras, recovery
    leases      one lease a node: alive, suspect, dead
    fenced      ids by fence, oldest first: what lists cost what they return with
    contents    entries, reservations, their indexes, counters, and the log
    ownership   who owns an id, and what may become of it
    windows     rates and claims: what nodes share besides sessions
    model       `ClusterIndex`: all the verbs

The supervisor serves it to its workers as it stands, and the scripts of Valkey are held to it: the
same calls get the same answers. So these hold for every verb, beyond what each says itself:

1. **Arguments** are checked first (`cluster/arguments.py`): `InvalidArgument`, and nothing else.
2. **A new era** begins next, where one is due: there is no `meta`, its run id is another one, or
   the caller knows a revision above it. It keeps what there is but the log, which it empties.
   `read` of an id that has an entry does not look; every other verb does.
3. **Engine time** moves on next, by what the server's clock did since it last moved: never back,
   never by more than half a lease. Verbs that only read (`read`, `list`, `count`, `nodes`,
   `follow`, `totals`) reckon with the time that it would be, and leave it where it is, unless they
   begin an era. A point in time has come when engine time is equal to it or above.
4. **Errors** come next, in the order that each verb gives. What raises one has changed nothing
   beyond 2, 3 and what is said to be dead: ended entries of dead nodes stay ended.
5. **Changes** are numbered in the order in which they are told here.
6. Everything is in whole microseconds. `moment.micros` makes them of seconds.

Where it differs for the scripts is only in what nobody can see: how the keys are called, and when
what has run out is removed.
"""

from __future__ import annotations

from frontdesk.cluster.index.model import ClusterIndex
from frontdesk.cluster.index.moment import Moment, micros

__all__ = ["ClusterIndex", "Moment", "micros"]
