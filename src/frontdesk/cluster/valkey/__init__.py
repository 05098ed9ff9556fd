"""The engine on Valkey 8 or newer, or Redis 7 or newer: the index for several machines.

    keys        what stands where in the server, and what an account needs to be allowed
    scripts/    a Lua script for each verb, and the parts that they have in common
    lua         puts a script together from its file and those parts
    calls       each verb: what its script is given, and what its answer means; knows no connection
    engine_address  where the server is, from a URL
    connecting  connections of redis-py: opened, resolved by Sentinel, examined
    driver      the connection that carries the calls of one event loop
    renewals    the blocking connection of the thread that renews a lease
    engine      `ValkeyEngine`: the verbs

The scripts do what the model in `cluster/index/` does, and are held to it. redis-py comes with the
extra `cluster`, and is imported where a connection is made.
"""

from __future__ import annotations

__all__: list[str] = []
