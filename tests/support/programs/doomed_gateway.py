"""A gateway for the tests to kill: a process with a keeper, agents and their descendants.

`python -m doomed_gateway JOURNALS` prints one line, with the pids of everybody, and waits.
"""

import asyncio
import json
import sys
from pathlib import Path

from frontdesk.keeper.client import Keeper
from support.programs.keeper_children import fork, shell

LAUNCHER = shell(
    "trap '' TERM; sleep 1000 & echo $!; setsid sleep 1000 & echo $!; "
    "(setsid sleep 1000 & echo $!); echo end; wait; while :; do sleep 1000; done"
)
"""A launcher that is deaf to SIGTERM, with a child, one in its own session, and a daemon."""


async def main():
    """Start a family of each kind, say who they are, and live on."""
    async with Keeper(journals=Path(sys.argv[1])) as keeper:
        launcher = await keeper.spawn(LAUNCHER)
        family = await keeper.spawn(fork("leave_a_family"))
        pids = [launcher.pid, *await _launched(launcher)]
        pids += [int(word) for word in (await family.reader.read(4096)).split()]
        said = {"keeper": keeper.pid, "agents": [launcher.pid, family.pid], "everybody": pids}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def _launched(launcher):
    lines = iter((await launcher.reader.readuntil(b"end\n")).decode().split())
    return [int(line) for line in lines if line != "end"]


if __name__ == "__main__":
    asyncio.run(main())
