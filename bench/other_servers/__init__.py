"""Other people's servers, each with an agent that says one word without a model.

Each module is a program that takes its port, `python -m bench.other_servers.NAME PORT`, and runs
in a virtual environment with `requirements/others.txt`, where Frontdesk is not. As small as they
can be, with everything in memory; under uvicorn with the loop and parser that the gateway has.
"""

from __future__ import annotations

import sys
from typing import Any

WORD = "word "


def serve(app: Any) -> None:
    """Serve an application at the port of the command line until a signal."""
    import uvicorn

    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
