"""The keeper: one small process that spawns every agent process and sees to it that none is left.

In the gateway: `client.py` (`Keeper`) over `connection.py`, `process.py` (`ManagedProcess`) with
`streams.py` and `stderr.py`, and what a request may hold (`environment.py`, `limits.py`). In the
keeper itself, single-threaded and with the standard library and msgspec only: `__main__.py` (its
loop), `server.py` (requests), `children.py` (processes and their orphans), `spawn.py` (fork and
exec; the whole way of a spawn is written there), `confinement.py` with `landlock.py`,
`hidden_directory.py` and `capabilities.py`, `forkserver.py` with `forkservers.py` and, for those in
another Python, `interpreters.py`, `journal.py`. On both sides: `messages.py`, `seqpacket.py`,
`procfs.py`, `prctl.py`. It knows nothing of sessions, turns or blueprints: it keeps processes.
"""
