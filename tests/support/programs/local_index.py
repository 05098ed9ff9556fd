"""The supervisor's half of the local engine alone, for the tests to kill and to stop.

`python -m support.programs.local_index SOCKET` serves the index until it is ended.
"""

import asyncio
import sys
from pathlib import Path

from frontdesk.cluster.local.server import LocalServer


async def main():
    """Serve, and say so."""
    async with LocalServer(Path(sys.argv[1])):
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
