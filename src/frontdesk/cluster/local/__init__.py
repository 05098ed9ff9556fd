"""The local engine: the index in the supervisor, for the workers of one machine.

    wire        frames, calls and answers on the Unix socket between them (to come)
    server      the supervisor's side: serves a `ClusterIndex`, hears which worker died
    engine      a worker's side: the verbs of `Engine` as calls to the server

Nothing is to be installed. The supervisor hears from the kernel that a worker has died, so its
sessions end at once; if the supervisor dies, the workers are told by the end of their connections.
"""

from __future__ import annotations

__all__: list[str] = []
