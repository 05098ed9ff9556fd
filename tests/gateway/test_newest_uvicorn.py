"""The newest uvicorn, which our protocols inherit from: tried before the bound lets it in.

A failure here says nothing of what people install: the extra's upper bound keeps a newer uvicorn
out. It says what has to be done before the bound may be raised.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.installed import newest_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
OF_THE_WIRE = ("test_http_framing.py", "test_connections.py", "test_websocket.py", "test_tls.py")


def test_the_wire_holds_on_the_newest_uvicorn_that_there_is():
    place = newest_of("uvicorn")
    environment = {**os.environ, "PYTHONPATH": str(place)}
    version = subprocess.run(
        [sys.executable, "-c", "import uvicorn; print(uvicorn.__file__, uvicorn.__version__)"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert version.startswith(str(place))
    files = [f"tests/gateway/{name}" for name in OF_THE_WIRE]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", "-p", "no:cacheprovider",
         "-m", "not slow and not chaos and not browser", *files],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"uvicorn {version}: {ran.stdout[-3000:]}"
