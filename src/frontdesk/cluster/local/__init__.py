"""The local engine: the index in the supervisor, for the workers of one machine.

    wire        frames, calls and answers on the Unix socket between them
    server      the supervisor's side: the socket, and which worker died
    served      the index, and the connections that it is served on
    revision_file  what an era has to begin above
    calls       a worker's connection: calls out, answers in
    engine      a worker's side: the verbs of `Engine` as calls
    lease       the blocking connection that a lease is renewed over

Nothing is to be installed. The supervisor hears from the kernel that a worker has died, so its
sessions end at once; if the supervisor dies, the workers are told by the end of their connections.
"""

from __future__ import annotations

__all__: list[str] = []
